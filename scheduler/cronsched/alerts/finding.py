"""What has happened that nobody has been told of, and what is wrong now, read from the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue.columns import Instant
from cronqueue.database import Database
from cronqueue.overview import WorkerStatus, list_workers, takes_priority, takes_queue
from cronqueue.tracebacks import error_line
from cronsched.alerts.deciding import Condition, Incident
from cronsched.alerts.lateness import late_since
from cronsched.alerts.pings import Ping, find_pings
from cronsched.alerts.runs import Run, marks_of, newest_runs
from cronsched.definition import Definition
from cronsched.triggers import to_text
from cronsched.watching import Watched

# What happened longer ago was over before anybody asked.
FRESH = timedelta(hours=1)
# At a look; the next one finds the rest.
MOST_AT_ONCE = 2_000
# Of an error: whatever its text holds goes to others.
LONGEST_ERROR = 200


def find_incidents(database: Database, connection: Connection, now: datetime) -> list[Incident]:
    """Jobs that have failed and occurrences that were missed since anybody looked."""
    fresh = {"since": database.moment(now - FRESH), "limit": MOST_AT_ONCE}
    found = [_failed(row) for row in connection.execute(_FAILED, fresh)]
    return found + [_missed(row) for row in connection.execute(_MISSED, fresh)]


def find_of_runs(
    database: Database, connection: Connection, watched: Sequence[Watched], now: datetime
) -> tuple[list[Incident], list[Ping]]:
    """Runs of the watched schedules that have become late, and what their addresses have not heard of."""
    late: list[Incident] = []
    pings: list[Ping] = []
    for each in watched:
        made = each.definition
        if made.ping is None and made.must_start_within is None and made.must_finish_by is None:
            continue
        runs = newest_runs(database, connection, made.name, now)
        since = runs[0].planned_for if runs else now
        marks = marks_of(database, connection, made.name, since)
        if not each.is_paused:
            late += _late(made, runs, marks, now)
        if made.ping is not None:
            pings += find_pings(made.name, made.ping, runs, marks, now)
    return late, pings


def find_conditions(database: Database, connection: Connection) -> list[Condition]:
    """What is wrong now."""
    alive = [each for each in list_workers(database) if each.state != "silent"]
    promised = list(_readable(connection.execute(_SCHEDULES).scalars().all()))
    waiting = {(row.queue, row.priority) for row in connection.execute(_WAITING)}
    waiting |= {(each.queue, each.priority) for each in promised if each.enabled}
    return [*_without_daemon(alive, promised), *_without_worker(alive, waiting)]


def _readable(definitions: Iterable[str]) -> Iterator[Definition]:
    """What nobody can read is told by `sched check`; the others count."""
    for each in definitions:
        with suppress(Exception):  # anything may have been written there by hand
            yield Definition.from_json(each)


def _unmarked(kind: str, subject: str, moment: str) -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM sched_alert_marks m WHERE m.kind = '{kind}'"
        f" AND m.subject = {subject} AND m.moment = {moment})"
    )


# The condition on the states is that of the index.
_FAILED = text(f"""
SELECT j.id, j.task, j.schedule, j.queue, j.attempts, j.reason, j.finished_at,
    substr(j.last_error, 1, 65536) AS last_error
FROM sched_jobs j
WHERE j.state IN ('succeeded', 'failed', 'cancelled', 'skipped') AND j.state = 'failed'
    AND j.finished_at > :since AND {_unmarked("failed", "CAST(j.id AS TEXT)", "j.finished_at")}
ORDER BY j.finished_at LIMIT :limit
""").columns(finished_at=Instant())
_MISSED = text(f"""
SELECT o.schedule, o.planned_for, o.verdict, o.decided_at FROM sched_occurrences o
WHERE substr(o.verdict, 1, 7) = 'missed:' AND o.decided_at > :since
    AND {_unmarked("missed", "o.schedule", "o.planned_for")}
