"""The only module that reads a wall clock. Everything else is handed `now`.

What is due is decided by the database's clock, so that the clocks of the workers do not matter. SQLite
has no server: there the clock of its one machine is bound as a parameter, in the form in which times
are stored (SQLite's own `strftime('%f')` has milliseconds only and would sort wrongly beside them).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Answers what time it is, to SQL and to Python."""

    def sql(self, dialect: str) -> str:
        """The SQL expression for now: the server's function, or the bound parameter `:now`."""

    def now(self) -> datetime:
        """The value to bind as `:now`; aware, UTC."""


class SystemClock:
    """The clock of production."""

    def sql(self, dialect: str) -> str:
        # Not now(): that is the start of the transaction, and a claim that waited for a lock would
        # judge by a time long past. Not clock_timestamp(): it is volatile and cannot bound an index scan.
        return "statement_timestamp()" if dialect == "postgresql" else ":now"

    def now(self) -> datetime:
        return utcnow()


class ManualClock:
    """A clock that stands still until it is moved: for tests and simulations."""

    def __init__(self, start: datetime) -> None:
        self.time = start

    def sql(self, dialect: str) -> str:
        return "CAST(:now AS timestamptz)" if dialect == "postgresql" else ":now"

    def now(self) -> datetime:
        return self.time


def utcnow() -> datetime:
    """This machine's wall clock, aware, in UTC."""
    return datetime.now(UTC)


def boottime() -> float:
    """Seconds that also pass while the machine is suspended; equal in all processes of one machine."""
    return time.clock_gettime(_BOOTTIME)
