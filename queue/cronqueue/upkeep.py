"""Upkeep: what a supervisor owes the database, each duty at its own time.

Renewals first, then everything else; a rescue only after uninterrupted contact. `now` is seconds of
`clock.boottime`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from cronqueue import wakeup
from cronqueue.children import Child
from cronqueue.claim import Band
from cronqueue.clock import boottime
from cronqueue.clockwatch import ClockWatch
from cronqueue.database import Database
from cronqueue.errors import ClockLeapt
from cronqueue.lease import Contact, Renewal, look, renew, renewal_period
from cronqueue.probing import Sight, look_around
from cronqueue.registration import Presence, heartbeat, sign_off
from cronqueue.rescue import Death, rescue, return_jobs
from cronqueue.search import rest_after
from cronqueue.settings import Settings

log = logging.getLogger("cronqueue.worker")

HEARTBEAT_PERIOD = 5.0
LOOK_PERIOD = 1.0
# With nothing to look after, so long without a word: somewhat less than what counts as out of touch.
LONGEST_SILENCE = 1.5
# Between looks for lost leases, when none is known to run out sooner.
LONGEST_RESCUE_PAUSE = 5.0
SHORTEST_RESCUE_PAUSE = 0.2
# A clock that is ahead by less is in order where leases are short.
SHORTEST_LEAP = timedelta(seconds=5)
# Pauses between looks for a dead executor's jobs: rows may be locked by its last transaction.
LOOKS_AFTER_DEATH = (0.1, 0.4, 1.5)


@dataclass(slots=True)
class _Dead:
    """An executor that died, and when its jobs are looked for."""

    worker_id: str
    death: Death
    look_at: float = 0.0
    pauses: list[float] = field(default_factory=lambda: list(LOOKS_AFTER_DEATH))


class Upkeep:
    """The duties of one supervisor."""

    def __init__(self, database: Database, settings: Settings, band: Band) -> None:
        self._database = database
        self._settings = settings
        self._band = band
        self._contact = Contact()
        # A smaller leap makes leases run out that are held.
        self._clock_watch = ClockWatch(limit=max(settings.lease / 3, SHORTEST_LEAP))
        self._renew_at = 0.0
        self._look_at = 0.0
        self._rescue_at = 0.0
        self._heartbeat_at = 0.0
        self._dead: list[_Dead] = []
        self._left: list[str] = []
        self._shown: dict[str, str] = {}
        self._draining = False
        #: An operator has asked for it.
        self.drain_asked = False

    def died(self, worker_id: str, death: Death) -> None:
        """An executor has ended out of order; its jobs go back as soon as the database is there."""
        self._dead.append(_Dead(worker_id, death))
        self._left.append(worker_id)

    def left(self, worker_id: str) -> None:
        """An executor has ended in order."""
        self._left.append(worker_id)

    def turn(self, now: float, children: Sequence[Child], draining: bool) -> None:
        """Do what is due. Raises what the database raises; then `lost_contact` is to be called."""
        self._draining = draining
        self._renew(now, [child for child in children if not child.is_frozen()])
        self._return_jobs(now)
        self._heartbeat(now, children)
        self._rescue(now)

    def leave(self, now: float) -> None:
        """The last turn: no executor is left. Raises what the database raises."""
        self._return_jobs(now)
        sign_off(self._database, self._left)
        wakeup.notify(self._database)

    def probe(self, children: Sequence[Child]) -> float | None:
        """Seconds until the next job is due for us; None if none waits."""
        tasks = tuple(sorted({task for child in children for task in child.tasks}))
        asked = boottime()
        # What would be due before the next look goes with this one.
        at_leases = asked >= self._rescue_at - LOOK_PERIOD
        beats = asked >= self._heartbeat_at - LOOK_PERIOD
        sight = look_around(
            self._database,
            self._wanted(children),
            tasks,
            at_leases=at_leases,
            present=_all_present(children, self._draining) if beats else (),
        )
        self._contact.touched(boottime())
        self.drain_asked |= sight.drain_asked
        if beats:
            self._heartbeat_at = asked + HEARTBEAT_PERIOD
        if at_leases:
            self._put_rescue_off(sight, asked)
        return sight.due_in

    def _wanted(self, children: Sequence[Child]) -> Band:
        """What the idle ones take: a pool that is full must not keep waking the others."""
        bands = {child.spec.band for child in children if child.is_idle}
        if len(bands) < 2:
            return next(iter(bands), self._band)
        queues = sorted({queue for band in bands for queue in band.queues})
        return replace(self._band, queues=tuple(queues), exclude_queues=())

    def lost_contact(self) -> None:
        """The database failed us."""
        self._contact.lost()

    def next_duty(self, now: float) -> float:
        """Seconds until the next duty."""
        times = (
            self._renew_at,
            self._look_at,
            self._rescue_at,
            self._heartbeat_at,
            *(dead.look_at for dead in self._dead),
        )
        return max(min(times) - now, 0.0)

    def _renew(self, now: float, children: Sequence[Child]) -> None:
        """Renew all leases; what stands on the boards is the time before the statement was sent."""
        lease = self._settings.lease
        tokens = {token for child in children for token in child.held_tokens()}
        if now >= self._renew_at:
            period, silence = renewal_period(lease), self._contact.silent_for(now)
            self._renew_at, self._look_at = now + period, now + LOOK_PERIOD
            if not tokens and silence < period / 8:
                # Nothing to renew, and the database was there then: less than what trust has to spare.
                _note_renewal(children, now - silence)
                return
            if tokens:
                self._share(renew(self._database, tokens, lease), children)
            else:
                self._database.server_now()
            _note_renewal(children, now)
        elif now >= self._look_at:
            silence = self._contact.silent_for(now)
            if tokens:
                cancelled = look(self._database, tokens).cancelled
                self._tell_cancelled(cancelled, children)
            elif silence < LONGEST_SILENCE:  # the look for what is due next has kept us in touch
                self._look_at = now + LONGEST_SILENCE - silence
                return
            else:
                self._database.server_now()
            self._look_at = now + LOOK_PERIOD
        else:
            return
        self._contact.touched(now)

    def _share(self, renewal: Renewal, children: Sequence[Child]) -> None:
        for child in children:
            held = {token: ids for token, ids in renewal.held.items() if token in child.tokens}
            if held:
                child.send("held", held)
        self._tell_cancelled(renewal.cancelled, children)

    def _tell_cancelled(self, cancelled: frozenset[int], children: Sequence[Child]) -> None:
        if cancelled:
            for child in children:
                child.tell_cancelled(cancelled, time.monotonic())

    def _return_jobs(self, now: float) -> None:
        """Looked for again for a while: the server may still be at the dead process's last commit."""
        for dead in [dead for dead in self._dead if now >= dead.look_at]:
            ids = return_jobs(self._database, dead.worker_id, dead.death)
            if ids:
                begun = len(dead.death.started.intersection(ids))
                log.warning(
                    "%s: %d jobs go back, of which %d had begun", dead.death.cause, len(ids), begun
                )
                wakeup.notify(self._database)
            if dead.pauses:
                dead.look_at = now + dead.pauses.pop(0)
            else:
                self._dead.remove(dead)

    def _heartbeat(self, now: float, children: Sequence[Child]) -> None:
        """Say who is there: regularly, and at once when that changes."""
        present = _all_present(children, self._draining)
        shown = {each.id: each.state for each in present}
        if now < self._heartbeat_at and shown == self._shown and not self._left:
            return
        self.drain_asked |= sign_off(self._database, self._left)
        self._left.clear()
        self.drain_asked |= heartbeat(self._database, present)
        self._shown = shown
        self._heartbeat_at = now + HEARTBEAT_PERIOD

    def _put_rescue_off(self, sight: Sight, asked: float) -> None:
        """No lease has run out: then nothing is to be rescued until one may have."""
        if sight.lease_ends_in == 0:
            return
        try:
            self._clock_watch.check(self._database, sight.now, asked)
        except ClockLeapt:
            return  # the rescue says so
        self._rescue_at = asked + _pause_until(sight.lease_ends_in)

    def _rescue(self, now: float) -> None:
        if now < self._rescue_at:
            return
        if self._contact.unbroken_for(now) < renewal_period(self._settings.lease):
            self._rescue_at = now + SHORTEST_RESCUE_PAUSE
            return
        began = boottime()
        try:
            rescued = rescue(self._database, self._clock_watch)
        except ClockLeapt as error:
            log.warning("nothing is rescued: %s", error)
            self._rescue_at = now + LONGEST_RESCUE_PAUSE
            return
        if rescued.ids:
            log.warning(
                "rescued %d jobs of workers that were not heard of: %s",
                len(rescued.ids),
                list(rescued.ids)[:10],
            )
            wakeup.notify(self._database)
        pause = _pause_until(rescued.expires_in)
        self._rescue_at = now + max(pause, rest_after(boottime() - began))


def _note_renewal(children: Sequence[Child], at: float) -> None:
    for child in children:
        child.board.renewed_at = at


def _pause_until(expires_in: float | None) -> float:
    """Seconds until the next look for lost leases, the first of which runs out then."""
    if expires_in is None:
        return LONGEST_RESCUE_PAUSE
    return min(max(expires_in, SHORTEST_RESCUE_PAUSE), LONGEST_RESCUE_PAUSE)


def _all_present(children: Sequence[Child], draining: bool) -> list[Presence]:
    return [_presence(child, child.spec.settings, draining) for child in children if child.is_ready]


def _presence(child: Child, settings: Settings, draining: bool) -> Presence:
    state = "draining" if draining or child.is_retiring else "running"
    return Presence(
        child.worker_id, "worker", child.spec.name, child.pid, state, settings, child.running
    )
