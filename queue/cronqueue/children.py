"""The supervisor's side of an executor: its process, its pipe, its board, and what it has told."""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Collection
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

from cronqueue.board import Board
from cronqueue.executorspec import ExecutorSpec
from cronqueue.pipes import Garbled, SupervisorEnd
from cronqueue.processes import end_for_good, is_stopped
from cronqueue.rescue import CulpritOutcome, Death

log = logging.getLogger("cronqueue.worker")


@dataclass(slots=True)
class Child:
    """One executor process."""

    spec: ExecutorSpec
    process: BaseProcess
    pipe: SupervisorEnd
    board: Board
    started_at: float
    #: Of its process, from `take_hold`.
    hold: int | None = None
    tasks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    tokens: set[str] = field(default_factory=set)
    running: int = 0
    is_ready: bool = False
    is_idle: bool = False
    #: It drains, and another takes its place.
    is_retiring: bool = False
    #: It has said that it is through.
    is_done: bool = False
    #: The job for which we have ended it, or None, and what its attempt came to.
    culprit: int | None = None
    culprit_outcome: CulpritOutcome = "timeout"
    #: Why we have ended it.
    cause: str | None = None
    #: The cancelled attempts whose bodies run, and when it was first told of each.
    asked: dict[tuple[str, int], float] = field(default_factory=dict)

    @property
    def worker_id(self) -> str:
        return self.spec.worker_id

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def held_tokens(self) -> set[str]:
        """The claims to be renewed: what it has told us of, and what it may have had no time to."""
        return self.tokens.union(each.lock_token for each in self.board.begun())

    def send(self, *message: Any) -> None:
        """Say something, unless it has not listened for long; what must be heard is said again.

        A pipe that is broken belongs to a process whose end we shall hear of.
        """
        try:
            if _has_room(self.pipe):
                self.pipe.send(message)
            else:
                log.debug("executor %d has not listened for long", self.pid)
        except OSError:
            log.debug("executor %d does not listen any more", self.pid)

    def receive(self) -> bool:
        """Take in what it has said; whether that may change what to do next."""
        try:
            for message in self.pipe.receive():
                self._hear(message)
        except (EOFError, OSError):
            return False  # its sentinel will tell
        except (Garbled, TypeError) as error:
            self.kill(f"a job has written into its pipe: {error}")
        return True

    def wake(self) -> None:
        """There may be work."""
        self.is_idle = False
        self.send("wake")

    def tell_cancelled(self, ids: Collection[int], now: float) -> None:
        """Ask these jobs to end, those of them that are here."""
        self.send("cancel", sorted(ids))
        running = [each for each in self.board.begun() if each.job_id in ids and not each.is_over]
        holds = [(each.lock_token, each.job_id) for each in running]
        self.asked = {hold: self.asked.get(hold, now) for hold in holds}

    def is_frozen(self) -> bool:
        """Whether it is stopped: then its jobs must be free to go to others."""
        return is_stopped(self.pid)

    def overdue_job(self, now: float) -> int | None:
        """A job that has run past its hard timeout."""
        overdue = [each for each in self.board.begun() if each.is_overdue(now)]
        return min(overdue, key=lambda each: each.hard_deadline).job_id if overdue else None

    def deaf_job(self, since: float) -> int | None:
        """A cancelled job that has gone on since then, although it was asked to end."""
        if not self.asked:
            return None
        deaf = [
            each.job_id
            for each in self.board.begun()
            if not each.is_over and self.asked.get((each.lock_token, each.job_id), since) < since
        ]
        return deaf[0] if deaf else None

    def kill(
        self, cause: str, culprit: int | None = None, outcome: CulpritOutcome = "timeout"
    ) -> None:
        """End the process at once."""
        if self.cause is None:
            self.cause, self.culprit, self.culprit_outcome = cause, culprit, outcome
        self.process.kill()

    def death(self) -> Death | None:
        """How it ended; None for an end in order.

        If the server that forks them was killed, all seem to have ended, and may begin bodies still for the
        moment until the kernel gets to them.
        """
        self.process.join()
        if self.hold is not None:
            end_for_good(self.hold)
        if self.is_done:  # the exit code does not tell: a job may have called os._exit(0)
            return None
        cause = self.cause or f"its process {self.pid} {_end_in_words(self.process.exitcode)}"
        started = frozenset(each.job_id for each in self.board.begun())
        return Death(cause, started, self.culprit, self.culprit_outcome)

    def close(self) -> None:
        """Let go of what we shared."""
        self.pipe.close()
        self.board.close()
        self.board.forget_file()
        self.process.close()
        if self.hold is not None:
            os.close(self.hold)

    def _hear(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("ready", tasks, files):
                self.tasks, self.files, self.is_ready = tuple(tasks), tuple(files), True
            case ("claims", held, dropped, is_idle, running):
                self.tokens.update(held)
                self.tokens.difference_update(dropped)
                self.is_idle, self.running = is_idle, running
            case ("done", _):
                self.is_done = True
            case _:
                raise Garbled(f"no message: {message!r:.16}")


def _has_room(pipe: SupervisorEnd) -> bool:
    """Whether sending cannot block: a job that holds the interpreter's lock must not hold us, too."""
    writable = select.poll()
    writable.register(pipe, select.POLLOUT)
    return bool(writable.poll(0))


def _end_in_words(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"exited with code {code}"
