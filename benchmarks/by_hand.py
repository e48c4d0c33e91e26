"""A pass as one would write it by hand for these schedules alone: croniter, and a few statements for all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from croniter import croniter
from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database

# A name and a time.
New = Sequence[tuple[str, datetime]]

_DUE = "SELECT name, definition, materialized_until FROM sched_schedules WHERE refill_at <= :now"
_JOBS = "INSERT INTO sched_jobs (task, run_at, origin, schedule, planned_for, guard, gated)"
_LEDGER = "INSERT INTO sched_occurrences (schedule, planned_for, utc_offset, job_id)"
_MOVE = """
UPDATE sched_schedules SET materialized_until = {max}(materialized_until, :until), refill_at = :refill_at
WHERE refill_at <= :now
"""
_NAMES_AND_TIMES = "CAST(:names AS text[]), CAST(:times AS timestamptz[])"
_JOBS_POSTGRESQL = f"""
{_JOBS} SELECT 't', at, 'schedule', name, at, name, true FROM unnest({_NAMES_AND_TIMES}) AS new(name, at)
RETURNING id
"""
_LEDGER_POSTGRESQL = f"""
{_LEDGER} SELECT name, at, 0, id FROM unnest({_NAMES_AND_TIMES}, CAST(:ids AS bigint[])) AS new(name, at, id)
"""
_JOBS_SQLITE = f"{_JOBS} VALUES ('t', :at, 'schedule', :name, :at, :name, 1)"
_LEDGER_SQLITE = f"{_LEDGER} VALUES (:name, :at, 0, :id)"


def write_due(database: Database, now: datetime, horizon: timedelta) -> float:
    """Seconds in which one transaction writes what is due up to the horizon, and moves the cursors."""
    until = now + horizon
    moments = {"now": now, "until": until, "refill_at": until - horizon * 0.9}
    parameters = {name: database.moment(moment) for name, moment in moments.items()}
    began = time.monotonic()
    with database.begin() as connection:
        lock = " FOR UPDATE" if database.is_postgresql else ""
        due = text(_DUE + lock).columns(materialized_until=Instant())
        new = [
            (row.name, at)
            for row in connection.execute(due, {"now": parameters["now"]})
            for at in _times(row.definition, row.materialized_until, until)
        ]
        if database.is_postgresql:
            _write_postgresql(connection, new)
        else:
            _write_sqlite(connection, new)
        greatest = "GREATEST" if database.is_postgresql else "MAX"
        connection.execute(text(_MOVE.format(max=greatest)), parameters)
    return time.monotonic() - began


def _times(definition: str, after: datetime, until: datetime) -> Iterator[datetime]:
    search = croniter(json.loads(definition)["trigger"]["expression"], after)
    while (found := search.get_next(datetime)) <= until:
        yield found


def _write_postgresql(connection: Connection, new: New) -> None:
    arrays = {"names": [name for name, _ in new], "times": [at for _, at in new]}
    ids = sorted(connection.execute(text(_JOBS_POSTGRESQL), arrays).scalars())
    connection.execute(text(_LEDGER_POSTGRESQL), {**arrays, "ids": ids})


def _write_sqlite(connection: Connection, new: New) -> None:
    rows = [{"name": name, "at": f"{at:%Y-%m-%dT%H:%M:%S}.000000Z"} for name, at in new]
    connection.execute(text(_JOBS_SQLITE), rows)
    last: int = connection.execute(text("SELECT last_insert_rowid()")).scalar_one()
    first = last - len(rows) + 1
    connection.execute(
        text(_LEDGER_SQLITE), [{**row, "id": number} for number, row in enumerate(rows, first)]
    )
