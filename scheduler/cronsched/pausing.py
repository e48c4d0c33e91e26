"""Pause and resume: a paused schedule is written on, and its jobs are held.

What came due meanwhile is skipped at the resume, unless it is to be caught up with; retries go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, text

from cronqueue import wakeup
from cronqueue.audit import record
from cronqueue.database import Database, read_now
from cronqueue.errors import RunAtError, StateError
from cronsched.errors import no_such_schedule

SKIPPED = "skipped:paused"
BY_ITSELF = "until"
# Of many schedules, so many share a transaction: nobody waits long for its locks.
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Paused:
    """How many schedules were paused, and how many jobs are held for it."""

    schedules: int
    held: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """How many jobs wait again, and how many were skipped."""

    queued: int
    skipped: int


def pause(
    database: Database,
    name: str,
    *,
    actor: str,
    reason: str | None = None,
    until: datetime | None = None,
) -> int:
    """Hold a schedule's jobs that have not been claimed, for good or until a time; returns how many.

    Said again it replaces what was said before. Raises LookupError, and RunAtError for a time that has
    passed or says no zone.
    """

    def work(connection: Connection) -> int:
        _check_end(database, connection, until)
        held = _pause(database, connection, name, actor, reason, until)
        if held is None:
            raise no_such_schedule(name)
        return held

    return database.write(work)


def pause_all(
    database: Database,
    names: Sequence[str],
    *,
    actor: str,
    reason: str | None = None,
    until: datetime | None = None,
) -> Paused:
    """Pause those of the schedules that are not: a pause that is there keeps its reason and its end.

    Many are paused in several transactions. Raises RunAtError.
    """

    def work(connection: Connection, part: Sequence[str]) -> list[int]:
        _check_end(database, connection, until)
        found = (
            _pause(database, connection, name, actor, reason, until, again=False) for name in part
        )
        return [held for held in found if held is not None]

    counts = [held for part in _parts(names) for held in database.write(partial(work, part=part))]
    return Paused(len(counts), sum(counts))


def pause_unless_paused(
    database: Database, connection: Connection, name: str, *, actor: str, reason: str
) -> bool:
    """Pause a schedule within a transaction; whether it was not paused before."""
    return _pause(database, connection, name, actor, reason, None, again=False) is not None


def resume(database: Database, name: str, *, actor: str, catch_up: bool = False) -> Resumed:
    """Let a paused schedule go on. With `catch_up` what came due is run by the schedule's own rules.

    Raises LookupError or StateError.
    """

    def work(connection: Connection) -> Resumed:
        row = connection.execute(
            text(_FIND.format(lock=_lock(database))), {"name": name}
        ).one_or_none()
        if row is None:
            raise no_such_schedule(name)
        if row.paused_at is None:
            raise StateError(f"schedule {name!r} is not paused")
        return _resume(database, connection, name, actor, catch_up)

    done = database.write(work)
    wakeup.notify(database)
    return done


def resume_all(
    database: Database, names: Sequence[str], *, actor: str, catch_up: bool = False
) -> list[Resumed]:
    """Let those of the schedules go on that are paused: what was done for each of them."""

    def work(connection: Connection, part: Sequence[str]) -> list[Resumed]:
        find = text(_FIND.format(lock=_lock(database)))
        rows = {name: connection.execute(find, {"name": name}).one_or_none() for name in part}
        return [
            _resume(database, connection, name, actor, catch_up)
            for name, row in rows.items()
            if row is not None and row.paused_at is not None
        ]

    done = [each for part in _parts(names) for each in database.write(partial(work, part=part))]
    wakeup.notify(database)
    return done


def resume_due(database: Database) -> int:
    """Resume the schedules whose pause has run out; returns how many."""

    def work(connection: Connection) -> int:
        statement = text(_DUE.format(now=database.now_sql, lock=_lock(database, "SKIP LOCKED")))
        names = connection.execute(statement, database.now_parameter()).scalars().all()
        for name in names:
            _resume(database, connection, name, BY_ITSELF, catch_up=False)
        return len(names)

    with database.snapshot() as connection:
        looked = text(_DUE.format(now=database.now_sql, lock=""))
        if connection.execute(looked, database.now_parameter()).first() is None:
            return 0
    resumed = database.write(work)
    wakeup.notify(database)
    return resumed


_PAUSE = """
UPDATE sched_schedules SET paused_at = {now}, paused_by = :actor, paused_reason = :reason,
    paused_until = {until}, updated_at = {now}
