"""The newest runs of one schedule, and what of them has been seen to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database

MOST_RUNS = 200


@dataclass(frozen=True, slots=True)
class Run:
    """One occurrence whose time has come.

    `moved_to`: where an operator has put it. `verdict`: that, or its job's state. `began_at`: its first
    attempt; `started_at`: its last one.
    """

    planned_for: datetime
    moved_to: datetime | None
    verdict: str | None
    began_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


def newest_runs(
    database: Database, connection: Connection, schedule: str, now: datetime
) -> list[Run]:
    """The newest ones, in the order of their times."""
    chosen = {"name": schedule, "now": database.moment(now), "limit": MOST_RUNS}
    return [Run(*row) for row in reversed(connection.execute(_RUNS, chosen).all())]


def marks_of(
    database: Database, connection: Connection, schedule: str, since: datetime
) -> set[tuple[str, datetime]]:
    """What has been seen to of the runs since then: its kind, and what the run was planned for."""
    chosen = {"name": schedule, "since": database.moment(since)}
    return {(row.kind, row.moment) for row in connection.execute(_MARKS, chosen)}


_RUNS = text("""
SELECT o.planned_for, v.run_at AS moved_to, COALESCE(o.verdict, j.state) AS verdict,
    COALESCE((SELECT MIN(a.started_at) FROM sched_attempts a WHERE a.job_id = j.id), j.started_at)
        AS began_at,
    j.started_at, COALESCE(j.finished_at, o.decided_at) AS ended_at
FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id
    LEFT JOIN sched_overrides v ON v.schedule = o.schedule AND v.planned_for = o.planned_for
WHERE o.schedule = :name AND o.planned_for <= :now ORDER BY o.planned_for DESC LIMIT :limit
""").columns(
    planned_for=Instant(),
    moved_to=Instant(),
    began_at=Instant(),
    started_at=Instant(),
    ended_at=Instant(),
)
_MARKS = text("""
SELECT kind, moment FROM sched_alert_marks
WHERE kind IN ('start', 'finish', 'ping-start', 'ping-success', 'ping-fail')
    AND subject = :name AND moment >= :since
""").columns(moment=Instant())
