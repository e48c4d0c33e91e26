"""The daemon: reads the schedule files, applies what has changed, keeps the future written.

    1. turn: say that we are there · look whose files are in force · top up · load the files in a fresh
       process and apply them, at the start, on HUP, when they have changed and been quiet for two seconds,
       and when what triggers of the user's own have answered is half used up
    2. TERM or INT ends it; what is written runs without it

It executes nothing of the user's in its own process. Any number of daemons may run.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cronqueue import schema
from cronqueue.clockwatch import ClockWatch
from cronqueue.database import Database, read_now
from cronqueue.imports import fingerprint
from cronqueue.outage import Outage
from cronqueue.registration import Presence, default_name, heartbeat, sign_off
from cronqueue.settings import Settings
from cronqueue.signsoflife import SignsOfLife
from cronqueue.trust import writable_by_group
from cronsched.alerts.looking import ping_of_daemon
from cronsched.alerts.sending import watch
from cronsched.chains import continue_chains
from cronsched.deploys import Brought, Contact, Decision
from cronsched.loader import load_in_child
from cronsched.manifest import Manifest
from cronsched.manifests import bring, in_force, let_go, look, place_of, still_in_force
from cronsched.materializer import next_refill, top_up
from cronsched.pausing import resume_due
from cronsched.plans import Plan
from cronsched.reconcile import apply, plan
from cronsched.renewing import renew_almanacs, renewal_due
from cronsched.retention import BATCH, forget_retired, prune_ledger

log = logging.getLogger("cronsched.daemon")

# A pass at least this often; a schedule of every second uses up a tenth of its range in a minute.
PASS_PERIOD = 5.0
HEARTBEAT_PERIOD = 5.0
LOOK_PERIOD = 1.0
PRUNE_PERIOD = 60.0
# Between two batches.
PRUNE_PAUSE = 0.1
# A fault in the files of triggers that are asked again in time may pass by itself.
RETRY_PERIOD = 60.0
# A file that is being written is left alone until it has been quiet for this long.
SETTLE = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """What a daemon reads, and as whom. One that does not apply only says what has changed."""

    settings: Settings
    folder: Path
    name: str | None = None
    applies: bool = True


class Daemon:
    """One daemon. `turn` does what is due at `now` (monotonic seconds) and can be cranked by a test."""

    def __init__(self, database: Database, options: DaemonOptions) -> None:
        self._database = database
        self._options = options
        self._settings = options.settings
        self._id = secrets.token_hex(16)
        self._name = options.name or default_name()
        self._is_stopping = False
        self._reload = True
        self._place = place_of(options.folder)
        # The last files without a fault, and the hash that was in force when they were loaded.
        self._held: Manifest | None = None
        self._loaded_under: str | None = None
        self._contact: Contact | None = None
        self._seen: Any = None
        self._changed_at: float | None = None
        self._look_at = self._pass_at = self._heartbeat_at = self._prune_at = float("-inf")
        self._ask_again_at = self._ask_again_after = float("inf")
        self._clock_watch = ClockWatch()
        self._outage = Outage(log, _FIRST_PAUSE, _LONGEST_PAUSE)
        self._is_follower = False
        self._pending: str | None = None
        self._warned_of: set[Path] = set()

    def run(self) -> int:
        """Work until TERM or INT; returns the exit code."""
        schema.require(self._database)
        signals, writer = self._catch_signals()
        log.info("daemon %s: schedules of %s", self._name, self._options.folder)
        signs = SignsOfLife(self._settings.alive_file)
        while not self._is_stopping:
            pause = self._turn_safely()
            signs.alive(time.monotonic(), at_work=not self._outage.pause)
            if not self._outage.pause:
                signs.ready(f"schedules of {self._options.folder}")
            _wait(signals, pause)
        signs.stopping()
        signal.set_wakeup_fd(-1)
        signals.close()
        writer.close()
        self._leave()
        return 0

    def run_once(self) -> int:
        """Write what is due to be written, load, apply; returns 1 if a file has a fault."""
        resume_due(self._database)
        top_up(self._database, self._settings)
        done = self.load_and_apply()
        continue_chains(self._database)
        self._database.dispose()
        return 1 if done is not None and done.faults else 0

    def stop(self) -> None:
        """End at the next occasion."""
        self._is_stopping = True

    def reload(self) -> None:
        """Load the files again, changed or not."""
        self._reload = True

    def turn(self, now: float) -> None:
        """Do what is due. Raises what the database raises, ClockLeapt while its time is not believed.

        What is written ahead comes first: it does not depend on files that may be slow, or never load.
        """
        self._clock_watch.look(self._database)
        if now >= self._heartbeat_at:
            self._say_so(now)
        if now >= self._pass_at:
            self._top_up(now)
        self._watch(now)
        if self._reload or now >= self._ask_again_at:
            self._load_again(now)
        if now >= self._prune_at:
            self._prune(now)

    def load_and_apply(self) -> Plan | None:
        """Load the files in a fresh process and apply them; None when other files are in force."""
        self._seen = fingerprint(self._options.folder)
        self._warn_of_others()
        loaded_under = in_force(self._database)
        manifest = self.load()
        if self._is_stopping:
            return None
        self._renew(manifest)
        for fault in manifest.faults:
            log.error("%s", fault)
        if manifest.faults:
            log.error("what the faulty files declare stays as it was; nothing is removed")
        if not self._options.applies:
            self._say_what_is_pending(manifest)
            return None
        if manifest.complete:
            self._held, self._loaded_under = manifest, loaded_under
        return self._apply(manifest)

    def load(self) -> Manifest:
        """What the files declare now."""
        imports = self._settings.imports
        # Who declares schedules in modules needs no folder. Else it is a wrong path, and no reason to
        # remove what its files have declared.
        return load_in_child(
            self._options.folder,
            imports,
            tz=self._settings.tz,
            missing_ok=bool(imports),
            is_stopped=lambda: self._is_stopping,
        )

    def _renew(self, manifest: Manifest) -> None:
        """Write on what triggers of the user's own have answered, and note when they are asked again."""
        renew_almanacs(self._database, manifest)
        due = renewal_due(manifest, self._database.server_now())
        if due is not None:
            self._ask_again_after = due.total_seconds()
        elif manifest.faults:  # they may be among what could not be loaded
            self._ask_again_after = min(self._ask_again_after, RETRY_PERIOD)
        else:
            self._ask_again_after = float("inf")

    def _apply(self, manifest: Manifest) -> Plan | None:
        """Apply files, if they win over what is in force."""
        decision = bring(self._database, self._brought(manifest), self._settings.takeover_after)
        self._contact = decision.contact
        if not decision.applies:
            self._follow(decision)
            return None
        log.info("applying the files: %s", decision.reason)
        expected = manifest.hash if manifest.complete else decision.in_force
        done = apply(
            self._database,
            manifest,
            self._settings,
            actor=self._name,
            may_go_on=still_in_force(self._database, expected),
        )
        self._is_follower = False
        _tell(done)
        return done

    def _follow(self, decision: Decision) -> None:
        """Say once that other files are in force."""
        if not self._is_follower:
            log.warning("%s: this daemon only tops up", decision.reason)
        self._is_follower = True

    def _brought(self, manifest: Manifest) -> Brought:
        return Brought(
            self._id,
            self._place,
            manifest.hash,
            manifest.complete,
            self._settings.release,
            self._loaded_under,
            self._is_follower,
            self._contact,
        )

    def _look_who_is_in_force(self, now: float) -> None:
        """Follow, or take over, without having been asked."""
        if self._held is None:
            return
        brought = self._brought(self._held)
        decision = look(self._database, brought, self._settings.takeover_after)
        self._contact = decision.contact
        if not decision.applies:
            self._follow(decision)
        elif self._is_follower or decision.in_force != self._held.hash:
            self._is_follower = True  # until it is done: the database may go away meanwhile
            self._settle(self._apply(self._held), now)

    def _settle(self, done: Plan | None, now: float) -> None:
        """Rows that somebody else was at are dealt with soon; what was added may be due soon."""
        if done is not None and done.is_unfinished:
            self._changed_at = now
        self._pass_at = now

    def _catch_signals(self) -> tuple[socket.socket, socket.socket]:
        """Set what they ask for; returns the socket that becomes readable with each, and its other end.

        An Event would not do: its `set` in a handler waits for a lock that the interrupted `wait` may hold.
        """
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), self._end)
        signal.signal(signal.SIGHUP, lambda number, frame: self.reload())
        return reader, writer

    def _end(self, number: int, frame: object) -> None:
        """The first signal ends in order; the next one ends at once, as no handler is left."""
        self.stop()
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)

    def _turn_safely(self) -> float:
        """One turn; the seconds to wait for the next."""
        try:
            self.turn(time.monotonic())
        except Exception as error:
            self._outage.failed(error, time.monotonic())
            return self._outage.pause
        self._outage.is_over(time.monotonic())
        due = min(self._look_at, self._pass_at, self._heartbeat_at, self._prune_at)
        return max(due - time.monotonic(), 0.0)

    def _warn_of_others(self) -> None:
        """Whoever may write a schedule file runs code as the user of this daemon and of the workers."""
        for path in writable_by_group(self._options.folder):
            if path not in self._warned_of:
                self._warned_of.add(path)
                log.warning("%s: its group may write it, and so run code as us: chmod g-w", path)

    def _say_so(self, now: float) -> None:
        presence = Presence(
            self._id,
            "daemon",
            self._name,
            os.getpid(),
            "running",
            self._settings,
            manifest_hash=None if self._held is None else self._held.hash,
        )
        heartbeat(self._database, [presence])
        self._look_who_is_in_force(now)
        self._heartbeat_at = now + HEARTBEAT_PERIOD

    def _say_what_is_pending(self, manifest: Manifest) -> None:
        """Once for each content of the files."""
        found = plan(self._database, manifest, self._settings)
        if found.effects and self._pending != manifest.hash:
            names = ", ".join(effect.name for effect in found.effects)
            log.warning("changes wait for `sched apply`: %s", names)
        self._pending = manifest.hash if found.effects else None

    def _load_again(self, now: float) -> None:
        self._reload = False  # before the files are read, so that a HUP meanwhile counts
        try:
            done = self.load_and_apply()
        except BaseException:
            self._reload = True
            raise
        self._settle(done, now)
        self._ask_again_at = now + self._ask_again_after

    def _watch(self, now: float) -> None:
        """Files that have changed are loaded once they have been quiet for a while."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_PERIOD
        seen = fingerprint(self._options.folder)
        if self._seen is not None and seen != self._seen:
            self._seen, self._changed_at = seen, now
        elif self._changed_at is not None and now - self._changed_at >= SETTLE:
            self._changed_at = None
            self._reload = True

    def _top_up(self, now: float) -> None:
        resume_due(self._database)
        done = top_up(self._database, self._settings)
        for fault in done.faults:
            log.error("%s", fault)
        if done.jobs:
            log.info("wrote %d jobs of %d schedules", done.jobs, done.schedules)
        continue_chains(self._database)
        ping_of_daemon(self._database, self._settings)
        watch(self._database, self._settings)
        self._pass_at = now + self._until_refill()

    def _prune(self, now: float) -> None:
        """Count a batch of what the ledger has kept long enough, and the next soon, until none is left."""
        if prune_ledger(self._database, self._settings) >= BATCH:
            self._prune_at = now + PRUNE_PAUSE
            return
        forget_retired(self._database)
        self._prune_at = now + PRUNE_PERIOD

    def _until_refill(self) -> float:
        due = next_refill(self._database)
        if due is None:
            return PASS_PERIOD
        with self._database.snapshot() as connection:
            wait = (due - read_now(self._database, connection)).total_seconds()
        return min(max(wait, 0.05), PASS_PERIOD)

    def _leave(self) -> None:
        try:
            if self._held is not None:
                let_go(self._database, self._held.hash)
            sign_off(self._database, [self._id])
        except Exception as error:
            log.warning("could not sign off: %s", error)
        self._database.dispose()
        log.info("daemon stopped; what is written runs without it")


def _wait(signals: socket.socket, seconds: float) -> None:
    """For that long, or until a signal comes."""
    select.select([signals], [], [], seconds)
    with suppress(BlockingIOError):
        signals.recv(4096)


def _tell(done: Plan) -> None:
    """One line of what was done."""
    counts = dict.fromkeys(("add", "change", "revive", "remove"), 0)
    for effect in done.effects:
        counts[effect.kind] += 1
    if done.effects:
        log.info(
            "applied: %d added, %d changed, %d came back, %d removed; %d jobs written, %d cancelled",
            *counts.values(),
            sum(effect.added for effect in done.effects),
            sum(effect.cancelled for effect in done.effects),
        )
    for fault in done.refused:
        log.error("%s", fault)
    if done.was_overtaken:
        log.warning("other files came in force meanwhile: these are applied no further")
    if done.changes.kept:
        log.error(
            "not removed, because %s: %s", done.changes.kept_because, ", ".join(done.changes.kept)
        )
