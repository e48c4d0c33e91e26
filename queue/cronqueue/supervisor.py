"""The supervisor: starts executors, keeps their leases, sees them die, ends what hangs.

    1. check the schema, start the executors
    2. loop: wait for anything · hear the executors · bury the dead · end what is overdue · do the upkeep
    3. TERM or INT: drain; when the time is up, or at a second signal, abort
    4. sign off

It runs no code of the user's, so that nothing a job does can keep it from its duties.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from cronqueue import schema, wakeup
from cronqueue.children import Child, start_child
from cronqueue.clock import boottime
from cronqueue.database import Database, is_outage
from cronqueue.durations import format_duration
from cronqueue.executor import ExecutorSpec, first_line
from cronqueue.imports import fingerprint
from cronqueue.processes import start_context
from cronqueue.registration import sign_off
from cronqueue.search import rest_after
from cronqueue.settings import Settings
from cronqueue.upkeep import Upkeep

log = logging.getLogger("cronqueue.worker")

# After an abort, an executor that is still there is killed.
KILL_AFTER_ABORT = 6.0
# An executor that lived shorter than this crashed at its start: the next one comes later.
SHORT_LIFE = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_LONGEST_RESTART_PAUSE = 30.0
_LISTEN_AGAIN_AFTER = 5.0
_FILES_PERIOD = 1.0
# A file that is being written is left alone until it has been quiet for this long.
_FILES_SETTLE = 2.0


@dataclass(slots=True)
class _FileWatch:
    """When the user's files changed."""

    seen: Any = None
    changed_at: float | None = None
    look_at: float = 0.0


