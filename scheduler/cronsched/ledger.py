"""The ledger's rows and their jobs, written together.

The primary key (schedule, planned_for) says which occurrences are new; only those get a job.

Callers hold the row of the schedule, so that nobody else writes its occurrences meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from cronqueue.arrays import to_array
from cronqueue.columns import to_text
from cronqueue.database import Database, prepared
from cronqueue.insertion import NewJob, insert_jobs
from cronqueue.serialization import encode_value
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.gate import guard_of
from cronsched.ledger_changes import PAYLOAD, as_written, payload
from cronsched.planner import BY_PLAN, Planned
from cronsched.rowsets import bound, chunks, json_columns, no, returned, table_of

# The verdict on an occurrence that somebody has decided to skip.
SKIPPED_BY_HAND = "skipped:override"
# A schedule's name and a planned time: what identifies an occurrence.
Key = tuple[str, datetime]


@dataclass(frozen=True, slots=True)
class NewOccurrence:
    """An occurrence to be written, and the job that it becomes."""

    schedule: str
    revision: int
    planned: Planned
    job: NewJob


def new_job(
    definition: Definition, planned: Planned, settings: Settings, *, paused: bool
) -> NewJob:
    """The job of one occurrence."""
    within, guard = definition.start_within, guard_of(definition)
    return NewJob(
        task=definition.task,
        args_json=definition.args_json,
        queue=definition.queue,
        priority=definition.priority,
        max_attempts=definition.max_attempts or settings.max_attempts,
        run_at=planned.run_at,
        timeout=None if definition.timeout is None else definition.timeout.total_seconds(),
        expires_at=None if within is None else planned.run_at + within,
        tags_json=encode_value(dict(definition.tags)) if definition.tags else None,
        origin="schedule",
        schedule=definition.name,
        planned_for=planned.planned_for,
        guard=guard,
        gated=guard is not None,
        held_reason="paused" if paused else None,
    )


def write(database: Database, connection: Connection, new: Sequence[NewOccurrence]) -> int:
    """Write the occurrences that are not there yet, and bring back those that a plan had taken back.

    Returns how many jobs were queued or held by it; everything else stays as it is.
    """
    return sum(_write(database, connection, chunk) for chunk in chunks(new))


def find_decisions(
    database: Database, connection: Connection, names: Iterable[str]
) -> dict[Key, Row[Any]]:
    """What operators have decided about single occurrences of these schedules."""
    parameters = {"names": json.dumps(sorted(names))}
    rows = connection.execute(bound(database, _OVERRIDES, "planned_for", "run_at"), parameters)
    return {(row.schedule, row.planned_for): row for row in rows}


def write_backfill(
    database: Database, connection: Connection, new: Sequence[NewOccurrence]
) -> None:
    """Give each occurrence a job: a new one, or the one that it had and that did not run."""
    for chunk in chunks(new):
        there = _find_there(database, connection, chunk)
        absent = [each for each in chunk if (each.schedule, each.planned.planned_for) not in there]
        _insert(database, connection, absent, [None] * len(absent))
        rows = [
            {**_key(each), **payload(each.job), "batch_id": each.job.batch_id} for each in chunk
        ]
        shape = table_of(database, _KEYS | PAYLOAD | {"batch_id": "text"})
        statement = _REOPEN.format(rows=shape, **json_columns(database))
        reopen = bound(database, statement, "planned_for")
        reopened = returned(database, connection, reopen, rows, database.now_parameter())
        had = {(row.schedule, row.planned_for): row.id for row in reopened}
        ids = {(each.schedule, each.planned.planned_for): each for each in chunk}
        fresh = [each for key, each in ids.items() if key not in had]
        made = insert_jobs(database, connection, [each.job for each in fresh])
        pairs = [*zip(fresh, made, strict=True), *((ids[key], had[key]) for key in had)]
        _set_jobs(database, connection, pairs)


_KEYS = {"schedule": "text", "planned_for": "timestamptz"}
_SPAN = {"schedule": "text", "since": "timestamptz", "until": "timestamptz"}
_THERE = """
SELECT o.schedule, o.planned_for FROM {rows} JOIN sched_occurrences o
    ON o.schedule = new.schedule AND o.planned_for >= new.since AND o.planned_for <= new.until
"""
_INSERT_ROWS = """
INSERT INTO sched_occurrences (schedule, planned_for, revision, utc_offset, job_id)
VALUES (:schedule, :planned_for, :revision, :utc_offset, :job_id)
"""
_INSERT_ARRAYS = """
INSERT INTO sched_occurrences (schedule, planned_for, revision, utc_offset, job_id)
SELECT * FROM unnest(CAST(:schedule AS text[]), CAST(:planned_for AS timestamptz[]),
    CAST(:revision AS int[]), CAST(:utc_offset AS int[]), CAST(:job_id AS bigint[]))
