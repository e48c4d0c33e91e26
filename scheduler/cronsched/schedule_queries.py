"""What operators see of schedules, and do to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue import wakeup
from cronqueue.audit import record
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.insertion import NewJob, insert_jobs
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.errors import no_such_schedule
from cronsched.gate import guard_of
from cronsched.planner import Planned, upcoming


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule with its next and its last run. `state` is active, paused or retired.

    Of one whose stored definition cannot be read, task and queue are "?".
    """

    name: str
    words: str
    tz: str
    state: str
    source: str
    task: str
    queue: str
    priority: int
    next_run: datetime | None
    last_run: datetime | None
    last_verdict: str | None
    covered_until: datetime
    revision: int
    description: str | None
    paused_at: datetime | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How one schedule stands: the revision in force, and the pause if it is paused."""

    revision: int
    covered_until: datetime
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    paused_until: datetime | None
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One occurrence whose time has come, and what became of it."""

    planned_for: datetime
    verdict: str
    job_id: int | None


def list_schedules(database: Database, *, retired: bool = False) -> list[ScheduleRow]:
    """All schedules, the one that runs next first."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        rows = connection.execute(_LIST, {"now": database.moment(now)}).all()
    found = [_as_row(row, now) for row in rows if retired or row.state == "active"]
    return sorted(found, key=lambda each: (each.next_run is None, each.next_run or now, each.name))


def find_schedule(database: Database, name: str) -> ScheduleRow | None:
    """One schedule, a retired one too; None where there is none."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        parameters = {"now": database.moment(now), "name": name}
        row = connection.execute(_ONE, parameters).one_or_none()
    return None if row is None else _as_row(row, now)


def find_definition(database: Database, name: str) -> Definition:
    """The stored definition; raises LookupError."""
    with database.snapshot() as connection:
        stored = connection.execute(
            text("SELECT definition FROM sched_schedules WHERE name = :name"), {"name": name}
        ).scalar()
    if stored is None:
        raise no_such_schedule(name)
    return Definition.from_json(stored)


def all_definitions(
    database: Database, start: datetime, end: datetime
) -> tuple[list[Definition], list[str]]:
    """The definitions of the active schedules, and the names of those whose times in [start, end) cannot be
    computed here.
    """
    found: list[Definition] = []
    unreadable: list[str] = []
    with database.snapshot() as connection:
        rows = connection.execute(_DEFINITIONS).all()
    for row in rows:
        try:
            made = Definition.from_json(row.definition)
        except Exception:  # anything may have been written there by hand
            unreadable.append(row.name)
            continue
        if made.is_known(start, end):
            found.append(made)
        else:
            unreadable.append(row.name)
    return found, unreadable


def are_all_paused(database: Database) -> bool:
    """Whether there are schedules, and none of them goes on."""
    with database.snapshot() as connection:
        now = database.moment(read_now(database, connection))
        goes_on = connection.execute(_GOES_ON, {"now": now}).first()
        return goes_on is None and connection.execute(_ANY).first() is not None


def find_standing(database: Database, name: str) -> Standing:
    """The revision and the pause of one schedule; raises LookupError."""
    with database.snapshot() as connection:
        row = connection.execute(_STANDING, {"name": name}).one_or_none()
    if row is None:
        raise no_such_schedule(name)
    return Standing(**row._mapping)


def next_occurrences(
    database: Database, name: str, count: int, start: datetime | None = None
) -> tuple[Planned, ...]:
    """The next occurrences after `start`, by default after now on the database's clock."""
    definition = find_definition(database, name)
    return upcoming(definition, start or database.server_now(), count)


def history(database: Database, name: str, limit: int) -> list[LedgerRow]:
    """The occurrences up to now with their verdicts, the newest first; raises LookupError."""
    with database.snapshot() as connection:
        now = database.moment(read_now(database, connection))
        rows = connection.execute(_HISTORY, {"name": name, "now": now, "limit": limit})
        found = [LedgerRow(row.planned_for, row.verdict, row.job_id) for row in rows]
    if not found:
        find_definition(database, name)
    return found


def find_occurrence(database: Database, name: str, planned_for: datetime) -> LedgerRow | None:
    """One occurrence with what has become of it; None where it is not written."""
    with database.snapshot() as connection:
        key = {"name": name, "planned_for": database.moment(planned_for)}
        row = connection.execute(_OCCURRENCE, key).one_or_none()
    return None if row is None else LedgerRow(row.planned_for, row.verdict, row.job_id)


