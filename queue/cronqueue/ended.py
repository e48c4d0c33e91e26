"""What has ended in a stretch of time: how many jobs, how long they had waited, and how long they ran."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from cronqueue.database import Database

# Seconds. From what nobody notices to what nobody waits for.
BOUNDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)


@dataclass(frozen=True, slots=True)
class Spread:
    """Durations: their number, their sum in seconds, and how many are within each of BOUNDS."""

    count: int = 0
    seconds: float = 0.0
    within: tuple[int, ...] = (0,) * len(BOUNDS)

    def __add__(self, other: Spread) -> Spread:
        within = tuple(map(sum, zip(self.within, other.within, strict=True)))
        return Spread(self.count + other.count, self.seconds + other.seconds, within)


@dataclass(frozen=True, slots=True)
class Ended:
    """The jobs of a queue that have ended in one state.

    `wait` is from due to start of the last attempt, `run` from there to the end, of those that ran.
    """

    queue: str
    state: str
    jobs: int
    wait: Spread
    run: Spread


def ended_between(database: Database, after: datetime, until: datetime) -> list[Ended]:
    """What has ended after one moment, and not after the other. Reads those jobs and no others."""
    span = {"after": database.moment(after), "until": database.moment(until)}
    statement = _ENDED[database.is_postgresql]
    with database.snapshot() as connection:
        rows = connection.execute(statement, span).all()
    return [
        Ended(row.queue, row.state, row.jobs, _spread(row[3:], 0), _spread(row[3:], 1))
        for row in rows
    ]


def _spread(figures: tuple[float, ...], number: int) -> Spread:
    count, seconds, *within = figures[number * _FIGURES : (number + 1) * _FIGURES]
    return Spread(int(count), float(seconds), tuple(map(int, within)))


# Of each spread: count, sum, one for each bound.
_FIGURES = 2 + len(BOUNDS)


def _seconds(is_postgresql: bool, start: str, end: str) -> str:
    """SQLite's times are text; a day's fraction is exact to some microseconds."""
    if is_postgresql:
        return f"EXTRACT(EPOCH FROM {end} - {start})"
    return f"(julianday({end}) - julianday({start})) * 86400.0"


def _figures_of(column: str) -> str:
    """Clocks jitter: what is below zero counts as zero."""
    total = f"COALESCE(SUM(CASE WHEN {column} > 0 THEN {column} ELSE 0 END), 0)"
    within = (f"COUNT(*) FILTER (WHERE {column} <= {bound})" for bound in BOUNDS)
    return ", ".join((f"COUNT({column})", total, *within))


# What was cancelled or skipped may have started once; that says nothing of how long it waited or ran.
_RAN = "state IN ('succeeded', 'failed')"
# The condition on the states is that of the index: ended jobs by their end.
_ENDED = {
    is_postgresql: text(f"""
SELECT queue, state, COUNT(*) AS jobs, {_figures_of("wait")}, {_figures_of("run")} FROM (
    SELECT queue, state,
        CASE WHEN {_RAN} THEN {_seconds(is_postgresql, "run_at", "started_at")} END AS wait,
        CASE WHEN {_RAN} THEN {_seconds(is_postgresql, "started_at", "finished_at")} END AS run
    FROM sched_jobs WHERE state IN ('succeeded', 'failed', 'cancelled', 'skipped')
        AND finished_at > :after AND finished_at <= :until
) AS ended GROUP BY queue, state
""")
    for is_postgresql in (True, False)
}
