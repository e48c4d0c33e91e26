"""The ledger's rows and their jobs, written together.

The primary key (schedule, planned_for) says which occurrences are new; only those get a job. Rows go over
as one JSON text per statement, which both databases read as a table.

Callers hold the row of the schedule, so that nobody else writes its occurrences meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, TextClause, text
from sqlalchemy.sql.selectable import TextualSelect

from cronqueue.columns import Instant, to_text
from cronqueue.database import Database
from cronqueue.insertion import NewJob, insert_jobs
from cronqueue.serialization import encode_value
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.gate import guard_of
from cronsched.planner import BY_PLAN, Ahead, Planned, Written

T = TypeVar("T")

# The verdict on an occurrence that somebody has decided to skip.
SKIPPED_BY_HAND = "skipped:override"

# Rows per statement: each takes a fraction of a second.
_CHUNK = 5_000


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
    return sum(_write(database, connection, chunk) for chunk in _chunks(new))


def write_backfill(
    database: Database, connection: Connection, new: Sequence[NewOccurrence]
) -> None:
    """Give each occurrence a job: a new one, or the one that it had and that did not run."""
    for chunk in _chunks(new):
        _insert(database, connection, chunk)
        rows = [
            {**_key(each), **_payload(each.job), "batch_id": each.job.batch_id} for each in chunk
        ]
        shape = _rows(database, _KEYS | _PAYLOAD | {"batch_id": "text"})
        statement = _REOPEN.format(rows=shape, **_jsons(database))
        bound = _bound(database, statement, "planned_for")
        reopened = _returned(database, connection, bound, rows, database.now_parameter())
        had = {(row.schedule, row.planned_for): row.id for row in reopened}
        ids = {(each.schedule, each.planned.planned_for): each for each in chunk}
        fresh = [each for key, each in ids.items() if key not in had]
        made = insert_jobs(database, connection, [each.job for each in fresh])
        pairs = [*zip(fresh, made, strict=True), *((ids[key], had[key]) for key in had)]
        _set_jobs(database, connection, pairs)


def read_ahead(
    database: Database, connection: Connection, names: Iterable[str], now: datetime
) -> dict[str, Ahead]:
    """What each schedule has between now and its cursor."""
    parameters = {"names": json.dumps(list(names)), "now": database.moment(now)}
    rows = connection.execute(_bound(database, _AHEAD, "last", "before"), parameters)
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
        locked = set(connection.execute(_bound(database, _LOCK_WAITING), parameters).scalars())
    found: dict[str, list[Written]] = {}
    for row in connection.execute(_bound(database, _WRITTEN, "planned_for", "run_at"), parameters):
        found.setdefault(row.schedule, []).append(_as_written(row, locked))
    return found


def amend(database: Database, connection: Connection, jobs: Mapping[int, NewJob]) -> int:
    """Give waiting jobs what their schedule says now; returns how many still waited."""
    rows = [{"id": job_id, **_payload(job)} for job_id, job in jobs.items()]
    statement = _bound(database, _AMEND.format(rows=_rows(database, _PAYLOAD), **_jsons(database)))
    return sum(
        len(_returned(database, connection, statement, chunk, database.now_parameter()))
        for chunk in _chunks(rows)
    )


def cancel(database: Database, connection: Connection, job_ids: Iterable[int], verdict: str) -> int:
    """End waiting jobs and write the verdict on their occurrences; returns how many still waited."""
    total = 0
    for chunk in _chunks(sorted(job_ids)):
        parameters = {"verdict": verdict} | database.now_parameter()
        ended = connection.execute(
            _bound(database, _CANCEL), parameters | {"ids": json.dumps(chunk)}
        ).scalars()
        parameters["ids"] = json.dumps(chunk := ended.all())
        connection.execute(_bound(database, _JUDGE), parameters)
        total += len(chunk)
    return total


def find_removable(
    database: Database, connection: Connection, names: Iterable[str], *, drain: bool, lock: bool
) -> list[int]:
    """The jobs that go when their schedules do; with `drain` those due or tried stay."""
    parameters = {"names": json.dumps(list(names))} | database.now_parameter()
    statement = _REMOVABLE + (_NOT_BEGUN if drain else "") + (_lock(database) if lock else "")
    return list(connection.execute(_bound(database, statement), parameters).scalars())


def renumber(database: Database, connection: Connection, revisions: Mapping[str, int]) -> None:
    """Count what is still open after now to the schedules' new revisions."""
    rows = [{"name": name, "revision": revision} for name, revision in revisions.items()]
    statement = _bound(
        database, _RENUMBER.format(rows=_rows(database, {"name": "text", "revision": "int"}))
    )
    for chunk in _chunks(rows):
        connection.execute(statement, {"rows": json.dumps(chunk)} | database.now_parameter())


