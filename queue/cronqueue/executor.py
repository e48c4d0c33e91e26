"""An executor: the process in which tasks run.

    1. load the user's code, tell the supervisor which tasks it knows
    2. loop: take messages and ended jobs · start what waits · exchange with the database
    3. drain: nothing new, unstarted jobs go back unspent, running ones end
    4. leave

A courier takes to the database what it has to say, and it goes on meanwhile. The supervisor renews its
leases, wakes it when there is work, and ends it when it must be ended.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import threading
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from cronqueue.board import Board
from cronqueue.clock import boottime
from cronqueue.correspondence import LONGEST_UNSTARTED, Correspondence
from cronqueue.database import Database
from cronqueue.errors import JobInterrupted
from cronqueue.exchange import in_words
from cronqueue.execution import Execution, Surroundings
from cronqueue.executorspec import ExecutorSpec
from cronqueue.finish import Retention
from cronqueue.holdings import Holdings
from cronqueue.hooks import announce
from cronqueue.imports import import_all
from cronqueue.interrupts import Interrupts
from cronqueue.joblog import hear_logging
from cronqueue.pipes import ExecutorEnd
from cronqueue.pool import Pool
from cronqueue.registry import all_tasks
from cronqueue.search import NEVER

log = logging.getLogger("cronqueue.worker")

# The loop turns at least this often, for its sign of life.
LONGEST_TURN = 5.0
# While no renewal is known of nothing begins; whether there was one is looked at this often.
STALE_PAUSE = 0.25
# At an abort, what ignores its interruption for this long is left behind.
ABORT_GRACE = 2.0


class Executor:
    """Holds claims, runs them, and keeps the database informed."""

    def __init__(
        self, spec: ExecutorSpec, pipe: ExecutorEnd, board: Board, database: Database
    ) -> None:
        self._spec = spec
        self._pipe = pipe
        self._board = board
        self._database = database
        settings = spec.settings
        self._trusted_for = settings.lease.total_seconds() * 2 / 3
        self._interrupted_after = settings.cancel_timeout.total_seconds() / 3
        retention = Retention(settings.keep_finished == timedelta(0), settings.destroy_failed_jobs)
        self._holdings = Holdings(settings.concurrency, settings.read_ahead, spec.board_entries)
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._pool = Pool(
            settings.concurrency,
            board,
            may_begin=self._may_begin,
            begun=lambda execution: self._inbox.put(("limited", execution)),
            ended=lambda: self._inbox.put(("ended",)),
        )
        self._correspondence = Correspondence(
            spec,
            database,
            retention,
            self._holdings,
            board,
            offered=self._pool.offered,
            is_open=self._is_open,
            arrived=lambda take_in: self._inbox.put(("brought", take_in)),
        )
        self._surroundings = Surroundings(
            database, spec.name, retention, settings.keep_log, self._pool.limit
        )
        self._told_idle = False
        self._draining = False
        self._abort_at: float | None = None
        self._interrupts = Interrupts()

    def run(self) -> None:
        """Work until drained, or until nothing is due in burst mode."""
        self._load()
        self._board.beat_at = time.monotonic()
        announce("worker_start", None)
        threading.Thread(target=self._read_pipe, name="sched-pipe", daemon=True).start()
        while not self._is_done():
            self.turn()
        announce("worker_stop", None)
        if (
            not self._correspondence.awaits_answer
        ):  # else our end is told as a death, and what we hold goes back
            self._send("done", self._holdings.ended)

    def turn(self) -> None:
        """Wait until there is something to do, and do it."""
        self._database.make_room(self._board)
        self._take_messages()
        now = time.monotonic()
        if not self._correspondence.is_stuck(now):
            self._board.beat_at = now
        self._interrupts.fire_due(now)
        self._correspondence.talk(now)  # first: the database works while we do
        self._feed_pool(now)
        self._tell_supervisor()

    # Step 1: the user's code.

    def _load(self) -> None:
        folder = None if self._spec.schedules is None else Path(self._spec.schedules)
        files, faults = import_all(self._spec.imports, folder)
        for fault in faults:
            log.error("%s; its tasks are unknown to this worker, their jobs are held", fault)
        self._correspondence.tasks = tuple(sorted(all_tasks()))
        hear_logging(self._spec.settings.keep_log)
        gc.freeze()  # what is loaded stays: looking for garbage in it took a quarter of the time
        self._send("ready", self._correspondence.tasks, tuple(map(str, files)))

    # Step 2: the loop.

    def _read_pipe(self) -> None:
        while True:
            try:
                self._inbox.put(self._pipe.recv())
            except Exception:
                os._exit(1)  # the supervisor is gone, or not understood: nobody renews our leases

    def _take_messages(self) -> None:
        try:
            item = self._inbox.get(timeout=self._longest_wait())
            while True:
                self._handle(item)
                item = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _longest_wait(self) -> float:
        now = time.monotonic()
        times = [now + LONGEST_TURN, self._interrupts.next_at(), self._holdings.tell_at]
        times.append(self._correspondence.next_at(now))
        if (first := self._pool.first_offered()) is not None:
            times.append(now - self._holdings.age(first, now) + LONGEST_UNSTARTED)
        if self._abort_at is not None:
            times.append(self._abort_at if now < self._abort_at else self._abort_at + ABORT_GRACE)
        if not self._leases_are_fresh():
            times.append(now + STALE_PAUSE)
        return max(min(times) - now, 0.0)

    def _handle(self, item: Any) -> None:
        match item:
            case ("ended",):
                self._take_ended()
            case ("brought", take_in):
                take_in()
            case ("limited", execution):
                if execution in self._holdings.running:  # its end may have come first
                    self._interrupts.limit(execution)
            case ("wake",):
                self._correspondence.hear_hint()
                self._told_idle = False
            case ("held", held):
                self._compare(held)
            case ("cancel", ids):
                self._cancel(ids)
            case ("drain",):
                log.debug("nothing new begins")
                self._draining = True
            case ("abort",):
                self._draining = True
                self._abort_at = time.monotonic() + ABORT_GRACE
                self._interrupt(self._holdings.running)

    def _take_ended(self) -> None:
        ended = self._pool.take_ended()
        if not ended:
            return
        self._interrupts.forget(execution for execution, _ in ended)
        for execution, executed in ended:
            if self._holdings.end(execution, executed.finished) and executed.written:
                self._board.clear(self._holdings.settle([execution]))
        self._correspondence.ended([execution for execution, _ in ended])

    def _feed_pool(self, now: float) -> None:
        """Offer what waits, the best first."""
        first = self._pool.first_offered()
        if first is not None:
            is_old = self._holdings.age(first, now) >= LONGEST_UNSTARTED
            if is_old or not self._may_begin(first) or self._holdings.is_better(first):
                self._withdraw()
            if is_old:
                self._holdings.give_back()
        if not self._is_open():
            return
        executions = [
            Execution(
                claimed,
                self._surroundings,
                entry=self._holdings.take_entry(),
                sent_at=self._holdings.sent_at(claimed),
            )
            for claimed in self._holdings.next_to_offer()
        ]
        self._holdings.place(executions)
        self._pool.offer(executions)

    def _withdraw(self) -> None:
        """What the pool has not begun waits again."""
        withdrawn = self._pool.withdraw()
        self._interrupts.forget(withdrawn)
        self._holdings.take_back(withdrawn)

    def _may_begin(self, execution: Execution) -> bool:
        """Whether this body may begin. Asked in every thread of the pool.

        Its claim must be young whatever was renewed meanwhile: an old one was slept through, and may
        have gone to others.
        """
        return not self._draining and self._is_trusted(
            min(self._board.renewed_at, execution.sent_at)
        )

    def _is_open(self) -> bool:
        """Whether anything may begin."""
        return not self._draining and self._leases_are_fresh()

    def _leases_are_fresh(self) -> bool:
        return self._is_trusted(self._board.renewed_at)

    def _is_trusted(self, renewed_at: float) -> bool:
        """After a renewal every lease lasts two thirds of its length at least; then we know nothing."""
        return boottime() - renewed_at < self._trusted_for

    # What the supervisor says of our claims, and what we tell it.

    def _compare(self, held: dict[str, frozenset[int]]) -> None:
        """Drop what is not ours any more; give back what is ours and nobody here knows of."""
        self._withdraw()  # so that what was lost does not begin
        lost_waiting, lost_running = self._holdings.compare(held)
        if lost_waiting:
            log.warning(
                "%s lost before the start", in_words([job_id for _, job_id in lost_waiting])
            )
        for execution in lost_running:
            execution.job.cancelled = True
        self._interrupt(lost_running)

    def _cancel(self, ids: Iterable[int]) -> None:
        cancelled = set(ids)
        for execution in self._holdings.running:
            if execution.claimed.id in cancelled and not execution.job.cancelled:
                execution.job.cancelled = True
                self._interrupts.ask(execution, time.monotonic() + self._interrupted_after)

    def _interrupt(self, executions: Iterable[Execution]) -> None:
        for execution in executions:
            execution.interruption.fire(JobInterrupted)

    def _tell_supervisor(self) -> None:
        idle = time.monotonic() < self._correspondence.claims_at and not self._draining
        held, dropped = self._holdings.news(time.monotonic())
        if held or dropped or idle != self._told_idle:
            self._told_idle = idle
            self._send("claims", held, dropped, idle, len(self._holdings.running))

    def _send(self, *message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            os._exit(1)  # the supervisor is gone

    # Step 4: the end.

    def _is_done(self) -> bool:
        if self._abort_at is not None and time.monotonic() >= self._abort_at:
            self._leave_behind()
        is_calm = self._holdings.is_empty() and not self._correspondence.awaits_answer
        if is_calm and (self._draining or not self._correspondence.may_let_in):
            if self._spec.max_jobs is not None and self._holdings.ended >= self._spec.max_jobs:
                return True
            return self._draining or (self._spec.burst and self._correspondence.claims_at == NEVER)
        # Without a database there is nobody to tell: the leases will run out.
        return self._abort_at is not None and time.monotonic() >= self._abort_at + ABORT_GRACE

    def _leave_behind(self) -> None:
        """Write the end of what could not be interrupted; its thread ends with the process."""
        self._interrupts.forget_all()
        for execution in list(self._holdings.running):
            self._holdings.end(execution, execution.give_up())