class Supervisor:
    """One `sched worker`."""

    def __init__(self, template: ExecutorSpec, database: Database) -> None:
        self._template = template
        self._settings: Settings = template.settings
        self._database = database
        self._upkeep = Upkeep(database, template.settings, template.band)
        self._context = start_context(["cronqueue.executor"])
        self._children: list[Child] = []
        self._ids: list[str] = []
        self._listener: wakeup.Listener | None = None
        self._listen_at = 0.0
        self._signals: list[int] = []
        self._abort_at: float | None = None
        self._aborted_by: int | None = None
        self._drain_until: float | None = None
        self._pause = 0.0
        self._upkeep_at = 0.0
        self._probe_at = 0.0
        self._due_at: float | None = None
        self._missed_hint = False
        self._missing = 0
        self._restart_at = 0.0
        self._restart_pause = 0.0
        self._files = _FileWatch()
        self._wakeup_reader, self._wakeup_writer = socket.socketpair()

    def run(self) -> int:
        """Work until told to stop; returns the exit code."""
        schema.require(self._database)
        self._catch_signals()
        for index in range(self._settings.processes):
            self._start_child(index)
        log.info("worker %s: %s", self._template.name, _in_words(self._settings))
        while not self._is_finished():
            self._wait()
            self._heed_signals()
            for child in self._children:
                child.receive()
            self._bury_dead()
            now = boottime()
            self._end_overdue(now, time.monotonic())
            self._replace_missing(now)
            if now >= self._upkeep_at:
                self._keep_up(now)
        return self._leave()

    # Step 1.

    def _catch_signals(self) -> None:
        self._wakeup_reader.setblocking(False)
        self._wakeup_writer.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            signal.signal(getattr(signal, name), lambda number, frame: self._signals.append(number))

    def _start_child(self, index: int) -> None:
        share = None
        if self._template.max_jobs is not None:
            whole, rest = divmod(self._template.max_jobs, self._settings.processes)
            share = whole + (1 if index < rest else 0)
            if share == 0:
                return
        child = start_child(self._context, replace(self._template, max_jobs=share))
        self._children.append(child)
        self._ids.append(child.worker_id)

    # Step 2.

    def _wait(self) -> None:
        """Until somebody speaks, dies or signals, or something is due."""
        handles: list[Any] = [self._wakeup_reader]
        for child in self._children:
            handles += [child.pipe, child.process.sentinel]
        if self._listener is not None:
            handles.append(self._listener)
        ready: list[Any] = wait(handles, self._longest_wait())
        if self._wakeup_reader in ready:
            self._wakeup_reader.recv(4096)
        if self._listener is not None and self._listener in ready:
            self._hear_hints()

    def _longest_wait(self) -> float:
        now = boottime()
        times = [now + self._upkeep.next_duty(now), now + 1.0]
        if self._any_idle():
            times.append(self._probe_at)
            if self._due_at is not None:
                times.append(self._due_at)
        return max(max(min(times), self._upkeep_at) - now, 0.0)

    def _hear_hints(self) -> None:
        assert self._listener is not None
        try:
            if not self._any_idle():
                # An executor may have looked just before this, and be about to say that it is idle.
                self._missed_hint |= self._listener.drain()
            elif self._database.is_postgresql:
                if self._listener.drain():
                    self._wake_one()
            elif any(wakeup.settled_changes(self._listener)):
                self._wake_one()
        except Exception as error:
            log.warning("listening for new jobs failed, polling goes on: %s", first_line(error))
            self._listener.close()
            self._listener = None
            self._listen_at = boottime() + _LISTEN_AGAIN_AFTER

    def _bury_dead(self) -> None:
        for child in [child for child in self._children if not child.process.is_alive()]:
            child.receive()  # its last words
            death = child.death()
            self._children.remove(child)
            if death is not None:
                log.error("an executor is gone: %s", death.cause)
                self._upkeep.died(child.worker_id, death)
                self._upkeep_at = (
                    min(self._upkeep_at, boottime()) if self._pause == 0 else self._upkeep_at
                )
                lived = boottime() - child.started_at
                short = lived < SHORT_LIFE and not child.is_ready
                self._restart_pause = (
                    min(max(self._restart_pause * 2, 0.5), _LONGEST_RESTART_PAUSE) if short else 0.0
                )
                self._restart_at = boottime() + self._restart_pause
            if death is not None or not self._has_an_end():
                self._missing += not child.is_retiring
            child.close()

    def _end_overdue(self, now: float, awake: float) -> None:
        """`awake` is of `time.monotonic`: nothing is overdue because the machine was suspended."""
        for child in self._children:
            job_id = child.overdue_job(awake)
            if job_id is not None:
                child.kill(f"job {job_id} ran past its hard timeout", job_id)
            elif (
                awake - child.board.beat_at > self._settings.stall_timeout.total_seconds()
                and not child.is_frozen()
            ):
                child.kill(f"its loop has not turned for {self._settings.stall_timeout}")
            elif self._abort_at is not None and now > self._abort_at + KILL_AFTER_ABORT:
                child.kill("it did not end in time after the abort")

    def _replace_missing(self, now: float) -> None:
        if self._is_stopping():
            return
        if not self._has_an_end():
            self._watch_files(now)
        if now >= self._restart_at:
            for _ in range(self._missing):
                self._start_child(0)
            self._missing = 0

    def _has_an_end(self) -> bool:
        """Whether executors leave by themselves when their work is done."""
        return self._template.burst or self._template.max_jobs is not None

    def _watch_files(self, now: float) -> None:
        """Executors whose code has changed drain, and new ones take their places."""
        watch = self._files
        if now < watch.look_at or self._template.schedules is None:
            return
        watch.look_at = now + _FILES_PERIOD
        seen = fingerprint(Path(self._template.schedules))
        if watch.seen is None:
            watch.seen = seen
        elif seen != watch.seen:
            watch.seen, watch.changed_at = seen, now
        elif watch.changed_at is not None and now - watch.changed_at >= _FILES_SETTLE:
            watch.changed_at = None
            log.info("schedule files have changed: executors start anew")
            self._retire_all()

    def _retire_all(self) -> None:
        for child in self._children:
            if not child.is_retiring:
                child.is_retiring = True
                child.send("drain")
                self._missing += 1

    def _keep_up(self, now: float) -> None:
        try:
            self._upkeep.turn(now, self._children, self._is_stopping())
            self._listen(now)
            self._probe(now)
            self._pause, self._upkeep_at = 0.0, 0.0
        except Exception as error:
            self._upkeep.lost_contact()
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._upkeep_at = boottime() + self._pause
            if is_outage(error):
                log.warning(
                    "the database is away, next try in %.1f s: %s", self._pause, first_line(error)
                )
            else:
                log.error("the upkeep failed, next try in %.1f s", self._pause, exc_info=error)

    def _listen(self, now: float) -> None:
        if self._listener is not None or now < self._listen_at:
            return
        self._listen_at = now + _LISTEN_AGAIN_AFTER
        try:
            self._listener = wakeup.listen(self._database)
        except Exception as error:
            log.warning("no notification of new jobs, polling goes on: %s", first_line(error))

    def _probe(self, now: float) -> None:
        """Look when the next job is due, and wake an executor then."""
        if not self._any_idle():
            return
        if now >= self._probe_at or self._missed_hint:
            self._missed_hint = False
            asked = boottime()
            due_in = self._upkeep.probe(self._children)
            answered = boottime()
            self._due_at = None if due_in is None else answered + due_in
            self._probe_at = answered + max(
                self._settings.sleep_delay.total_seconds(), rest_after(answered - asked)
            )
        if self._due_at is not None and boottime() >= self._due_at:
            self._due_at = None
            self._wake_one()

    def _any_idle(self) -> bool:
        return any(child.is_idle for child in self._children)

    def _wake_one(self) -> None:
        for child in self._children:
            if child.is_idle and not child.is_retiring:
                child.wake()
                # The last to be woken is the last to be asked next time.
                self._children.sort(key=lambda each: each is child)
                return

    # Step 3.

    def _is_stopping(self) -> bool:
        return self._drain_until is not None

    def _is_finished(self) -> bool:
        return not self._children and (
            self._is_stopping() or (self._has_an_end() and not self._missing)
        )

    def _heed_signals(self) -> None:
        now = boottime()
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGHUP:
                log.info("HUP: executors start anew")
                self._retire_all()
            elif not self._is_stopping():
                self._drain_until = now + self._settings.shutdown_timeout.total_seconds()
                log.info(
                    "stopping: unstarted jobs go back, running ones have %s",
                    format_duration(self._settings.shutdown_timeout),
                )
                for child in self._children:
                    child.send("drain")
            elif self._abort_at is None:
                log.warning("stopping at once: running jobs are interrupted and go back")
                self._abort(now, number)
        if self._drain_until is not None and now >= self._drain_until and self._abort_at is None:
            log.warning("the time to stop is up: running jobs are interrupted and go back")
            self._abort(now, None)

    def _abort(self, now: float, number: int | None) -> None:
        self._abort_at = now
        self._aborted_by = number
        for child in self._children:
            child.send("abort")

    # Step 4.

    def _leave(self) -> int:
        try:
            self._upkeep.turn(boottime(), [], draining=True)
            sign_off(self._database, self._ids)
        except Exception as error:
            log.warning("could not sign off: %s", first_line(error))
        if self._listener is not None:
            self._listener.close()
        signal.set_wakeup_fd(-1)
        self._database.dispose()
        return 0 if self._aborted_by is None else 128 + self._aborted_by


def _in_words(settings: Settings) -> str:
    """How many places, and for which jobs."""
    parts = [f"{settings.processes} executors of {settings.concurrency} places"]
    if settings.queues:
        parts.append(f"queues {', '.join(settings.queues)}")
    if settings.exclude_queues:
        parts.append(f"all queues but {', '.join(settings.exclude_queues)}")
    if settings.min_priority is not None:
        parts.append(f"priority {settings.min_priority} and higher")
    if settings.max_priority is not None:
        parts.append(f"priority {settings.max_priority} and lower")
    return "; ".join(parts)
