"""What stands in the ledger: read, changed and taken back as a plan says.

A job that somebody has at this moment is left to them, and what RETURNING gives back is believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from cronqueue.columns import to_text
from cronqueue.database import Database
from cronqueue.insertion import NewJob
from cronsched.planner import Ahead, Written
from cronsched.rowsets import bound, chunks, json_columns, returned, table_of


def read_ahead(
    database: Database, connection: Connection, names: Iterable[str], now: datetime
) -> dict[str, Ahead]:
    """What each schedule has between now and its cursor."""
    parameters = {"names": json.dumps(list(names)), "now": database.moment(now)}
    rows = connection.execute(bound(database, _AHEAD, "last", "before"), parameters)
    return {
        row.name: Ahead(row.written, tuple(each for each in (row.last, row.before) if each))
        for row in rows
    }


def read_written(
    database: Database, connection: Connection, names: Iterable[str], now: datetime, *, lock: bool
) -> dict[str, list[Written]]:
    """The occurrences after now. With `lock` no worker or operator changes their jobs until the end.

    A job that is being changed at this moment is not waited for: it comes as busy.
    """
    parameters = {"names": json.dumps(list(names)), "now": database.moment(now)}
    locked: set[int] | None = None
    if lock and database.is_postgresql:
        locked = set(connection.execute(bound(database, _LOCK_WAITING), parameters).scalars())
    found: dict[str, list[Written]] = {}
    for row in connection.execute(bound(database, _WRITTEN, "planned_for", "run_at"), parameters):
        found.setdefault(row.schedule, []).append(as_written(row, locked))
    return found


def amend(database: Database, connection: Connection, jobs: Mapping[int, NewJob]) -> int:
    """Give waiting jobs what their schedule says now; returns how many still waited."""
    rows = [{"id": job_id, **payload(job)} for job_id, job in jobs.items()]
    statement = bound(
        database, _AMEND.format(rows=table_of(database, PAYLOAD), **json_columns(database))
    )
    return sum(
        len(returned(database, connection, statement, chunk, database.now_parameter()))
        for chunk in chunks(rows)
    )


def cancel(database: Database, connection: Connection, job_ids: Iterable[int], verdict: str) -> int:
    """End waiting jobs and write the verdict on their occurrences; returns how many still waited."""
    total = 0
    for chunk in chunks(sorted(job_ids)):
        parameters = {"verdict": verdict} | database.now_parameter()
        ended = connection.execute(
            bound(database, _CANCEL), parameters | {"ids": json.dumps(chunk)}
        ).scalars()
        parameters["ids"] = json.dumps(chunk := ended.all())
        connection.execute(bound(database, _JUDGE), parameters)
        total += len(chunk)
    return total


def find_removable(
    database: Database, connection: Connection, names: Iterable[str], *, drain: bool, lock: bool
) -> list[int]:
    """The jobs that go when their schedules do; with `drain` those due or tried stay."""
    parameters = {"names": json.dumps(list(names))} | database.now_parameter()
    statement = _REMOVABLE + (_NOT_BEGUN if drain else "") + (_lock(database) if lock else "")
    return list(connection.execute(bound(database, statement), parameters).scalars())


def renumber(database: Database, connection: Connection, revisions: Mapping[str, int]) -> None:
    """Count what is still open after now to the schedules' new revisions."""
    rows = [{"name": name, "revision": revision} for name, revision in revisions.items()]
    statement = bound(
        database, _RENUMBER.format(rows=table_of(database, {"name": "text", "revision": "int"}))
    )
    for chunk in chunks(rows):
        connection.execute(statement, {"rows": json.dumps(chunk)} | database.now_parameter())


def as_written(row: Row[Any], locked: set[int] | None) -> Written:
    """A row of `_WRITTEN`; busy if it waits and is not among those that we have locked."""
    waits = row.state in ("queued", "held")
    return Written(
        row.planned_for,
        row.verdict,
        row.job_id,
        row.state,
        row.attempts or 0,
        row.run_at,
        bool(row.pinned),
        busy=waits and locked is not None and row.job_id not in locked,
    )


