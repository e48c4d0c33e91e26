"""INSERT of jobs: the one place where rows of `sched_jobs` come from."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, select, text
from sqlalchemy.orm import Session, defer
from sqlalchemy.sql.selectable import TextualSelect

from cronqueue.arrays import to_array
from cronqueue.columns import Instant
from cronqueue.database import Database, prepared
from cronqueue.errors import OutcomeUnknown
from cronqueue.models import OF_OTHERS, Job

log = logging.getLogger("cronqueue")

# Rows of one statement: it must be far from its time limit.
BATCH = 20_000


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be inserted. `run_at` None means now on the database's clock, plus `delay` seconds."""

    task: str
    args_json: str
    queue: str
    priority: int
    max_attempts: int
    run_at: datetime | None = None
    delay: float = 0.0
    timeout: float | None = None
    expires_at: datetime | None = None
    expires_in: float | None = None  # seconds after run_at
    key: str | None = None
    key_until: str | None = None
    tags_json: str | None = None
    origin: str = "adhoc"
    schedule: str | None = None
    planned_for: datetime | None = None
    guard: str | None = None
    gated: bool = False
    held_reason: str | None = None
    pinned: bool = False
    batch_id: str | None = None


class Inserted(NamedTuple):
    """What the database filled in."""

    id: int
    run_at: datetime
    expires_at: datetime | None
    created_at: datetime


def insert_job(database: Database, connection: Connection, new: NewJob) -> Inserted | None:
    """Insert one job; None where an unfinished job holds its key."""
    statement, parameters = _insert_statement(database, new)
    row = connection.execute(statement, parameters).one_or_none()
    return None if row is None else Inserted._make(row)


def insert_directly(database: Database, new: NewJob) -> Inserted | None:
    """Insert and commit one job past SQLAlchemy's transactions; None where that could not be.

    An unfinished job may hold its key, or the database has refused: a transaction tells which. Raises
    OutcomeUnknown.
    """
    if database.direct is None:
        return None
    statement, parameters = _insert_statement(database, new)
    try:
        row = database.direct.fetch(statement, parameters)
    except OutcomeUnknown:
        raise
    except Exception as error:
        log.debug("storing a job directly failed, a transaction tries: %s", error)
        return None
    if row is None:
        return None
    job_id, *moments = row
    return Inserted(job_id, *(database.as_moment(each) for each in moments))


def insert_jobs(database: Database, connection: Connection, new: Sequence[NewJob]) -> list[int]:
    """Insert jobs that have no key; returns their ids in the same order."""
    if len(new) > BATCH:
        return [
            job_id
            for start in range(0, len(new), BATCH)
            for job_id in insert_jobs(database, connection, new[start : start + BATCH])
        ]
    if not new:
        return []
    if database.is_postgresql:
        return _insert_columns(database, connection, new)
    # Straight to the driver, which knows `:name` too: SQLAlchemy copies the values of every row before.
    connection.exec_driver_sql(_ONE_SQLITE, [_parameters(database, each) for each in new])
    return _numbered(connection, len(new))


def insert_alike(
    database: Database, connection: Connection, new: NewJob, args_json: Sequence[str]
) -> list[int]:
    """Insert jobs without a key that differ in their arguments alone; returns their ids in this order."""
    if len(args_json) > BATCH:
        return [
            job_id
            for start in range(0, len(args_json), BATCH)
            for job_id in insert_alike(database, connection, new, args_json[start : start + BATCH])
        ]
    if database.is_postgresql:
        values = {name: getattr(new, name) for name in _KINDS}
        differing = {"args_json": to_array(args_json)}
        return _insert_arrays(database, connection, values | differing, tuple(differing))
    parameters = _parameters(database, new) | {"args": database.listed(args_json)}
    connection.execute(prepared(_ALIKE_SQLITE), parameters)
    return _numbered(connection, len(args_json))


def find_holder(connection: Connection, key: str) -> Job[Any] | None:
    """The unfinished job that holds the key; without what it was given, for who may not read that."""
    holder = select(Job).where(Job.unique_key == key)
    if not _may_read_all(connection):
        holder = holder.options(*(defer(each) for each in OF_OTHERS))
    with Session(connection, join_transaction_mode="rollback_only") as session:
        job: Job[Any] | None = session.scalars(holder).one_or_none()
        if job is not None:
            session.expunge(job)
            job.created = False
    return job


