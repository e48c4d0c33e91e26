"""One occurrence, decided by hand: skipped, moved to another time, or given another priority.

The decision is kept by schedule and planned time. So it survives edits of the schedule, and can be made
for a time that is not written out yet. `restore` takes it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NoReturn

from sqlalchemy import Connection, Row, text

from cronqueue import wakeup
from cronqueue.audit import record
from cronqueue.columns import Instant
from cronqueue.database import Database
from cronqueue.errors import DefinitionError, RunAtError, StateError
from cronqueue.registry import check_priority
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.errors import no_such_schedule
from cronsched.ledger import SKIPPED_BY_HAND, NewOccurrence, new_job, write
from cronsched.planner import SUPERSEDED, upcoming

# Whether the occurrence was there already, or the decision waits for it.
Reached = Literal["done", "noted"]
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Override:
    """What was decided about one occurrence."""

    schedule: str
    planned_for: datetime
    action: str
    run_at: datetime | None
    priority: int | None
    reason: str | None
    actor: str | None


def skip(
    database: Database, name: str, planned_for: datetime, *, actor: str, reason: str | None = None
) -> Reached:
    """Do not run this occurrence. Raises LookupError, RunAtError, StateError; so do the others here."""
    return _decide(database, Override(name, planned_for, "skip", None, None, reason, actor))


def move(
    database: Database,
    name: str,
    planned_for: datetime,
    to: datetime,
    *,
    actor: str,
    reason: str | None = None,
) -> Reached:
    """Run this occurrence at another time; its planned time stays, and what may end it moves along."""
    _aware("to", to)
    return _decide(database, Override(name, planned_for, "move", to, None, reason, actor))


def edit(
    database: Database,
    name: str,
    planned_for: datetime,
    priority: int,
    *,
    actor: str,
    reason: str | None = None,
) -> Reached:
    """Run this occurrence with another priority."""
    check_priority(priority)
    return _decide(database, Override(name, planned_for, "edit", None, priority, reason, actor))


def restore(
    database: Database, name: str, planned_for: datetime, settings: Settings, *, actor: str
) -> Reached:
    """Take back what was decided about this occurrence: it runs as its schedule says.

    Raises LookupError when nothing was decided, StateError when the job has begun or ended meanwhile.
    """
    _aware("time", planned_for)

    def work(connection: Connection) -> Reached:
        definition = _find(database, connection, name)
        key = {"name": name, "planned_for": database.moment(planned_for)}
        if not connection.execute(_FORGET, key).rowcount:
            raise LookupError(f"nothing was decided about {planned_for.isoformat()} of {name!r}")
        statement = text(_OCCURRENCE).columns(run_at=Instant(), expires_at=Instant())
        found = connection.execute(statement, key).one_or_none()
        if found is not None:
            _take_back(database, connection, definition, planned_for, found, key)
            _write_anew(database, connection, definition, planned_for, settings)
        record(
            database,
            connection,
            actor=actor,
            action="restore",
            target=f"schedule {name}",
            detail={"planned_for": planned_for.isoformat()},
        )
        return "noted" if found is None else "done"

    reached = database.write(work)
    wakeup.notify(database)
    return reached


def list_overrides(database: Database, name: str) -> list[Override]:
    """What was decided about the schedule's occurrences, by their times."""
    with database.snapshot() as connection:
        return [Override(**row._mapping) for row in connection.execute(_LIST, {"name": name})]