def names_of(database: Database) -> str:
    """The query of the names that the parameter `names` holds as JSON."""
    if database.is_postgresql:
        return "SELECT json_array_elements_text(CAST(:names AS json))"
    return "SELECT value FROM json_each(:names)"


_KEYS = {"schedule": "text", "planned_for": "timestamptz"}
_PAYLOAD = {
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
_INSERT = """
INSERT INTO sched_occurrences (schedule, planned_for, revision, utc_offset)
SELECT new.schedule, new.planned_for, new.revision, new.utc_offset FROM {rows} WHERE true
ON CONFLICT (schedule, planned_for) DO NOTHING RETURNING schedule, planned_for
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


def _write(database: Database, connection: Connection, new: Sequence[NewOccurrence]) -> int:
    by_key = {(each.schedule, each.planned.planned_for): each for each in new}
    inserted = _insert(database, connection, new)
    by_key = _as_decided(database, connection, by_key)
    fresh = [each for key, each in by_key.items() if key in inserted]
    ids = insert_jobs(database, connection, [each.job for each in fresh])
    _set_jobs(database, connection, zip(fresh, ids, strict=True))
    if len(fresh) == len(by_key):
        return len(fresh)
    others = {key: each for key, each in by_key.items() if key not in inserted}
    return len(fresh) + _revive(database, connection, others)


def _as_decided(
    database: Database, connection: Connection, by_key: Mapping[Key, NewOccurrence]
) -> dict[Key, NewOccurrence]:
    """With what operators have decided about single occurrences; those to be skipped get their verdict."""
    names = {"names": json.dumps(sorted({schedule for schedule, _ in by_key}))}
    rows = connection.execute(_bound(database, _OVERRIDES, "planned_for", "run_at"), names)
    decided = {key: row for row in rows if (key := (row.schedule, row.planned_for)) in by_key}
    skipped = [by_key[key] for key, row in decided.items() if row.action == "skip"]
    if skipped:
        shape = _rows(database, _KEYS)
        statement = _bound(database, _SKIP.format(rows=shape, by_plan=BY_PLAN))
        parameters = {"rows": json.dumps([_key(each) for each in skipped])}
        connection.execute(
            statement, {"verdict": SKIPPED_BY_HAND} | parameters | database.now_parameter()
        )
    return {
        key: _overridden(each, decided[key]) if key in decided else each
        for key, each in by_key.items()
        if key not in decided or decided[key].action != "skip"
    }


def _overridden(each: NewOccurrence, row: Row[Any]) -> NewOccurrence:
    job = each.job
    run_at: datetime | None = row.run_at or job.run_at
    expires_at = job.expires_at
    if expires_at is not None and job.run_at is not None and run_at is not None:
        expires_at += run_at - job.run_at
    priority = job.priority if row.priority is None else row.priority
    changed = replace(job, run_at=run_at, expires_at=expires_at, priority=priority, pinned=True)
    return replace(each, job=changed)


def _insert(database: Database, connection: Connection, new: Sequence[NewOccurrence]) -> set[Key]:
    rows = [
        _key(each) | {"revision": each.revision, "utc_offset": each.planned.utc_offset}
        for each in new
    ]
    shape = _rows(database, _KEYS | {"revision": "int", "utc_offset": "int"})
    statement = _bound(database, _INSERT.format(rows=shape), "planned_for")
    returned = _returned(database, connection, statement, rows, {})
    return {(row.schedule, row.planned_for) for row in returned}


def _set_jobs(
    database: Database,
    connection: Connection,
    pairs: Iterable[tuple[NewOccurrence, int]],
) -> None:
    rows = [_key(each) | {"revision": each.revision, "job_id": job_id} for each, job_id in pairs]
    if rows:
        shape = _rows(database, _KEYS | {"revision": "int", "job_id": "bigint"})
        statement = _bound(database, _SET_JOBS.format(rows=shape))
        connection.execute(statement, {"rows": json.dumps(rows)})


def _revive(
    database: Database,
    connection: Connection,
    known: Mapping[Key, NewOccurrence],
) -> int:
    """Of occurrences that stand in the ledger already, bring back those that a plan took back."""
    shape = _rows(database, _KEYS)
    statement = _bound(
        database, _TAKEN_BACK.format(rows=shape, by_plan=BY_PLAN), "planned_for", "run_at"
    )
    found = _returned(database, connection, statement, [_key(each) for each in known.values()], {})
    jobs: dict[int, NewOccurrence] = {}
    without: list[NewOccurrence] = []
    for row in found:
        each = known[row.schedule, row.planned_for]
        if _as_written(row, None).is_revivable and row.state is None:
            without.append(each)
        elif _as_written(row, None).is_revivable:
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
    rows = [{"id": job_id, **_payload(each.job)} for job_id, each in jobs.items()]
    statement = _REVIVE.format(
        rows=_rows(database, _PAYLOAD),
        **_jsons(database),
        by_plan=BY_PLAN,
        no=_no(database),
    )
    returned = _returned(
        database, connection, _bound(database, statement), rows, database.now_parameter()
    )
    return [row.id for row in returned]


def _as_written(row: Row[Any], locked: set[int] | None) -> Written:
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


def _key(each: NewOccurrence) -> dict[str, Any]:
    return {"schedule": each.schedule, "planned_for": to_text(each.planned.planned_for)}


def _payload(job: NewJob) -> dict[str, Any]:
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


def _rows(database: Database, shape: Mapping[str, str]) -> str:
    """The table `new` that the parameter `rows` holds as JSON."""
    if database.is_postgresql:
        columns = ", ".join(f"{name} {kind}" for name, kind in shape.items())
        return f"json_to_recordset(CAST(:rows AS json)) AS new({columns})"
    columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in shape)
    return f"(SELECT {columns} FROM json_each(:rows)) AS new"


def _bound(database: Database, statement: str, *instants: str) -> TextClause | TextualSelect:
    """The statement in this database's words; the named columns come back as times."""
    numbers = "SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json)) AS each(value)"
    sql = statement.format(
        now=database.now_sql,
        names=names_of(database),
        ids=numbers if database.is_postgresql else "SELECT value FROM json_each(:ids)",
        no=_no(database),
    )
    if not instants:
        return text(sql)
    return text(sql).columns(**{name: Instant() for name in instants})


def _returned(
    database: Database,
    connection: Connection,
    statement: TextClause | TextualSelect,
    rows: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
) -> Sequence[Row[Any]]:
    return connection.execute(statement, {"rows": json.dumps(rows), **parameters}).all()


def _jsons(database: Database) -> dict[str, str]:
    """The columns that hold JSON."""
    form = "CAST(new.{} AS json)" if database.is_postgresql else "new.{}"
    return {column: form.format(column) for column in ("args", "tags")}


def _no(database: Database) -> str:
    return "false" if database.is_postgresql else "0"


def _lock(database: Database) -> str:
    """Whoever has a job at this moment keeps it: it has started, or an operator decides."""
    return " ORDER BY id FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
