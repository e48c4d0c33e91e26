"""What operators do to jobs and queues: each act one transaction, with its row in `sched_audit`.

A statement names the states that it may leave in its own condition, and what RETURNING gives back is
believed. So an act that comes too late changes nothing, and says what the job is now.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Literal, NoReturn

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import IntegrityError

from cronqueue import wakeup
from cronqueue.audit import record, this_user
from cronqueue.database import Database, read_now
from cronqueue.errors import KeyTaken, RunAtError, StateError
from cronqueue.prune import delete_jobs as delete_rows
from cronqueue.registry import bind, check_priority, check_queue, find_task
from cronqueue.serialization import encode_call

__all__ = [
    "Cancelled",
    "Edit",
    "cancel_job",
    "cancel_jobs",
    "delete_job",
    "delete_jobs",
    "edit_job",
    "pause_queue",
    "resume_queue",
    "retry_job",
    "retry_jobs",
    "run_jobs_now",
    "run_now",
    "this_user",
]

# Jobs per transaction of an act on many: locks are held for milliseconds.
BATCH = 500

# What became of the jobs that an act has reached, by id.
Reached = dict[int, str]
Act = Callable[[Database, Connection, Sequence[int]], Reached]


@dataclass(frozen=True, slots=True)
class Cancelled:
    """How many waiting jobs were cancelled, and how many running ones were asked to stop."""

    cancelled: int
    requested: int


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change of a job; what is None stays. `arguments`: positional ones and named ones."""

    arguments: tuple[Sequence[Any], Mapping[str, Any]] | None = None
    run_at: datetime | None = None
    priority: int | None = None
    queue: str | None = None


def retry_job(database: Database, job_id: int, *, actor: str) -> None:
    """Queue an ended job again: due now, with fresh attempts.

    Raises LookupError, StateError, or KeyTaken when another unfinished job holds its key.
    """
    _reach_one(database, "retry", job_id, actor, _retry)
    wakeup.notify(database)


def retry_jobs(database: Database, ids: Iterable[int], *, actor: str) -> int:
    """Queue those of the jobs again that have failed, or were cancelled or skipped; returns how many.

    A job whose key another one holds stays as it is.
    """
    return _reach_many(database, "retry", ids, actor, _retry).total()


def cancel_job(
    database: Database, job_id: int, *, actor: str, reason: str | None = None
) -> Literal["cancelled", "requested"]:
    """Cancel a waiting job, or ask a running one to stop; answers which. Raises LookupError, StateError."""
    state = _reach_one(database, "cancel", job_id, actor, partial(_cancel, reason), reason=reason)
    return "cancelled" if state == "cancelled" else "requested"


def cancel_jobs(
    database: Database, ids: Iterable[int], *, actor: str, reason: str | None = None
) -> Cancelled:
    """Cancel those of the jobs that wait, and ask those that run to stop."""
    act = partial(_cancel, reason)
    states = _reach_many(database, "cancel", ids, actor, act, reason=reason)
    return Cancelled(states["cancelled"], states["running"])


def delete_job(database: Database, job_id: int, *, actor: str) -> None:
    """Delete a job that does not run; the ledger keeps its verdict. Raises LookupError, StateError."""
    _reach_one(database, "delete", job_id, actor, _delete)


def delete_jobs(database: Database, ids: Iterable[int], *, actor: str) -> int:
    """Delete those of the jobs that do not run; returns how many."""
    return _reach_many(database, "delete", ids, actor, _delete).total()


def run_now(database: Database, job_id: int, *, actor: str) -> None:
    """Make a waiting job due, whatever its `run_at` was. Raises LookupError, StateError."""
    _reach_one(database, "run-now", job_id, actor, _run_now)
    wakeup.notify(database)


def run_jobs_now(database: Database, ids: Iterable[int], *, actor: str) -> int:
    """Make those of the jobs due that wait; returns how many."""
    return _reach_many(database, "run-now", ids, actor, _run_now).total()