def payload(job: NewJob) -> dict[str, Any]:
    """What a change of the schedule gives to a waiting job."""
    return {
        "task": job.task,
        "args": job.args_json,
        "queue": job.queue,
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "timeout": job.timeout,
        "run_at": None if job.run_at is None else to_text(job.run_at),
        "expires_at": None if job.expires_at is None else to_text(job.expires_at),
        "held_reason": job.held_reason,
        "guard": job.guard,
        "tags": job.tags_json,
    }


PAYLOAD = {
    "id": "bigint",
    "task": "text",
    "args": "text",
    "queue": "text",
    "priority": "int",
    "max_attempts": "int",
    "timeout": "float8",
    "run_at": "timestamptz",
    "expires_at": "timestamptz",
    "held_reason": "text",
    "guard": "text",
    "tags": "text",
}
_AMEND = """
UPDATE sched_jobs SET task = new.task, args = {args}, queue = new.queue,
    priority = new.priority, max_attempts = new.max_attempts, timeout = new.timeout, run_at = new.run_at,
    expires_at = new.expires_at, tags = {tags},
    updated_at = {{now}},
    guard = new.guard, gated = (new.guard IS NOT NULL)
FROM {rows}
WHERE sched_jobs.id = new.id AND slot IS NULL AND state IN ('queued', 'held') AND attempts = 0 AND NOT pinned
RETURNING sched_jobs.id
"""
_CANCEL = """
UPDATE sched_jobs SET state = 'cancelled', reason = :verdict, held_reason = NULL, unique_key = NULL,
    slot = NULL, gated = {no}, finished_at = {now}, updated_at = {now}
WHERE id IN ({ids}) AND state IN ('queued', 'held') RETURNING id
"""
_JUDGE = """
UPDATE sched_occurrences SET verdict = :verdict, decided_at = {now}
WHERE job_id IN ({ids}) AND verdict IS NULL
"""
_RENUMBER = """
UPDATE sched_occurrences SET revision = new.revision FROM {rows}
WHERE sched_occurrences.schedule = new.name AND planned_for > {{now}} AND verdict IS NULL
"""
_AHEAD = """
SELECT s.name, COUNT(o.planned_for) AS written,
    (SELECT planned_for FROM sched_occurrences l WHERE l.schedule = s.name AND {ahead_l}
        ORDER BY planned_for DESC LIMIT 1) AS last,
    (SELECT planned_for FROM sched_occurrences b WHERE b.schedule = s.name AND {ahead_b}
        ORDER BY planned_for DESC LIMIT 1 OFFSET 1) AS before
FROM sched_schedules s LEFT JOIN sched_occurrences o ON o.schedule = s.name AND {ahead_o}
WHERE s.name IN ({{names}}) GROUP BY s.name
"""
_AHEAD = _AHEAD.format(
    **{
        f"ahead_{each}": f"{each}.planned_for > :now"
        f" AND {each}.planned_for <= s.materialized_until AND {each}.verdict IS NULL"
        for each in "lbo"
    }
)
_LOCK_WAITING = """
SELECT id FROM sched_jobs WHERE schedule IN ({names}) AND planned_for > :now
    AND state IN ('queued', 'held') ORDER BY id FOR UPDATE SKIP LOCKED
"""
_WRITTEN = """
SELECT o.schedule, o.planned_for, o.verdict, o.job_id, j.state, j.attempts, j.run_at, j.pinned
FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id
WHERE o.schedule IN ({names}) AND o.planned_for > :now
ORDER BY o.schedule, o.planned_for
"""
_REMOVABLE = """
SELECT id FROM sched_jobs WHERE schedule IN ({names}) AND origin IN ('schedule', 'backfill')
    AND state IN ('queued', 'held')
"""
_NOT_BEGUN = " AND planned_for > {now} AND attempts = 0"


def _lock(database: Database) -> str:
    """Whoever has a job at this moment keeps it: it has started, or an operator decides."""
    return " ORDER BY id FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""