"""
_SET_JOBS = """
UPDATE sched_occurrences SET job_id = new.job_id, verdict = NULL, decided_at = NULL, revision = new.revision
FROM {rows}
WHERE sched_occurrences.schedule = new.schedule AND sched_occurrences.planned_for = new.planned_for
"""
_TAKEN_BACK = """
SELECT o.schedule, o.planned_for, o.verdict, o.job_id, j.state, j.attempts, j.run_at, j.pinned
FROM {rows} JOIN sched_occurrences o ON o.schedule = new.schedule AND o.planned_for = new.planned_for
LEFT JOIN sched_jobs j ON j.id = o.job_id
WHERE o.verdict IN {by_plan}
"""
_REVIVE = """
UPDATE sched_jobs SET state = CASE WHEN new.held_reason IS NULL THEN 'queued' ELSE 'held' END,
    held_reason = new.held_reason, task = new.task, args = {args}, queue = new.queue,
    priority = new.priority, max_attempts = new.max_attempts, timeout = new.timeout, run_at = new.run_at,
    expires_at = new.expires_at, tags = {tags},
    reason = NULL, finished_at = NULL, pinned = {no}, updated_at = {{now}},
    guard = new.guard, gated = (new.guard IS NOT NULL)
FROM {rows}
WHERE sched_jobs.id = new.id AND state = 'cancelled' AND attempts = 0 AND reason IN {by_plan}
RETURNING sched_jobs.id
"""
_OVERRIDES = """
SELECT schedule, planned_for, action, run_at, priority FROM sched_overrides WHERE schedule IN ({names})
"""
_SKIP = """
UPDATE sched_occurrences SET verdict = :verdict, decided_at = {{now}}
FROM {rows}
WHERE sched_occurrences.schedule = new.schedule AND sched_occurrences.planned_for = new.planned_for
    AND (job_id IS NULL OR verdict IN {by_plan})
"""
# A job that was skipped, or cancelled with the backfill that it came from, before it had started.
_REOPEN = """
UPDATE sched_jobs SET state = 'queued', held_reason = NULL, task = new.task, args = {args},
    queue = new.queue, priority = new.priority, max_attempts = new.max_attempts, timeout = new.timeout,
    run_at = new.run_at, expires_at = new.expires_at, guard = new.guard,
    gated = (new.guard IS NOT NULL), origin = 'backfill', batch_id = new.batch_id, attempts = 0,
    reason = NULL, finished_at = NULL, updated_at = {{now}}
FROM {rows}, sched_occurrences
WHERE sched_occurrences.schedule = new.schedule AND sched_occurrences.planned_for = new.planned_for
    AND sched_jobs.id = sched_occurrences.job_id AND sched_jobs.started_at IS NULL
    AND sched_jobs.state IN ('skipped', 'cancelled')
