"""Materializer: writes on what the stored schedules promise, before it is used up.

It works from the definitions in the database, never from files, so it does not matter which version of the
code runs. Any number of daemons share the work: each takes schedules that no other is at.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue import wakeup
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.ledger import NewOccurrence, new_job, write
from cronsched.ledger_changes import read_ahead
from cronsched.planner import Extension, extend

log = logging.getLogger("cronsched.daemon")

# Schedules per transaction: their rows are locked for a fraction of a second.
BATCH = 500
# A definition that cannot be computed here is looked at again after this.
FAULT_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class TopUp:
    """What a pass has written, and which stored definitions could not be computed."""

    schedules: int = 0
    jobs: int = 0
    faults: tuple[str, ...] = ()


def top_up(database: Database, settings: Settings) -> TopUp:
    """Write on every schedule of which a tenth of the range ahead is used up.

    What becomes due meanwhile is left to the next pass, so that a pass ends however much there is to do.
    """
    total, until = TopUp(), database.server_now()
    while True:
        part = database.write(
            lambda connection: _top_up_batch(database, connection, settings, until)
        )
        total = TopUp(
            total.schedules + part.schedules, total.jobs + part.jobs, total.faults + part.faults
        )
        if part.jobs:
            wakeup.notify(database)
        if part.schedules < BATCH:
            return total


def next_refill(database: Database) -> datetime | None:
    """When the next schedule needs to be written on; None when there is none."""
    statement = text("SELECT MIN(refill_at) AS at FROM sched_schedules WHERE state = 'active'")
    with database.snapshot() as connection:
        moment: datetime | None = connection.execute(statement.columns(at=Instant())).scalar()
    return moment


def is_paused(row: Row[Any], now: datetime) -> bool:
    """Whether a schedule's new occurrences are to be held."""
    return row.paused_at is not None and (row.paused_until is None or row.paused_until > now)


def move_cursors(
    database: Database, connection: Connection, cursors: Sequence[tuple[str, datetime, datetime]]
) -> None:
    """Set how far schedules are written, and when they are looked at again."""
    if cursors:
        rows = [
            {
                "name": name,
                "until": database.moment(until),
                "refill_at": database.moment(refill_at),
            }
            for name, until, refill_at in cursors
        ]
        connection.execute(text(_MOVE), rows)


_REFILLABLE = """
SELECT name, definition, revision, materialized_until, paused_at, paused_until FROM sched_schedules
WHERE state = 'active' AND refill_at <= :until ORDER BY refill_at LIMIT :limit {lock}
"""
_MOVE = """
UPDATE sched_schedules SET materialized_until = :until, refill_at = :refill_at WHERE name = :name
"""


def _top_up_batch(
    database: Database, connection: Connection, settings: Settings, until: datetime
) -> TopUp:
    now = read_now(database, connection)
    rows = _refillable(database, connection, until)
    ahead = read_ahead(database, connection, [row.name for row in rows], now)
    new: list[NewOccurrence] = []
    cursors: list[tuple[str, datetime, datetime]] = []
    faults: list[str] = []
    for row in rows:
        try:
            definition = Definition.from_json(row.definition)
            horizon = definition.horizon or settings.horizon
            extension = extend(definition, row.materialized_until, now, ahead[row.name], horizon)
        except Exception as error:  # whatever stands in that row, the others go on
            faults.append(f"schedule {row.name} cannot be computed from the database: {error}")
            cursors.append((row.name, row.materialized_until, now + FAULT_PAUSE))
            continue
        new += occurrences(definition, row.revision, extension, settings, is_paused(row, now))
        cursors.append((row.name, extension.materialized_until, extension.refill_at))
    jobs = write(database, connection, new)
    move_cursors(database, connection, cursors)
    return TopUp(len(rows), jobs, tuple(faults))


def _refillable(database: Database, connection: Connection, until: datetime) -> Sequence[Row[Any]]:
    lock = "FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""
    statement = text(_REFILLABLE.format(lock=lock)).columns(
        materialized_until=Instant(), paused_at=Instant(), paused_until=Instant()
    )
    return connection.execute(statement, {"limit": BATCH, "until": database.moment(until)}).all()


def occurrences(
    definition: Definition, revision: int, extension: Extension, settings: Settings, paused: bool
) -> list[NewOccurrence]:
    """The rows of an extension."""
    return [
        NewOccurrence(
            definition.name,
            revision,
            planned,
            new_job(definition, planned, settings, paused=paused),
        )
        for planned in extension.occurrences
    ]