def _may_read_all(connection: Connection) -> bool:
    """Whether this role reads what other jobs were given; SQLite has no roles."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(connection.execute(_READS_ALL).scalar_one())


_READS_ALL = text("SELECT has_table_privilege('sched_jobs', 'SELECT')")

_COLUMNS = (
    "task, args, queue, priority, state, held_reason, run_at, max_attempts, timeout, expires_at, "
    "key, key_until, unique_key, tags, origin, schedule, planned_for, guard, gated, pinned, batch_id,"
    " created_at, updated_at"
)
# Five parameters go over the wire in half the client's time of twenty.
_LEFT_OUT: dict[str, object] = {
    "state": "queued",
    "held_reason": None,
    "run_at": None,
    "delay": 0.0,
    "timeout": None,
    "expires_at": None,
    "expires_in": None,
    "key": None,
    "key_until": None,
    "tags": None,
    "origin": "adhoc",
    "schedule": None,
    "planned_for": None,
    "guard": None,
    "gated": False,
    "pinned": False,
    "batch_id": None,
}
_KEY_CONFLICT = "ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING"

# "Now" is the server's: a client's clock that is wrong must not make its jobs late or early.
_RUN_AT = "COALESCE(CAST({run_at} AS timestamptz), {{now}} + make_interval(secs => {delay}))"
_EXPIRES_AT = (
    "COALESCE(CAST({expires_at} AS timestamptz), "
    + _RUN_AT
    + " + make_interval(secs => CAST({expires_in} AS float8)))"
)
_BY_NAME = {name: f":{name}" for name in ("run_at", "delay", "expires_at", "expires_in")}
_ROW_POSTGRESQL = f"""
    :task, CAST(:args AS json), :queue, :priority, :state, :held_reason, {_RUN_AT.format(**_BY_NAME)},
    :max_attempts, CAST(:timeout AS float8), {_EXPIRES_AT.format(**_BY_NAME)},
    :key, :key_until, :key, CAST(:tags AS json), :origin, :schedule, CAST(:planned_for AS timestamptz),
    :guard, :gated, :pinned, :batch_id, {{now}}, {{now}}"""
# SQLite has no clock of microseconds: times arrive computed.
_ROW_SQLITE = """
    :task, {args}, :queue, :priority, :state, :held_reason, :run_at,
    :max_attempts, :timeout, :expires_at,
    :key, :key_until, :key, :tags, :origin, :schedule, :planned_for,
    :guard, :gated, :pinned, :batch_id, :now, :now"""
_ONE_SQLITE = f"INSERT INTO sched_jobs ({_COLUMNS}) VALUES ({_ROW_SQLITE.format(args=':args')})"
# By the arguments alone, which are all that the jobs of most bulks differ in: one text instead of many rows.
_ALIKE_SQLITE = (
    f"INSERT INTO sched_jobs ({_COLUMNS}) SELECT {_ROW_SQLITE.format(args='args.value')}"
    " FROM json_each(:args) AS args"
)
# Arrays go over the wire as few parameters, however many the rows; three times as fast as rows of VALUES.
_KINDS = {
    "task": "text",
    "args_json": "text",
    "queue": "text",
    "priority": "int",
    "held_reason": "text",
    "run_at": "timestamptz",
    "delay": "float8",
    "max_attempts": "int",
    "timeout": "float8",
    "expires_at": "timestamptz",
    "expires_in": "float8",
    "tags_json": "text",
    "origin": "text",
    "schedule": "text",
    "planned_for": "timestamptz",
    "guard": "text",
    "gated": "bool",
    "pinned": "bool",
    "batch_id": "text",
}
_BY_PLACE = {name: f"{{{name}}}" for name in _BY_NAME}
_MANY_POSTGRESQL = f"""
INSERT INTO sched_jobs ({_COLUMNS})
SELECT {{task}}, CAST({{args_json}} AS json), {{queue}}, {{priority}},
    CASE WHEN {{held_reason}} IS NULL THEN 'queued' ELSE 'held' END, {{held_reason}},
    {_RUN_AT.format(**_BY_PLACE)}, {{max_attempts}}, {{timeout}}, {_EXPIRES_AT.format(**_BY_PLACE)},
    NULL, NULL, NULL, CAST({{tags_json}} AS json), {{origin}}, {{schedule}}, {{planned_for}},
    {{guard}}, {{gated}}, {{pinned}}, {{batch_id}}, {{now}}, {{now}}