WHERE name = :name RETURNING name
"""
_PAUSE_ONCE = _PAUSE.replace("RETURNING", "AND paused_at IS NULL RETURNING")
# What was let through gives its guard back. A run that somebody asked for by hand goes on.
_HOLD = """
UPDATE sched_jobs SET state = 'held', held_reason = 'paused', slot = NULL, gated = (guard IS NOT NULL),
    updated_at = {now}
WHERE schedule = :name AND origin IN ('schedule', 'backfill') AND state IN ('queued', 'held')
RETURNING id
"""
_FIND = "SELECT paused_at FROM sched_schedules WHERE name = :name {lock}"
_DUE = """
SELECT name FROM sched_schedules WHERE paused_at IS NOT NULL AND paused_until <= {now} ORDER BY name {lock}
"""
_UNPAUSE = """
UPDATE sched_schedules SET paused_at = NULL, paused_by = NULL, paused_reason = NULL, paused_until = NULL,
    resumed_at = {now}, updated_at = {now}
WHERE name = :name
"""
_PASSED = """
UPDATE sched_jobs SET state = 'skipped', reason = :verdict, held_reason = NULL, gated = {no},
    finished_at = {now}, updated_at = {now}
WHERE schedule = :name AND state = 'held' AND held_reason = 'paused' AND run_at <= {now}
    AND started_at IS NULL
RETURNING id
"""
_JUDGE = """
UPDATE sched_occurrences SET verdict = :verdict, decided_at = {now}
WHERE schedule = :name AND verdict IS NULL AND job_id IN (
    SELECT id FROM sched_jobs WHERE schedule = :name AND state = 'skipped' AND reason = :verdict)
"""
_REQUEUE = """
UPDATE sched_jobs SET state = 'queued', held_reason = NULL, updated_at = {now}
WHERE schedule = :name AND state = 'held' AND held_reason = 'paused' RETURNING id
"""


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """In one order for all who lock several."""
    ordered = sorted(names)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]


def _check_end(database: Database, connection: Connection, until: datetime | None) -> None:
    if until is None:
        return
    if until.utcoffset() is None:
        raise RunAtError(f"until={until.isoformat()} has no time zone: use an aware datetime")
    if until <= read_now(database, connection):
        raise RunAtError(f"until={until.isoformat()} has passed: give a time to come")


def _pause(
    database: Database,
    connection: Connection,
    name: str,
    actor: str,
    reason: str | None,
    until: datetime | None,
    *,
    again: bool = True,
) -> int | None:
    row = {"actor": actor, "reason": reason}
    row["until"] = None if until is None else database.moment(until)
    statement = _PAUSE if again else _PAUSE_ONCE
    if not _execute(database, connection, statement, name, row).all():
        return None
    held = len(_execute(database, connection, _HOLD, name).all())
    told = {"reason": reason, "until": None if until is None else until.isoformat()}
    _record(database, connection, actor, "pause", name, told | {"held": held})
    return held


def _resume(
    database: Database, connection: Connection, name: str, actor: str, catch_up: bool
) -> Resumed:
    _execute(database, connection, _UNPAUSE, name)
    skipped = 0
    if not catch_up:
        verdict = {"verdict": SKIPPED}
        skipped = len(_execute(database, connection, _PASSED, name, verdict).all())
        if skipped:
            _execute(database, connection, _JUDGE, name, verdict)
    queued = len(_execute(database, connection, _REQUEUE, name).all())
    told = {"queued": queued, "skipped": skipped}
    _record(database, connection, actor, "resume", name, told)
    return Resumed(queued, skipped)


def _record(
    database: Database,
    connection: Connection,
    actor: str,
    action: str,
    name: str,
    detail: dict[str, Any],
) -> None:
    target = f"schedule {name}"
    record(database, connection, actor=actor, action=action, target=target, detail=detail)


def _execute(
    database: Database,
    connection: Connection,
    statement: str,
    name: str,
    parameters: dict[str, Any] | None = None,
) -> Any:
    sql = statement.format(
        now=database.now_sql,
        no="false" if database.is_postgresql else "0",
        until="CAST(:until AS timestamptz)" if database.is_postgresql else ":until",
    )
    values = {"name": name, **(parameters or {}), **database.now_parameter()}
    return connection.execute(text(sql), values)


def _lock(database: Database, how: str = "") -> str:
    return f"FOR UPDATE {how}" if database.is_postgresql else ""