ORDER BY o.decided_at, o.planned_for LIMIT :limit
""").columns(planned_for=Instant(), decided_at=Instant())
_SCHEDULES = text("SELECT definition FROM sched_schedules WHERE state = 'active' ORDER BY name")
# Queue by queue and priority by priority, each found by one step in the index, however many jobs wait.
_NEXT = "FROM sched_jobs WHERE state = 'queued' AND NOT gated"
_WAITING = text(f"""
WITH RECURSIVE of_queue(queue) AS (
    SELECT MIN(queue) {_NEXT}
    UNION ALL
    SELECT (SELECT MIN(queue) {_NEXT} AND queue > of_queue.queue) FROM of_queue
    WHERE of_queue.queue IS NOT NULL
), lane(queue, priority) AS (
    SELECT queue, (SELECT MAX(priority) {_NEXT} AND queue = of_queue.queue) FROM of_queue
    WHERE queue IS NOT NULL
    UNION ALL
    SELECT queue, (SELECT MAX(priority) {_NEXT} AND queue = lane.queue AND priority < lane.priority)
    FROM lane WHERE lane.priority IS NOT NULL
)
SELECT queue, priority FROM lane WHERE priority IS NOT NULL
""")


def _failed(row: Row[Any]) -> Incident:
    error = error_line(row.last_error) or row.reason or "no reason given"
    name = error.partition(":")[0][:100]
    return Incident(
        kind="failed",
        cause=f"failed:{row.schedule or row.task}:{name}",
        subject=row.schedule or row.task,
        message=error[:LONGEST_ERROR],
        at=row.finished_at,
        mark=("failed", str(row.id), row.finished_at),
        facts={"task": row.task, "schedule": row.schedule, "queue": row.queue},
        named=row.id,
    )


def _missed(row: Row[Any]) -> Incident:
    return Incident(
        kind="missed",
        cause=f"missed:{row.schedule}",
        subject=row.schedule,
        message=f"that of {_shown(row.planned_for)}: {row.verdict}",
        at=row.decided_at,
        mark=("missed", row.schedule, row.planned_for),
        facts={"schedule": row.schedule},
        named=to_text(row.planned_for),
    )


def _late(
    made: Definition, runs: Sequence[Run], marks: Set[tuple[str, datetime]], now: datetime
) -> Iterator[Incident]:
    for run in runs:
        for fault in late_since(made, run, now, FRESH):
            if (fault.what, run.planned_for) not in marks:
                yield Incident(
                    kind="late",
                    cause=f"late:{made.name}",
                    subject=made.name,
                    message=f"that of {_shown(run.planned_for)} {fault.words}",
                    at=fault.at,
                    mark=(fault.what, made.name, run.planned_for),
                    facts={"schedule": made.name},
                    named=to_text(run.planned_for),
                )


def _without_daemon(
    alive: Sequence[WorkerStatus], promised: Sequence[Definition]
) -> Iterator[Condition]:
    if promised and not any(each.kind == "daemon" for each in alive):
        yield Condition(
            kind="daemon",
            cause="daemon",
            subject="daemon",
            message="no daemon has been heard of: what is written runs on, no more comes; start sched daemon",
        )


def _without_worker(
    alive: Sequence[WorkerStatus], waiting: Iterable[tuple[str, int]]
) -> Iterator[Condition]:
    workers = [each for each in alive if each.kind == "worker"]
    alone: dict[str, list[int]] = {}
    for queue, priority in sorted(waiting, key=lambda each: (each[0], -each[1])):
        if not any(takes_queue(w, queue) and takes_priority(w, priority) for w in workers):
            alone.setdefault(queue, []).append(priority)
    for queue, priorities in alone.items():
        shown = ", ".join(map(str, priorities[:10]))
        yield Condition(
            kind="coverage",
            cause=f"coverage:{queue}",
            subject=f"queue {queue}",
            message=f"no live worker takes queue {queue} with priority {shown}: start one that does",
            facts={"queue": queue, "priorities": priorities[:10]},
        )


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
