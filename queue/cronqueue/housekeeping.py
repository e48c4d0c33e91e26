"""Housekeeping: what may take long and can wait, so it never runs in the thread that renews leases.

Ends what came too late, lets the sweeps of other packages run, deletes what was kept long enough, forgets
workers. `now` is seconds of `clock.boottime`.
"""

from __future__ import annotations

import logging
import random
import threading
from datetime import datetime, timedelta

from cronqueue.clock import boottime
from cronqueue.clockwatch import ClockWatch
from cronqueue.database import Database, is_outage
from cronqueue.errors import ClockLeapt
from cronqueue.plugins import installed
from cronqueue.prune import BATCH, expire, find_edge, forget_requests, forget_workers, prune_until
from cronqueue.settings import Settings

log = logging.getLogger("cronqueue.worker")

SWEEP_PERIOD = 5.0
PRUNE_PERIOD = 60.0
# Between two batches: others want to write as well.
BATCH_PAUSE = 0.1
FAILURE_PAUSE = 5.0
FORGET_WORKERS_AFTER = timedelta(days=1)
# Within this nobody who has lost an answer sends his request again.
FORGET_REQUESTS_AFTER = timedelta(days=1)
_LONGEST_END = 2.0


class Housekeeping:
    """These duties, each at its own time."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._clock_watch = ClockWatch()
        self._sweep_at = 0.0
        self._prune_at = boottime() + random.uniform(1, PRUNE_PERIOD)
        self._prune_edge: datetime | None = None

    def next_duty(self, now: float) -> float:
        """Seconds until the next duty."""
        return max(min(self._sweep_at, self._prune_at) - now, 0.0)

    def turn(self, now: float) -> None:
        """Do what is due. Raises what the database raises; then the duty is due again after a pause.

        Raises ClockLeapt as long as the database's time is not believed: nothing is ended or deleted by it.
        """
        if now >= self._sweep_at:
            self._sweep_at = now + FAILURE_PAUSE
            self._sweep(now)
        if now >= self._prune_at:
            self._prune_at = now + FAILURE_PAUSE
            self._clock_watch.look(self._database)
            self._prune(now)

    def _sweep(self, now: float) -> None:
        is_full = expire(self._database, self._clock_watch) >= BATCH
        for sweep in installed("cronqueue.sweep"):
            sweep(self._database)
        self._sweep_at = now + (BATCH_PAUSE if is_full else SWEEP_PERIOD)

    def _prune(self, now: float) -> None:
        """Delete a batch of what was kept long enough, and the next soon, until none is left."""
        if self._prune_edge is None:
            settings = self._settings
            self._prune_edge = find_edge(
                self._database, settings.keep_finished, settings.keep_finished_count
            )
        if prune_until(self._database, self._prune_edge) >= BATCH:
            self._prune_at = now + BATCH_PAUSE
            return
        forget_workers(self._database, FORGET_WORKERS_AFTER)
        forget_requests(self._database, FORGET_REQUESTS_AFTER)
        self._prune_edge, self._prune_at = None, now + PRUNE_PERIOD


class Housekeeper(threading.Thread):
    """The thread that does them. It ends with the process, in the middle of a statement if need be."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        super().__init__(name="housekeeping", daemon=True)
        self._housekeeping = housekeeping
        self._stop_asked = threading.Event()
        self._has_begun = False
        self._begin_at = float("-inf")

    def begin(self, now: float) -> None:
        """Start, unless that is done; where no thread can be had, again after a pause."""
        if self._has_begun or now < self._begin_at:
            return
        try:
            self.start()
            self._has_begun = True
        except RuntimeError as error:
            self._begin_at = now + FAILURE_PAUSE
            log.error(
                "housekeeping could not be started, next try in %.1f s: %s", FAILURE_PAUSE, error
            )

    def run(self) -> None:
        """Work until `stop`."""
        while not self._stop_asked.wait(self._housekeeping.next_duty(boottime())):
            try:
                self._housekeeping.turn(boottime())
            except ClockLeapt as error:
                log.warning("%s", error)
            except Exception as error:
                # Of an outage the supervisor tells, once for all of us.
                if not is_outage(error):
                    log.exception("housekeeping failed")

    def stop(self) -> None:
        """Begin no further duty; one that is being done has a moment to end."""
        self._stop_asked.set()
        if self._has_begun:
            self.join(_LONGEST_END)