RETURNING sched_jobs.id, sched_jobs.schedule, sched_jobs.planned_for
"""


def _write(database: Database, connection: Connection, new: Sequence[NewOccurrence]) -> int:
    there = _find_there(database, connection, new)
    by_key = {(each.schedule, each.planned.planned_for): each for each in new}
    wanted, skipped = _as_decided(database, connection, by_key)
    fresh = [each for key, each in wanted.items() if key not in there]
    ids: list[int | None] = [*insert_jobs(database, connection, [each.job for each in fresh])]
    without_job = [each for key, each in skipped.items() if key not in there]
    ids += [None] * len(without_job)
    _insert(database, connection, [*fresh, *without_job], ids)
    _skip(database, connection, skipped.values())
    if len(fresh) == len(wanted):
        return len(fresh)
    known = {key: each for key, each in wanted.items() if key in there}
    return len(fresh) + _revive(database, connection, known)


def _find_there(
    database: Database, connection: Connection, new: Sequence[NewOccurrence]
) -> set[Key]:
    """What stands in the ledger already, from the first to the last new occurrence of each schedule."""
    spans: dict[str, list[datetime]] = {}
    for each in new:
        moment = each.planned.planned_for
        span = spans.setdefault(each.schedule, [moment, moment])
        span[0], span[1] = min(span[0], moment), max(span[1], moment)
    rows = [
        {"schedule": schedule, "since": to_text(since), "until": to_text(until)}
        for schedule, (since, until) in spans.items()
    ]
    statement = bound(database, _THERE.format(rows=table_of(database, _SPAN)), "planned_for")
    found = returned(database, connection, statement, rows, {})
    return {(row.schedule, row.planned_for) for row in found}


def _as_decided(
    database: Database, connection: Connection, by_key: Mapping[Key, NewOccurrence]
) -> tuple[dict[Key, NewOccurrence], dict[Key, NewOccurrence]]:
    """With what operators have decided about single occurrences; and those that they have skipped."""
    found = find_decisions(database, connection, {schedule for schedule, _ in by_key})
    skipped = {
        key: by_key[key] for key, row in found.items() if key in by_key and row.action == "skip"
    }
    wanted = {
        key: _overridden(each, found[key]) if key in found else each
        for key, each in by_key.items()
        if key not in skipped
    }
    return wanted, skipped


def _skip(database: Database, connection: Connection, skipped: Iterable[NewOccurrence]) -> None:
    rows = [_key(each) for each in skipped]
    if rows:
        shape = table_of(database, _KEYS)
        statement = bound(database, _SKIP.format(rows=shape, by_plan=BY_PLAN))
        parameters = {"verdict": SKIPPED_BY_HAND, "rows": json.dumps(rows)}
        connection.execute(statement, parameters | database.now_parameter())


def _overridden(each: NewOccurrence, row: Row[Any]) -> NewOccurrence:
    job = each.job
    run_at: datetime | None = row.run_at or job.run_at
    expires_at = job.expires_at
    if expires_at is not None and job.run_at is not None and run_at is not None:
        expires_at += run_at - job.run_at
    priority = job.priority if row.priority is None else row.priority
    changed = replace(job, run_at=run_at, expires_at=expires_at, priority=priority, pinned=True)
    return replace(each, job=changed)


def _insert(
    database: Database,
    connection: Connection,
    new: Sequence[NewOccurrence],
    job_ids: Sequence[int | None],
) -> None:
    """Each with its job: setting that afterwards would write every row twice."""
    if not new:
        return
    columns: dict[str, list[Any]] = {
        "schedule": [each.schedule for each in new],
        "planned_for": [database.moment(each.planned.planned_for) for each in new],
        "revision": [each.revision for each in new],
        "utc_offset": [each.planned.utc_offset for each in new],
        "job_id": [*job_ids],
    }
    if database.is_postgresql:
        arrays = {name: to_array(values) for name, values in columns.items()}
        connection.execute(prepared(_INSERT_ARRAYS), arrays)
    else:
        rows = [
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        ]
        connection.exec_driver_sql(_INSERT_ROWS, rows)


def _set_jobs(
    database: Database,
    connection: Connection,
    pairs: Iterable[tuple[NewOccurrence, int]],
) -> None:
    rows = [_key(each) | {"revision": each.revision, "job_id": job_id} for each, job_id in pairs]
    if rows:
        shape = table_of(database, _KEYS | {"revision": "int", "job_id": "bigint"})
        statement = bound(database, _SET_JOBS.format(rows=shape))
        connection.execute(statement, {"rows": json.dumps(rows)})


def _revive(
    database: Database,
    connection: Connection,
    known: Mapping[Key, NewOccurrence],
) -> int:
    """Of occurrences that stand in the ledger already, bring back those that a plan took back."""
    shape = table_of(database, _KEYS)
    statement = bound(
        database, _TAKEN_BACK.format(rows=shape, by_plan=BY_PLAN), "planned_for", "run_at"
    )
    found = returned(database, connection, statement, [_key(each) for each in known.values()], {})
    jobs: dict[int, NewOccurrence] = {}
    without: list[NewOccurrence] = []
    for row in found:
        each = known[row.schedule, row.planned_for]
        if as_written(row, None).is_revivable and row.state is None:
            without.append(each)
        elif as_written(row, None).is_revivable:
            jobs[row.job_id] = each
    revived = _requeue(database, connection, jobs)
    ids = insert_jobs(database, connection, [each.job for each in without])
    pairs = [(jobs[job_id], job_id) for job_id in revived]
    _set_jobs(database, connection, [*pairs, *zip(without, ids, strict=True)])
    return len(pairs) + len(ids)


def _requeue(
    database: Database, connection: Connection, jobs: Mapping[int, NewOccurrence]
) -> list[int]:
    if not jobs:
        return []
    rows = [{"id": job_id, **payload(each.job)} for job_id, each in jobs.items()]
    statement = _REVIVE.format(
        rows=table_of(database, PAYLOAD),
        **json_columns(database),
        by_plan=BY_PLAN,
        no=no(database),
    )
    revived = returned(
        database, connection, bound(database, statement), rows, database.now_parameter()
    )
    return [row.id for row in revived]


def _key(each: NewOccurrence) -> dict[str, Any]:
    return {"schedule": each.schedule, "planned_for": to_text(each.planned.planned_for)}