def edit_job(database: Database, job_id: int, edit: Edit, *, actor: str) -> None:
    """Change a waiting job; a schedule's own changes leave it alone from then on.

    Raises LookupError, StateError, or what enqueueing raises for values that cannot be stored.
    """
    statement = text("SELECT task FROM sched_jobs WHERE id = :id")
    with database.snapshot() as connection:
        task = connection.execute(statement, {"id": job_id}).scalar()
    row: dict[str, Any] = {
        "args": None if edit.arguments is None else _encoded(task, *edit.arguments),
        "run_at": None if edit.run_at is None else database.moment(edit.run_at),
        "priority": None if edit.priority is None else check_priority(edit.priority),
        "queue": None if edit.queue is None else check_queue(edit.queue),
    }
    # As a value: whoever shows the audit can then leave out what is secret.
    detail = {
        **row,
        "args": None if row["args"] is None else json.loads(row["args"]),
        "run_at": None if edit.run_at is None else edit.run_at.isoformat(),
    }
    _reach_one(database, "edit", job_id, actor, partial(_edit, row), **detail)
    wakeup.notify(database)


def pause_queue(
    database: Database,
    name: str,
    *,
    actor: str,
    reason: str | None = None,
    until: datetime | None = None,
) -> None:
    """Let no worker claim from a queue, for good or until a time; what runs goes on.

    Raises DefinitionError for what cannot be a queue's name, RunAtError for a time that has passed.
    """
    check_queue(name)
    if until is not None and until.utcoffset() is None:
        raise RunAtError(f"until={until.isoformat()} has no time zone: use an aware datetime")

    def work(connection: Connection) -> None:
        if until is not None and until <= read_now(database, connection):
            raise RunAtError(f"until={until.isoformat()} has passed: give a time to come")
        row = {"name": name, "actor": actor, "reason": reason}
        row["until"] = None if until is None else database.moment(until)
        _execute(database, connection, _PAUSE, row)
        detail = {"reason": reason, "until": None if until is None else until.isoformat()}
        target = f"queue {name}"
        record(database, connection, actor=actor, action="pause", target=target, detail=detail)

    database.write(work)


def resume_queue(database: Database, name: str, *, actor: str) -> None:
    """Let workers claim from a paused queue again; raises StateError if it is not paused."""

    def work(connection: Connection) -> None:
        if not _execute(database, connection, _RESUME, {"name": name}):
            raise StateError(f"queue {name!r} is not paused")
        target = f"queue {name}"
        record(database, connection, actor=actor, action="resume", target=target, detail={})

    database.write(work)
    wakeup.notify(database)