_FORGET = text("DELETE FROM sched_overrides WHERE schedule = :name AND planned_for = :planned_for")
_STANDING = text("SELECT revision, state, paused_at FROM sched_schedules WHERE name = :name")
_FIND = "SELECT definition FROM sched_schedules WHERE name = :name {lock}"
_LIST = text(
    "SELECT schedule, planned_for, action, run_at, priority, reason, actor FROM sched_overrides"
    " WHERE schedule = :name ORDER BY planned_for"
).columns(planned_for=Instant(), run_at=Instant())
_PUT = """
INSERT INTO sched_overrides (schedule, planned_for, action, run_at, priority, reason, actor, created_at)
VALUES (:name, :planned_for, :action, :run_at, :priority, :reason, :actor, {now})
ON CONFLICT (schedule, planned_for) DO UPDATE SET action = excluded.action, reason = excluded.reason,
    run_at = COALESCE(excluded.run_at, sched_overrides.run_at),
    priority = COALESCE(excluded.priority, sched_overrides.priority),
    actor = excluded.actor, created_at = excluded.created_at
"""
_OCCURRENCE = """
SELECT o.verdict, o.job_id, j.state, j.run_at, j.expires_at, j.started_at
FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id
WHERE o.schedule = :name AND o.planned_for = :planned_for
"""
_WAITS = "WHERE id = :id AND state IN ('queued', 'held') AND started_at IS NULL"
_SKIP = f"""
UPDATE sched_jobs SET state = 'skipped', reason = :verdict, held_reason = NULL, slot = NULL, gated = {{no}},
    finished_at = {{now}}, updated_at = {{now}} {_WAITS}
"""
_JUDGE = """
UPDATE sched_occurrences SET verdict = :verdict, decided_at = {now}
WHERE schedule = :name AND planned_for = :planned_for
"""
# One that was let through comes to the gate again.
_MOVE = f"""
UPDATE sched_jobs SET run_at = :run_at, expires_at = :expires_at, pinned = {{yes}}, slot = NULL,
    gated = (guard IS NOT NULL), state = CASE WHEN held_reason = 'overlap' THEN 'queued' ELSE state END,
    held_reason = CASE WHEN held_reason = 'overlap' THEN NULL ELSE held_reason END, updated_at = {{now}}
{_WAITS}
"""
# As a plan would take it back, so that it can be written anew.
_TAKE_BACK = """
UPDATE sched_jobs SET state = 'cancelled', reason = :verdict, held_reason = NULL, slot = NULL, gated = {no},
    finished_at = {now}, updated_at = {now}
WHERE id = :id AND started_at IS NULL AND attempts = 0
    AND (state IN ('queued', 'held') OR (state = 'skipped' AND reason = :skipped))
"""
_EDIT = (
    f"UPDATE sched_jobs SET priority = :priority, pinned = {{yes}}, updated_at = {{now}} {_WAITS}"
)


def _decide(database: Database, chosen: Override) -> Reached:
    _aware("time", chosen.planned_for)

    def work(connection: Connection) -> Reached:
        definition = _find(database, connection, chosen.schedule)
        key = {
            "name": chosen.schedule,
            "planned_for": database.moment(chosen.planned_for),
        }
        statement = text(_OCCURRENCE).columns(run_at=Instant(), expires_at=Instant())
        found = connection.execute(statement, key).one_or_none()
        if found is None:
            _check_instant(definition, chosen.planned_for)
        _execute(database, connection, _PUT, key | _values(database, chosen))
        if found is not None:
            _carry_out(database, connection, chosen, found, key)
        told = {
            "planned_for": chosen.planned_for.isoformat(),
            "to": None if chosen.run_at is None else chosen.run_at.isoformat(),
            "priority": chosen.priority,
            "reason": chosen.reason,
        }
        record(
            database,
            connection,
            actor=str(chosen.actor),
            action=chosen.action,
            target=f"schedule {chosen.schedule}",
            detail=told,
        )
        return "noted" if found is None else "done"

    reached = database.write(work)
    wakeup.notify(database)
    return reached


def _find(database: Database, connection: Connection, name: str) -> Definition:
    """The definition; nobody writes the schedule's occurrences meanwhile."""
    lock = "FOR UPDATE" if database.is_postgresql else ""
    stored = connection.execute(text(_FIND.format(lock=lock)), {"name": name}).scalar()
    if stored is None:
        raise no_such_schedule(name)
    return Definition.from_json(stored)


