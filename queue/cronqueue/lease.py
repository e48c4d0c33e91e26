"""Leases: renewing them, and knowing whether one still holds.

A lease is renewed every third of its length while its job is held, however long the job runs, by a
process that the job cannot starve. Only rows past a third of theirs are written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, text

from cronqueue.database import Database

# A process is in touch when its turns with the database were never further apart than this.
LONGEST_GAP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Renewal:
    """What the database says of our claims: the jobs still held by each token, those to be cancelled."""

    held: dict[str, frozenset[int]]
    cancelled: frozenset[int]


class Contact:
    """How long this process has been in touch with the database without a gap.

    Seconds are of `clock.boottime`, which goes on while the machine sleeps. Pure: time is handed in.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._last: float | None = None

    def touched(self, at: float) -> None:
        """A statement succeeded at this time."""
        if self._last is None or at - self._last > LONGEST_GAP_SECONDS:
            self._since = at
        self._last = at

    def silent_for(self, at: float) -> float:
        """Seconds since the last statement that succeeded."""
        return math.inf if self._last is None else at - self._last

    def lost(self) -> None:
        """A statement failed: the line is gone."""
        self._since = self._last = None

    def unbroken_for(self, at: float) -> float:
        """Seconds of uninterrupted contact until now; 0 when it is broken."""
        if self._since is None or self._last is None or at - self._last > LONGEST_GAP_SECONDS:
            return 0.0
        return at - self._since


def renewal_period(lease: timedelta) -> float:
    """Seconds between renewals."""
    return lease.total_seconds() / 3


def renew(database: Database, lock_tokens: Iterable[str], lease: timedelta) -> Renewal:
    """Renew the leases of these claims, and look which jobs they still hold."""
    tokens = sorted(lock_tokens)
    parameters = {
        "tokens": database.listed(tokens),
        "lease": lease.total_seconds(),
        "past_a_third": lease.total_seconds() * 2 / 3,
    }

    def work(connection: Connection) -> Renewal:
        if database.is_postgresql:
            connection.execute(
                text(_RENEW_POSTGRESQL.format(now=database.now_sql)),
                parameters | database.now_parameter(),
            )
        else:
            now = database.clock.now()
            connection.execute(
                text(_RENEW_SQLITE),
                parameters
                | {
                    "until": database.moment(now + lease),
                    "edge": database.moment(now + lease * 2 / 3),
                },
            )
        return _look(database, connection, tokens)

    return database.write(work)


def look(database: Database, lock_tokens: Iterable[str]) -> Renewal:
    """Which jobs these claims hold, and which of them are to be cancelled, without renewing."""
    with database.snapshot() as connection:
        return _look(database, connection, sorted(lock_tokens))


# Locked first, and only what is free: finishes lock the same rows in another order, and a plain UPDATE
# deadlocks with them every second. A row that was skipped is being finished, or comes next time.
_RENEW_POSTGRESQL = """
WITH ours AS MATERIALIZED (
    SELECT id FROM sched_jobs
    WHERE state = 'running' AND lock_token = ANY(:tokens)
        AND locked_until < {now} + make_interval(secs => :past_a_third)
    ORDER BY id FOR UPDATE SKIP LOCKED)
UPDATE sched_jobs SET locked_until = {now} + make_interval(secs => :lease)
WHERE id = ANY(ARRAY(SELECT id FROM ours))
"""
_RENEW_SQLITE = """
UPDATE sched_jobs SET locked_until = :until
WHERE state = 'running' AND lock_token IN (SELECT value FROM json_each(:tokens)) AND locked_until < :edge
"""
_HELD = """
SELECT id, lock_token, cancel_requested_at IS NOT NULL AS cancelled FROM sched_jobs
WHERE state = 'running' AND lock_token {among}
"""


def _look(database: Database, connection: Connection, tokens: list[str]) -> Renewal:
    statement = text(_HELD.format(among=database.among("tokens")))
    rows = connection.execute(statement, {"tokens": database.listed(tokens)}).all()
    held: dict[str, set[int]] = {token: set() for token in tokens}
    for row in rows:
        held[row.lock_token].add(row.id)
    return Renewal(
        {token: frozenset(ids) for token, ids in held.items()},
        frozenset(row.id for row in rows if row.cancelled),
    )