def recent_verdicts(
    database: Database, names: Sequence[str], limit: int
) -> dict[str, list[LedgerRow]]:
    """What has become of the newest occurrences of each of the schedules, the newest first."""
    found: dict[str, list[LedgerRow]] = {}
    with database.snapshot() as connection:
        now = database.moment(read_now(database, connection))
        # One by one: each is a short walk along the primary key, however long the ledger is.
        for name in names:
            rows = connection.execute(_HISTORY, {"name": name, "now": now, "limit": limit})
            found[name] = [LedgerRow(row.planned_for, row.verdict, row.job_id) for row in rows]
    return found


def trigger(
    database: Database,
    name: str,
    settings: Settings,
    *,
    actor: str,
    as_time: datetime | None = None,
) -> int:
    """Run a schedule's task now, outside its own times; returns the job's id. Raises LookupError."""
    definition = find_definition(database, name)

    # By hand it passes the gate for overlap only.
    guard = None if definition.overlap == "allow" else guard_of(definition)

    def work(connection: Connection) -> int:
        job = NewJob(
            task=definition.task,
            args_json=definition.args_json,
            queue=definition.queue,
            priority=definition.priority,
            max_attempts=definition.max_attempts or settings.max_attempts,
            timeout=None if definition.timeout is None else definition.timeout.total_seconds(),
            origin="manual",
            guard=guard,
            gated=guard is not None,
            schedule=name,
            planned_for=as_time or read_now(database, connection),
        )
        (job_id,) = insert_jobs(database, connection, [job])
        detail = {"job": job_id}
        record(
            database,
            connection,
            actor=actor,
            action="trigger",
            target=f"schedule {name}",
            detail=detail,
        )
        return job_id

    job_id = database.write(work)
    wakeup.notify(database)
    return job_id


_SCHEDULES = """
SELECT s.name, s.definition, s.tz, s.state, s.source, s.paused_at, s.paused_until, s.materialized_until,
    s.revision, s.description,
    (SELECT MIN(j.run_at) FROM sched_jobs j WHERE j.schedule = s.name AND j.state IN ('queued', 'held')
        AND j.schedule IS NOT NULL) AS next_run,
    (SELECT MAX(o.planned_for) FROM sched_occurrences o WHERE o.schedule = s.name AND o.planned_for <= :now)
        AS last_run,
    (SELECT l.verdict FROM sched_ledger l WHERE l.schedule = s.name AND l.planned_for <= :now
        ORDER BY l.planned_for DESC LIMIT 1) AS last_verdict
FROM sched_schedules s
"""
_TIMES = {
    name: Instant()
    for name in ("paused_at", "paused_until", "materialized_until", "next_run", "last_run")
}
_LIST = text(_SCHEDULES).columns(**_TIMES)
_ONE = text(f"{_SCHEDULES} WHERE s.name = :name").columns(**_TIMES)
_DEFINITIONS = text(
    "SELECT name, definition FROM sched_schedules WHERE state = 'active' ORDER BY name"
)
_ANY = text("SELECT 1 FROM sched_schedules WHERE state = 'active' LIMIT 1")
_GOES_ON = text("""
SELECT 1 FROM sched_schedules
WHERE state = 'active' AND (paused_at IS NULL OR paused_until <= :now) LIMIT 1
""")
_STANDING = text("""
SELECT revision, materialized_until AS covered_until, paused_at, paused_by, paused_reason, paused_until,
    retired_at
FROM sched_schedules WHERE name = :name
""").columns(
    covered_until=Instant(), paused_at=Instant(), paused_until=Instant(), retired_at=Instant()
)
_HISTORY = text("""
SELECT planned_for, verdict, job_id FROM sched_ledger
WHERE schedule = :name AND planned_for <= :now ORDER BY planned_for DESC LIMIT :limit
""").columns(planned_for=Instant())

_OCCURRENCE = text("""
SELECT planned_for, verdict, job_id FROM sched_ledger
WHERE schedule = :name AND planned_for = :planned_for
""").columns(planned_for=Instant())


def _as_row(row: Row[Any], now: datetime) -> ScheduleRow:
    words, task, queue, priority = _of_the_definition(row.definition)
    paused = row.paused_at is not None and (row.paused_until is None or row.paused_until > now)
    return ScheduleRow(
        row.name,
        words,
        row.tz,
        "paused" if paused and row.state == "active" else row.state,
        row.source,
        task,
        queue,
        priority,
        row.next_run,
        row.last_run,
        row.last_verdict,
        row.materialized_until,
        row.revision,
        row.description,
        row.paused_at if paused else None,
    )


def _of_the_definition(stored: str) -> tuple[str, str, str, int]:
    try:
        made = Definition.from_json(stored)
    except Exception as error:  # anything may have been written there by hand
        return f"cannot be read: {error}", "?", "?", 0
    return made.trigger.describe(), made.task, made.queue, made.priority


def soonest(rows: Sequence[ScheduleRow], count: int) -> list[ScheduleRow]:
    """The schedules that run next."""
    return [row for row in rows if row.next_run is not None][:count]
