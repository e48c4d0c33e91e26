"""A watch on the database's clock: when it leaps ahead, what must not happen by a wrong clock waits.

A clock that is suddenly a day ahead makes a day of occurrences due at once, and what was to be kept for a
week too old. Every process knows how much time has passed since it asked last. Whatever says otherwise is
believed once it has been said again for a while: the clock may have been wrong before.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from cronqueue.clock import SystemClock, boottime
from cronqueue.database import Database, read_now
from cronqueue.errors import ClockLeapt

# A step ahead of our own clock that is no step: a busy database, a clock that is being brought right.
LIMIT = timedelta(minutes=5)
# So many more answers have to agree, so many seconds apart at least.
PASSES = 3
PASS_SECONDS = 4.0


class ClockWatch:
    """What one process knows of the database's clock. Pure but for `check`.

    Our own seconds are of `clock.boottime`, so a machine that was suspended sees no leap.
    """

    def __init__(self, limit: timedelta = LIMIT) -> None:
        self._limit = limit
        self._seen: tuple[datetime, float] | None = None
        # Since the leap: how many answers have agreed, and when the last one that counts.
        self._leapt_by: timedelta | None = None
        self._agreed, self._agreed_at = 0, 0.0

    def look(self, database: Database) -> None:
        """Ask the database for its time. Raises ClockLeapt as long as that is not believed."""
        asked_at = boottime()
        self.check(database, database.server_now(), asked_at)

    def look_in(self, database: Database, connection: Connection) -> None:
        """The same in a transaction of the caller's."""
        asked_at = boottime()
        self.check(database, read_now(database, connection), asked_at)

    def check(self, database: Database, now: datetime, asked_at: float) -> None:
        """The same for a `now` that was read just now."""
        # A clock that a test moves leaps as it is told to.
        if not isinstance(database.clock, SystemClock):
            return
        if (leap := self.doubt(now, asked_at, boottime())) is not None:
            raise ClockLeapt(leap)

    def doubt(self, now: datetime, asked_at: float, at: float) -> timedelta | None:
        """How far the clock has leapt ahead, as long as that is not believed.

        Our own seconds: `asked_at`, and `at` when the answer was there. A slow answer is no leap.
        """
        ahead = timedelta(0)
        if self._seen is not None:
            before, then = self._seen
            ahead = now - before - timedelta(seconds=at - then)
        self._seen = (now, asked_at)
        if ahead > self._limit:
            self._leapt_by, self._agreed, self._agreed_at = ahead, 0, at
        elif ahead < -self._limit:
            self._leapt_by = None  # it is back
        elif self._leapt_by is not None and at - self._agreed_at >= PASS_SECONDS:
            self._agreed, self._agreed_at = self._agreed + 1, at
            if self._agreed >= PASSES:
                self._leapt_by = None
        return self._leapt_by