_RETRY = """
UPDATE sched_jobs SET
    state = 'queued', run_at = {now}, attempts = 0, rescues = 0, refunds = 0,
    failed_at = NULL, finished_at = NULL, reason = NULL, cancel_requested_at = NULL, progress = NULL,
    locked_by = NULL, worker_id = NULL, locked_at = NULL,
    unique_key = key, gated = (guard IS NOT NULL), pinned = (pinned OR schedule IS NOT NULL),
    expires_at = CASE WHEN expires_at > {now} THEN expires_at END, updated_at = {now}
WHERE id {chosen} AND state IN ('failed', 'cancelled', 'skipped')
    AND NOT EXISTS (SELECT 1 FROM sched_jobs AS holder WHERE holder.unique_key = sched_jobs.key)
RETURNING id, state
"""
# One statement for waiting and running ones: between two, a job could slip from one state to the other.
_CANCEL = """
UPDATE sched_jobs SET
    state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END,
    cancel_requested_at = CASE WHEN state = 'running' THEN COALESCE(cancel_requested_at, {now}) END,
    finished_at = CASE WHEN state = 'running' THEN NULL ELSE {now} END,
    reason = CASE WHEN state = 'running' THEN reason ELSE :reason END,
    held_reason = NULL, updated_at = {now},
    unique_key = CASE WHEN state = 'running' THEN unique_key END,
    slot = CASE WHEN state = 'running' THEN slot END,
    gated = CASE WHEN state = 'running' THEN gated ELSE {no} END
WHERE id {chosen} AND state IN ('queued', 'held', 'running')
RETURNING id, state
"""
# What is due already keeps its place, what was admitted its admission.
_RUN_NOW = """
UPDATE sched_jobs SET
    state = 'queued', held_reason = NULL, pinned = {yes}, gated = (guard IS NOT NULL AND slot IS NULL),
    run_at = CASE WHEN run_at < {now} THEN run_at ELSE {now} END,
    expires_at = CASE WHEN expires_at > {now} THEN expires_at END, updated_at = {now}
WHERE id {chosen} AND state IN ('queued', 'held')
RETURNING id, state
"""
# One that is to run at another time comes to the gate then: until then it holds no guard, and waits for none.
_EDIT = """
UPDATE sched_jobs SET
    args = COALESCE({args}, args), queue = COALESCE({queue}, queue),
    priority = COALESCE({priority}, priority), run_at = COALESCE({run_at}, run_at),
    slot = CASE WHEN {run_at} IS NULL THEN slot END,
    gated = CASE WHEN {run_at} IS NULL THEN gated ELSE guard IS NOT NULL END,
    state = CASE WHEN {run_at} IS NOT NULL AND held_reason = 'overlap' THEN 'queued' ELSE state END,
    held_reason = CASE WHEN {run_at} IS NULL OR held_reason <> 'overlap' THEN held_reason END,
    pinned = {yes}, updated_at = {now}
WHERE id {chosen} AND state IN ('queued', 'held')
RETURNING id, state
"""
_DELETABLE = "SELECT id, state FROM sched_jobs WHERE id {chosen} AND state <> 'running' {lock}"
_KEYED = """
SELECT id FROM sched_jobs
WHERE id {chosen} AND key IS NOT NULL AND state IN ('failed', 'cancelled', 'skipped') ORDER BY key, id
"""
# A cancelled occurrence is settled here, whatever words the operator gave as the reason.
_JUDGE = """
UPDATE sched_occurrences SET verdict = 'cancelled', decided_at = {now}
WHERE job_id {chosen} AND verdict IS NULL
"""
_REOPEN = "UPDATE sched_occurrences SET verdict = NULL, decided_at = NULL WHERE job_id {chosen}"
_PAUSE = """
INSERT INTO sched_queues (name, paused_at, paused_by, paused_reason, paused_until)
VALUES (:name, {now}, :actor, :reason, {until})
ON CONFLICT (name) DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by,
    paused_reason = excluded.paused_reason, paused_until = excluded.paused_until
RETURNING name
"""
_RESUME = """
UPDATE sched_queues SET paused_at = NULL, paused_by = NULL, paused_reason = NULL, paused_until = NULL
WHERE name = :name AND paused_at IS NOT NULL RETURNING name
"""


def _reach_one(
    database: Database, action: str, job_id: int, actor: str, act: Act, **detail: Any
) -> str:
    """The state in which the act has left the job; raises what hindered it."""

    def work(connection: Connection) -> str:
        reached = act(database, connection, [job_id])
        if job_id not in reached:
            _refuse(connection, action, job_id)
        target = f"job {job_id}"
        record(database, connection, actor=actor, action=action, target=target, detail=detail)
        return reached[job_id]

    return database.write(work)


def _reach_many(
    database: Database, action: str, ids: Iterable[int], actor: str, act: Act, **detail: Any
) -> Counter[str]:
    """How many jobs the act has left in which state. Workers are told after every batch."""

    def work(batch: Sequence[int], connection: Connection) -> Reached:
        reached = act(database, connection, batch)
        if reached:
            target, listed = f"{len(reached)} jobs", {"ids": sorted(reached), **detail}
            record(database, connection, actor=actor, action=action, target=target, detail=listed)
        return reached

    states: Counter[str] = Counter()
    for batch in _batches(ids):
        states.update(database.write(partial(work, batch)).values())
        wakeup.notify(database)
    return states


def _retry(database: Database, connection: Connection, ids: Sequence[int]) -> Reached:
    keyed = [row.id for row in _execute(database, connection, _KEYED, ids=ids)]
    free = sorted(set(ids).difference(keyed))
    reached = _reached(_execute(database, connection, _RETRY, ids=free))
    for job_id in keyed:  # one by one: two of them may have the same key
        reached |= _retry_keyed(database, connection, job_id)
    _execute(database, connection, _REOPEN, ids=list(reached))
    return reached


def _retry_keyed(database: Database, connection: Connection, job_id: int) -> Reached:
    try:
        with connection.begin_nested():
            return _reached(_execute(database, connection, _RETRY, ids=[job_id]))
    except IntegrityError:  # somebody took the key in this very moment
        return {}