def _check_instant(definition: Definition, planned_for: datetime) -> None:
    """The schedule must have it, or nothing would ever come of the decision."""
    following = upcoming(definition, planned_for - _SECOND, 1)
    if following and following[0].planned_for == planned_for:
        return
    hint = f"; the next one is {following[0].planned_for.isoformat()}" if following else ""
    raise DefinitionError(
        f"schedule {definition.name!r} has no occurrence at {planned_for.isoformat()}{hint}"
    )


def _carry_out(
    database: Database,
    connection: Connection,
    chosen: Override,
    found: Row[Any],
    key: Mapping[str, Any],
) -> None:
    if chosen.action == "skip":
        statement = _SKIP
        values: dict[str, Any] = {"verdict": SKIPPED_BY_HAND}
    elif chosen.action == "move":
        expires_at = found.expires_at
        if expires_at is not None and chosen.run_at is not None:
            expires_at += chosen.run_at - found.run_at
        statement = _MOVE
        values = {
            "run_at": database.moment(chosen.run_at) if chosen.run_at else None,
            "expires_at": database.moment(expires_at) if expires_at else None,
        }
    else:
        statement, values = _EDIT, {"priority": chosen.priority}
    done = _execute(database, connection, statement, {"id": found.job_id, **values})
    if not done.rowcount:
        _refuse(chosen.schedule, chosen.planned_for, found)
    if chosen.action == "skip":
        _execute(database, connection, _JUDGE, {"verdict": SKIPPED_BY_HAND, **key})


def _refuse(name: str, planned_for: datetime, found: Row[Any]) -> NoReturn:
    state = found.verdict or found.state or "deleted"
    job = f", job {found.job_id}" if found.job_id else ""
    raise StateError(
        f"the occurrence {planned_for.isoformat()} of {name!r} does not wait: it is {state}{job}"
    )


def _take_back(
    database: Database,
    connection: Connection,
    definition: Definition,
    planned_for: datetime,
    found: Row[Any],
    key: Mapping[str, Any],
) -> None:
    verdict = {"verdict": SUPERSEDED}
    values = {"id": found.job_id, "skipped": SKIPPED_BY_HAND, **verdict}
    taken = _execute(database, connection, _TAKE_BACK, values).rowcount
    # One that was to be skipped before it was written out has no job.
    if not taken and not (found.job_id is None and found.verdict == SKIPPED_BY_HAND):
        _refuse(definition.name, planned_for, found)
    _execute(database, connection, _JUDGE, {**verdict, **key})


def _write_anew(
    database: Database,
    connection: Connection,
    definition: Definition,
    planned_for: datetime,
    settings: Settings,
) -> None:
    """As far as the schedule still has this time; else it stays taken back."""
    standing = connection.execute(_STANDING, {"name": definition.name}).one()
    following = upcoming(definition, planned_for - _SECOND, 1)
    if standing.state != "active" or not following or following[0].planned_for != planned_for:
        return
    job = new_job(definition, following[0], settings, paused=standing.paused_at is not None)
    new = NewOccurrence(definition.name, standing.revision, following[0], job)
    write(database, connection, [new])


def _values(database: Database, chosen: Override) -> dict[str, Any]:
    return {
        "action": chosen.action,
        "run_at": None if chosen.run_at is None else database.moment(chosen.run_at),
        "priority": chosen.priority,
        "reason": chosen.reason,
        "actor": chosen.actor,
    }


def _execute(
    database: Database, connection: Connection, statement: str, values: Mapping[str, Any]
) -> Any:
    sql = statement.format(
        now=database.now_sql,
        yes="true" if database.is_postgresql else "1",
        no="false" if database.is_postgresql else "0",
    )
    return connection.execute(text(sql), {**values, **database.now_parameter()})


def _aware(what: str, moment: datetime) -> None:
    if moment.utcoffset() is None:
        raise RunAtError(f"{what} {moment.isoformat()} has no time zone: use an aware datetime")