FROM unnest({{arrays}}) AS new({{names}})
RETURNING id
"""


def _insert_statement(database: Database, new: NewJob) -> tuple[TextualSelect, dict[str, Any]]:
    """The statement for one job, and its parameters: what most jobs leave out stands in the SQL."""
    parameters = {
        name: value
        for name, value in _parameters(database, new).items()
        if name not in _LEFT_OUT or value != _LEFT_OUT[name]
    }
    return _insert_one(database.is_postgresql, tuple(parameters), database.now_sql), parameters


@lru_cache(maxsize=100)
def _insert_one(is_postgresql: bool, given: tuple[str, ...], now_sql: str) -> TextualSelect:
    """Without a key there is no conflict to arbitrate, and the plain INSERT is a little cheaper."""
    row = _ROW_POSTGRESQL.format(now=now_sql) if is_postgresql else _ROW_SQLITE.format(args=":args")
    row = re.sub(
        r":(\w+)",
        lambda found: found[0] if found[1] in given else _literal(_LEFT_OUT[found[1]]),
        row,
    )
    conflict = _KEY_CONFLICT if "key" in given else ""
    statement = (
        f"INSERT INTO sched_jobs ({_COLUMNS}) VALUES ({row}) {conflict}"
        " RETURNING id, run_at, expires_at, created_at"
    )
    return text(statement).columns(run_at=Instant(), expires_at=Instant(), created_at=Instant())


def _literal(value: object) -> str:
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


@lru_cache(maxsize=100)
def _insert_many(differing: tuple[str, ...], now_sql: str) -> TextClause:
    """The jobs differ in these; in what is alike each value goes over once."""
    words = {
        name: f"new.{name}" if name in differing else f"CAST(:{name} AS {kind})"
        for name, kind in _KINDS.items()
    }
    arrays = ", ".join(f"CAST(:{name} AS {_KINDS[name]}[])" for name in differing)
    statement = _MANY_POSTGRESQL.format(
        **words, arrays=arrays, names=", ".join(differing), now=now_sql
    )
    return text(statement)


def _numbered(connection: Connection, count: int) -> list[int]:
    """The ids that SQLite has just given to so many rows."""
    last: int = connection.execute(prepared("SELECT last_insert_rowid()")).scalar_one()
    # This transaction is the only writer, and AUTOINCREMENT only counts up: no gaps.
    return list(range(last - count + 1, last + 1))


def _insert_columns(database: Database, connection: Connection, new: Sequence[NewJob]) -> list[int]:
    columns = {name: list(map(attrgetter(name), new)) for name in _KINDS}
    alike = {name for name, values in columns.items() if len(set(values)) == 1} - {"run_at"}
    differing = tuple(name for name in columns if name not in alike)
    parameters = {
        name: values[0] if name in alike else to_array(values) for name, values in columns.items()
    }
    return _insert_arrays(database, connection, parameters, differing)


def _insert_arrays(
    database: Database,
    connection: Connection,
    parameters: dict[str, Any],
    differing: tuple[str, ...],
) -> list[int]:
    statement = _insert_many(differing, database.now_sql)
    ids = connection.execute(statement, parameters | database.now_parameter()).scalars()
    # Rows are inserted, and numbered, in the order of the arrays; RETURNING promises none.
    return sorted(ids)


def _parameters(database: Database, new: NewJob) -> dict[str, Any]:
    parameters = {
        "task": new.task,
        "args": new.args_json,
        "queue": new.queue,
        "priority": new.priority,
        "state": "held" if new.held_reason else "queued",
        "held_reason": new.held_reason,
        "run_at": new.run_at,
        "delay": new.delay,
        "max_attempts": new.max_attempts,
        "timeout": new.timeout,
        "expires_at": new.expires_at,
        "expires_in": new.expires_in,
        "key": new.key,
        "key_until": new.key_until if new.key is not None else None,
        "tags": new.tags_json,
        "origin": new.origin,
        "schedule": new.schedule,
        "planned_for": new.planned_for,
        "guard": new.guard,
        "gated": new.gated,
        "pinned": new.pinned,
        "batch_id": new.batch_id,
    }
    if not database.is_postgresql:
        _settle_times(database, parameters)
        return parameters
    return parameters | database.now_parameter()


def _settle_times(database: Database, parameters: dict[str, Any]) -> None:
    now = database.clock.now()
    run_at = parameters["run_at"] or now + timedelta(seconds=parameters["delay"])
    expires_at = parameters["expires_at"]
    if expires_at is None and parameters["expires_in"] is not None:
        expires_at = run_at + timedelta(seconds=parameters["expires_in"])
    for name, moment in (
        ("run_at", run_at),
        ("expires_at", expires_at),
        ("planned_for", parameters["planned_for"]),
        ("now", now),
    ):
        parameters[name] = None if moment is None else database.moment(moment)
