"""An outage as a service lives through it: longer and longer pauses, and few words.

Of the database mostly; of room on a disk, of memory, processes or open files just as well. `now` is seconds
of a clock that is never set.
"""

from __future__ import annotations

import logging

from cronqueue.database import is_outage
from cronqueue.errors import ClockLeapt

# However often the tries fail, and for whatever reason: a line in this time.
LOG_PERIOD = 1.0


class Outage:
    """The pauses between tries that fail."""

    def __init__(self, log: logging.Logger, first: float, longest: float) -> None:
        self._log = log
        self._first = first
        self._longest = longest
        self._logged_at = float("-inf")
        self._began_at: float | None = None
        self._is_of_database = False
        #: Seconds until the next try; 0 when the last one succeeded.
        self.pause = 0.0

    def failed(self, error: Exception, now: float) -> None:
        """A try has failed: the next one comes later."""
        self.pause = min(max(self.pause * 2, self._first), self._longest)
        if self._began_at is None:
            self._began_at = now
        self._is_of_database = is_outage(error)
        if now - self._logged_at < LOG_PERIOD:
            return
        self._logged_at = now
        if self._is_of_database:
            self._log.warning(
                "the database is away, next try in %.1f s: %s", self.pause, first_line(error)
            )
        elif isinstance(error, OSError | ClockLeapt):  # no fault of ours, and it says it all
            self._log.warning(
                "a turn failed, next try in %.1f s: %s", self.pause, first_line(error)
            )
        else:
            self._log.error("a turn failed, next try in %.1f s", self.pause, exc_info=error)

    def is_over(self, now: float) -> None:
        """A try has succeeded."""
        if self._began_at is not None:
            what = "the database is back" if self._is_of_database else "it goes on"
            self._log.info("%s after %.1f s", what, now - self._began_at)
        self._began_at, self.pause = None, 0.0


def first_line(error: BaseException) -> str:
    """An error in one line of a log."""
    original = getattr(error, "orig", None) or error
    return (str(original).strip() or type(original).__name__).splitlines()[0]