def _cancel(
    reason: str | None, database: Database, connection: Connection, ids: Sequence[int]
) -> Reached:
    reached = _reached(_execute(database, connection, _CANCEL, {"reason": reason}, ids=ids))
    ended = [job_id for job_id, state in reached.items() if state == "cancelled"]
    _execute(database, connection, _JUDGE, ids=ended)
    return reached


def _delete(database: Database, connection: Connection, ids: Sequence[int]) -> Reached:
    reached = _reached(_execute(database, connection, _DELETABLE, ids=ids))
    delete_rows(database, connection, reached)
    return reached


def _run_now(database: Database, connection: Connection, ids: Sequence[int]) -> Reached:
    return _reached(_execute(database, connection, _RUN_NOW, ids=ids))


def _edit(
    row: Mapping[str, Any], database: Database, connection: Connection, ids: Sequence[int]
) -> Reached:
    return _reached(_execute(database, connection, _EDIT, dict(row), ids=ids))


def _encoded(task: str | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as they are stored, bound to the task's signature if it is known here."""
    found = None if task is None else find_task(task)
    return encode_call(args, kwargs) if found is None else bind(found, args, kwargs)


def _refuse(connection: Connection, action: str, job_id: int) -> NoReturn:
    statement = text("SELECT state, key FROM sched_jobs WHERE id = :id")
    row = connection.execute(statement, {"id": job_id}).one_or_none()
    if row is None:
        raise LookupError(f"there is no job {job_id}: deleted, or pruned after its retention")
    if action == "retry" and row.state in ("failed", "cancelled", "skipped"):
        statement = text("SELECT id FROM sched_jobs WHERE unique_key = :key")
        holder = connection.execute(statement, {"key": row.key}).scalar()
        if holder is not None:
            raise KeyTaken(row.key, holder)
        raise StateError(f"job {job_id} was changed at this very moment: try again")
    raise StateError(f"job {job_id} {_HAS_STATE[row.state]}: {_remedy(action, row.state, job_id)}")


_HAS_STATE = {
    "queued": "is queued",
    "held": "is held",
    "running": "is running",
    "succeeded": "has succeeded",
    "failed": "has failed",
    "cancelled": "was cancelled",
    "skipped": "was skipped",
}


def _remedy(action: str, state: str, job_id: int) -> str:
    """What can be done with a job of this state instead."""
    if state in ("queued", "held"):
        return f"`sched jobs run-now {job_id}` makes it due"
    if state == "running":
        return f"it must end first; `sched jobs cancel {job_id}` asks it to stop"
    if action == "cancel":
        return "there is nothing left to cancel"
    if state == "succeeded":
        return "enqueue its task anew to run it again"
    return f"`sched jobs retry {job_id}` queues it again"


def _reached(rows: Iterable[Row[Any]]) -> Reached:
    return {row.id: row.state for row in rows}


def _execute(
    database: Database,
    connection: Connection,
    statement: str,
    parameters: dict[str, Any] | None = None,
    *,
    ids: Sequence[int] = (),
) -> list[Row[Any]]:
    """The rows that the statement returns, with this database's way to say its placeholders."""
    postgresql = database.is_postgresql
    sql = statement.format(
        now=database.now_sql,
        yes="true" if postgresql else "1",
        no="false" if postgresql else "0",
        # SQLite has no arrays, PostgreSQL plans one better than a list.
        chosen="= ANY(:ids)" if postgresql else "IN (SELECT value FROM json_each(:ids))",
        until="CAST(:until AS timestamptz)" if postgresql else ":until",
        detail="CAST(:detail AS json)" if postgresql else ":detail",
        lock="FOR UPDATE" if postgresql else "",
        args="CAST(:args AS json)" if postgresql else ":args",
        queue="CAST(:queue AS text)" if postgresql else ":queue",
        priority="CAST(:priority AS integer)" if postgresql else ":priority",
        run_at="CAST(:run_at AS timestamptz)" if postgresql else ":run_at",
    )
    chosen = {"ids": list(ids) if postgresql else json.dumps(list(ids))}
    result = connection.execute(
        text(sql), {**chosen, **(parameters or {}), **database.now_parameter()}
    )
    return list(result) if result.returns_rows else []


def _batches(ids: Iterable[int]) -> Iterator[list[int]]:
    left = iter(ids)
    while batch := list(islice(left, BATCH)):
        yield sorted(batch)
