"""The supervisor: starts executors, keeps their leases, sees them die, ends what hangs.

    1. check the schema, start the executors
    2. loop: wait for anything · hear the executors · bury the dead · end what is overdue · do the upkeep
    3. TERM or INT, or an operator asks for it: drain; when the time is up, or at a second signal, abort
    4. sign off

It runs no code of the user's, so that nothing a job does can keep it from its duties.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from cronqueue import schema, wakeup
from cronqueue.children import Child
from cronqueue.claim import Band
from cronqueue.clock import boottime
from cronqueue.database import Database
from cronqueue.durations import format_duration
from cronqueue.executorspec import ExecutorSpec, in_words, specs_of
from cronqueue.housekeeping import Housekeeper, Housekeeping
from cronqueue.imports import fingerprint
from cronqueue.lease import renewal_period
from cronqueue.outage import Outage, first_line
from cronqueue.patience import SHORT, answers_within
from cronqueue.search import SLOW, rest_after
from cronqueue.settings import Settings
from cronqueue.signsoflife import SignsOfLife
from cronqueue.starting import Starter
from cronqueue.upkeep import Upkeep

log = logging.getLogger("cronqueue.worker")

# After an abort, an executor that is still there is killed.
KILL_AFTER_ABORT = 6.0
# Seconds: how late a time limit may be noticed.
LONGEST_TURN = 1.0
# A launcher such as timeout(1) sends a signal to us and to our process group: within this it is one.
_SAME_SIGNAL = 0.05
# An executor that lived shorter than this crashed at its start: the next one comes later.
SHORT_LIFE = 5.0
# Between tries while the database is away; executors wait for the first renewal, too.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
_FIRST_RESTART_PAUSE, _LONGEST_RESTART_PAUSE = 1.0, 30.0
_LISTEN_AGAIN_AFTER = 5.0
# After a hint it may be that a job has come for later: when it is due is looked up this much later.
# The executor that was woken has taken what is due by then, and the next delayed job waits no longer.
_PROBE_AFTER_WAKE = 0.01
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

    def __init__(
        self, template: ExecutorSpec, database: Database, starter: Starter | None = None
    ) -> None:
        self._template = template
        self._settings: Settings = template.settings
        self._database = database
        self._upkeep = Upkeep(database, template.settings, template.band)
        self._housekeeper = Housekeeper(Housekeeping(database, template.settings))
        self._starter = starter or Starter()
        self._children: list[Child] = []
        self._listener: wakeup.Listener | None = None
        self._listen_at = 0.0
        self._signals: list[int] = []
        self._abort_at: float | None = None
        self._stopped_by = 0
        self._drain_until: float | None = None
        # All are back, and have renewed, before anybody may rescue: that takes a renewal period of contact.
        soon = renewal_period(template.settings.lease) / 4
        self._outage = Outage(log, min(_FIRST_PAUSE, soon), min(_LONGEST_PAUSE, soon))
        self._upkeep_at = 0.0
        self._probe_at = 0.0
        self._rest, self._was_slow = 0.0, False
        self._has_hint = False
        self._due_at: float | None = None
        self._missing: list[ExecutorSpec] = []
        self._restart_at = 0.0
        self._restart_pause = 0.0
        self._files = _FileWatch()
        self._signs = SignsOfLife(self._settings.alive_file)
        self._wakeup_reader, self._wakeup_writer = socket.socketpair()

    def run(self) -> int:
        """Work until told to stop; returns the exit code."""
        schema.require(self._database)
        self._catch_signals()
        self._missing = specs_of(self._template)
        try:
            self._start_missing(boottime())
            log.info("worker %s: %s", self._template.name, in_words(self._settings))
            while not self._is_finished():
                self._turn()
        except BaseException:
            # Nobody would renew their leases, and the interpreter would wait for their end.
            for child in self._children:
                child.kill("its supervisor has failed")
            raise
        return self._leave()

    def close(self) -> None:
        """Let go of what signals are heard by; `run` does so itself."""
        self._wakeup_reader.close()
        self._wakeup_writer.close()

    # Step 1.

    def _catch_signals(self) -> None:
        self._wakeup_reader.setblocking(False)
        self._wakeup_writer.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)
        for name in ("SIGTERM", "SIGINT", "SIGHUP"):
            signal.signal(getattr(signal, name), lambda number, frame: self._signals.append(number))

    def _start_child(self, spec: ExecutorSpec) -> None:
        self._children.append(self._starter.start(spec))

    # Step 2.

    def _turn(self) -> None:
        self._wait()
        self._heed_signals()
        self._heed_operators()
        for child in self._children:
            child.receive()
        self._bury_dead()
        self._make_room()
        now = boottime()
        self._give_signs(now)
        self._end_overdue(now, time.monotonic())
        self._start_missing(now)
        if now >= self._upkeep_at:
            self._keep_up(now)

    def _wait(self) -> None:
        """Until somebody speaks, dies or signals, or something is due."""
        handles: list[Any] = [self._wakeup_reader]
        for child in self._children:
            handles += [child.pipe, child.process.sentinel]
        # A file's notifications keep until somebody is idle; a server must get rid of its own.
        if self._listener is not None and (self._database.is_postgresql or self._any_idle()):
            handles.append(self._listener)
        ready: list[Any] = wait(handles, self._longest_wait())
        if self._wakeup_reader in ready:
            self._wakeup_reader.recv(4096)
        if self._listener is not None and self._listener in ready:
            self._hear_hints()

    def _longest_wait(self) -> float:
        now = boottime()
        times = [now + self._upkeep.next_duty(now)]
        if self._any_idle():
            times.append(0.0 if self._has_hint else self._probe_at)
            if self._due_at is not None:
                times.append(self._due_at)
        return min(max(max(min(times), self._upkeep_at) - now, 0.0), LONGEST_TURN)

    def _hear_hints(self) -> None:
        assert self._listener is not None
        try:
            if self._database.is_postgresql:
                heard = self._listener.drain()
            else:
                heard = any(wakeup.settled_changes(self._listener))
            # Kept until somebody is idle: it may be about to say so, and has looked before the hint.
            self._has_hint = self._has_hint or heard
        except Exception as error:
            log.warning("listening for new jobs failed, polling goes on: %s", first_line(error))
            self._listener.close()
            self._listener = None
            self._listen_at = boottime() + _LISTEN_AGAIN_AFTER

    def _make_room(self) -> None:
        """While the server has no connections left, keep none; then new jobs are noticed by polling."""
        for child in self._children:
            self._database.make_room(child.board)
        if self._listener is not None and self._database.crowding.is_on():
            self._listener.close()
            self._listener = None

    def _give_signs(self, now: float) -> None:
        is_ready = any(child.is_ready for child in self._children)
        self._signs.alive(now, at_work=is_ready and not (self._outage.pause or self._is_stopping()))
        if is_ready:
            self._signs.ready(in_words(self._settings))

    def _bury_dead(self) -> None:
        for child in [child for child in self._children if not child.process.is_alive()]:
            child.receive()  # its last words
            death = child.death()
            self._children.remove(child)
            if death is not None:
                log.error("an executor is gone: %s", death.cause)
                self._upkeep.died(child.worker_id, death)
                self._delay_restart(child)
            else:
                self._upkeep.left(child.worker_id)
            if (death is not None or not self._has_an_end()) and not child.is_retiring:
                self._missing.append(child.spec)
            child.close()

    def _delay_restart(self, dead: Child) -> None:
        """The next executor comes at once, unless this one did not even start."""
        now = boottime()
        if now - dead.started_at < SHORT_LIFE and not dead.is_ready:
            self._lengthen_restart_pause(now)
        else:
            self._restart_at = self._restart_pause = 0.0

    def _lengthen_restart_pause(self, now: float) -> None:
        self._restart_pause = min(
            max(self._restart_pause * 2, _FIRST_RESTART_PAUSE), _LONGEST_RESTART_PAUSE
        )
        self._restart_at = now + self._restart_pause

    def _end_overdue(self, now: float, awake: float) -> None:
        """`awake` is of `time.monotonic`: nothing is overdue because the machine was suspended."""
        patience = self._settings.cancel_timeout
        for child in self._children:
            if (job_id := child.overdue_job(awake)) is not None:
                child.kill(f"job {job_id} ran past its hard timeout", job_id)
            elif (job_id := child.deaf_job(awake - patience.total_seconds())) is not None:
                cause = f"job {job_id} was cancelled and went on for {format_duration(patience)}"
                child.kill(cause, job_id, "interrupted")
            elif (
                awake - child.board.beat_at > self._settings.stall_timeout.total_seconds()
                and not child.is_frozen()
            ):
                stalled = format_duration(self._settings.stall_timeout)
                child.kill(f"its loop has not turned for {stalled}")
            elif self._abort_at is not None and now > self._abort_at + KILL_AFTER_ABORT:
                child.kill("it did not end in time after the abort")

    def _start_missing(self, now: float) -> None:
        """Start what is not there, or not any more; what cannot be started now is tried again."""
        self._start_executors(now)
        self._housekeeper.begin(now)

    def _start_executors(self, now: float) -> None:
        if self._is_stopping():
            return
        if not self._has_an_end():
            self._watch_files(now)
        while self._missing and now >= self._restart_at:
            try:
                self._start_child(self._missing[0])
                del self._missing[0]
            except (OSError, EOFError) as error:
                # The process that forks them has just died, or the machine is short of something.
                self._lengthen_restart_pause(now)
                log.error(
                    "an executor could not be started, next try in %.1f s: %s",
                    self._restart_pause,
                    first_line(error),
                )

    def _has_an_end(self) -> bool:
        """Whether executors leave by themselves when their work is done."""
        return self._template.burst or self._template.max_jobs is not None

    def _watch_files(self, now: float) -> None:
        """Executors whose code has changed drain, and new ones take their places."""
        watch = self._files
        if now < watch.look_at or self._template.schedules is None:
            return
        watch.look_at = now + _FILES_PERIOD
        try:
            seen = fingerprint(Path(self._template.schedules))
        except OSError as error:
            log.warning("the schedule files cannot be looked at: %s", error)
            return
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
                self._missing.append(child.spec)

    def _keep_up(self, now: float) -> None:
        try:
            with answers_within(SHORT):
                self._upkeep.turn(now, self._children, self._is_stopping())
                self._listen(now)
                self._probe(now)
            self._upkeep_at = 0.0
            self._outage.is_over(now)
        except Exception as error:
            self._upkeep.lost_contact()
            failed_at = boottime()
            self._outage.failed(error, failed_at)
            self._upkeep_at = failed_at + self._outage.pause

    def _listen(self, now: float) -> None:
        if self._listener is not None or now < self._listen_at or self._database.crowding.is_on():
            return
        self._listen_at = now + _LISTEN_AGAIN_AFTER
        try:
            self._listener = wakeup.listen(self._database)
        except Exception as error:
            log.warning("no notification of new jobs, polling goes on: %s", first_line(error))

    def _probe(self, now: float) -> None:
        """Look when the next job is due, and wake an executor then, or at a hint."""
        if not self._any_idle():
            return
        if self._has_hint:
            self._has_hint = False
            self._probe_soon()
            self._wake_idle()
            return
        if now >= self._probe_at:
            asked = boottime()
            due_in = self._upkeep.probe(self._children)
            answered = boottime()
            took = answered - asked
            # Slow once, it may have been kept waiting by something else.
            self._rest = rest_after(took) if took > SLOW and self._was_slow else 0.0
            self._was_slow = took > SLOW
            self._probe_at = answered + max(self._settings.sleep_delay.total_seconds(), self._rest)
            if due_in == 0:
                self._due_at = None
                self._probe_soon()  # for what comes after that job
                self._wake_idle()
            else:
                self._due_at = None if due_in is None else answered + due_in
        if self._due_at is not None and boottime() >= self._due_at:
            self._due_at = None
            # Should our clock be a little ahead of the database's, the job is not due yet.
            self._probe_soon()
            self._wake_idle()

    def _probe_soon(self) -> None:
        pause = max(_PROBE_AFTER_WAKE, self._rest)
        self._probe_at = min(self._probe_at, boottime() + pause)

    def _any_idle(self) -> bool:
        return any(child.is_idle for child in self._children)

    def _wake_idle(self) -> None:
        """One of each pool: nobody knows yet for which of them there is something."""
        woken: dict[Band, int] = {}
        for child in self._children:
            if child.is_idle and not child.is_retiring and child.spec.band not in woken:
                child.wake()
                woken[child.spec.band] = id(child)
        # The last to be woken is the last to be asked next time.
        self._children.sort(key=lambda each: id(each) in woken.values())

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
            elif not (self._stopped_by or self._abort_at):
                time.sleep(_SAME_SIGNAL)
                self._signals.clear()
                self._stopped_by = number
                self._drain(now, "stopping")
            elif self._abort_at is None:
                log.warning("stopping at once: running jobs are interrupted and go back")
                self._stopped_by = number
                self._abort(now)
        if self._drain_until is not None and now >= self._drain_until and self._abort_at is None:
            log.warning("the time to stop is up: running jobs are interrupted and go back")
            self._abort(now)

    def _heed_operators(self) -> None:
        if self._upkeep.drain_asked and not self._is_stopping():
            self._drain(boottime(), "an operator has asked this worker to drain")

    def _drain(self, now: float, why: str) -> None:
        """A first signal after an operator's word counts anew: whoever sends it does not know of that."""
        self._signs.stopping()
        self._drain_until = now + self._settings.shutdown_timeout.total_seconds()
        log.info(
            "%s: unstarted jobs go back, running ones have %s",
            why,
            format_duration(self._settings.shutdown_timeout),
        )
        for child in self._children:
            child.send("drain")

    def _abort(self, now: float) -> None:
        self._abort_at = now
        for child in self._children:
            child.send("abort")

    # Step 4.

    def _leave(self) -> int:
        self._housekeeper.stop()
        try:
            with answers_within(SHORT):
                self._upkeep.leave(boottime())
        except Exception as error:
            log.warning("could not sign off: %s", first_line(error))
        if self._listener is not None:
            self._listener.close()
        signal.set_wakeup_fd(-1)
        self.close()
        self._database.dispose()
        return 0 if self._abort_at is None else 128 + (self._stopped_by or signal.SIGTERM)
