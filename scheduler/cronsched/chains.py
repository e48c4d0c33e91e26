"""Chains: schedules whose runs follow one another at a fixed delay from the end of the run before.

A sweep writes the next occurrence of each that has no unfinished one. Every worker and every daemon sweeps,
every few seconds, so a row may be written a little late; what it is planned for is right all the same.
Whatever ended the run before, and whoever did, the chain goes on.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue import configuration, wakeup
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronsched.definition import Definition
from cronsched.ledger import NewOccurrence, write
from cronsched.materializer import is_paused, occurrences
from cronsched.planner import BY_PLAN, Extension, follow
from cronsched.rowsets import names_of
from cronsched.triggers import After

log = logging.getLogger("cronsched.daemon")

# Schedules per transaction.
BATCH = 500
# The planner finds nothing to write ahead for such a schedule and puts its next look off by decades, so
# that an index has them all beside few others.
FAR = timedelta(days=366)
# What is said of the trigger in a definition narrows it down; parsing decides.
MARKED = '%"kind":"after"%'


def continue_chains(database: Database) -> int:
    """Write what follows of each chain that stands still; returns how many went on."""
    with database.snapshot() as connection:
        names = _find_still(database, connection)
    done = 0
    for start in range(0, len(names), BATCH):
        batch = names[start : start + BATCH]
        done += database.write(partial(_continue, database, batch))
    if done:
        wakeup.notify(database)
    return done


_STILL = """
SELECT s.name FROM sched_schedules s
WHERE s.state = 'active' AND s.refill_at > :far AND s.definition LIKE :marked AND {still}
"""
_UNFINISHED = """
NOT EXISTS (SELECT 1 FROM sched_jobs j WHERE j.schedule = s.name AND j.schedule IS NOT NULL
    AND j.state IN ('queued', 'held') AND j.origin = 'schedule')
AND NOT EXISTS (SELECT 1 FROM sched_jobs j WHERE j.schedule = s.name
    AND j.state = 'running' AND j.origin = 'schedule')
"""
_LOCK = """
SELECT name FROM sched_schedules WHERE name IN ({names}) AND state = 'active'
ORDER BY name FOR UPDATE SKIP LOCKED
"""
# What a plan took back never came: it counts for nothing.
_CAME = f"o.schedule = s.name AND (o.verdict IS NULL OR o.verdict NOT IN {BY_PLAN})"
_LINKS = f"""
SELECT s.name, s.definition, s.revision, s.valid_from, s.paused_at, s.paused_until,
    (SELECT o.planned_for FROM sched_occurrences o WHERE {_CAME} ORDER BY o.planned_for DESC LIMIT 1) AS last,
    (SELECT COALESCE(j.finished_at, o.decided_at)
        FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id
        WHERE {_CAME} ORDER BY o.planned_for DESC LIMIT 1) AS ended_at
FROM sched_schedules s WHERE s.name IN ({{names}}) AND s.state = 'active' AND {_UNFINISHED} ORDER BY s.name
"""


def _find_still(database: Database, connection: Connection) -> list[str]:
    far = database.moment(read_now(database, connection) + FAR)
    statement = text(_STILL.format(still=_UNFINISHED))
    return sorted(connection.execute(statement, {"far": far, "marked": MARKED}).scalars())


def _continue(database: Database, names: list[str], connection: Connection) -> int:
    """Of those that nobody else is at; whether they stand still is looked at again under the lock."""
    if database.is_postgresql:
        locked = connection.execute(
            text(_LOCK.format(names=names_of(database))), {"names": json.dumps(names)}
        )
        names = list(locked.scalars())
    links = text(_LINKS.format(names=names_of(database))).columns(
        valid_from=Instant(),
        paused_at=Instant(),
        paused_until=Instant(),
        last=Instant(),
        ended_at=Instant(),
    )
    rows = connection.execute(links, {"names": json.dumps(names)}).all()
    now = read_now(database, connection)
    return write(database, connection, [each for row in rows for each in _next_link(row, now)])


def _next_link(row: Row[Any], now: datetime) -> list[NewOccurrence]:
    try:
        definition = Definition.from_json(row.definition)
    except Exception as error:  # whatever stands in that row, the others go on
        log.error("schedule %s cannot be computed from the database: %s", row.name, error)
        return []
    if not isinstance(definition.trigger, After):
        return []
    planned = follow(definition, _ended_at(row, now), row.last)
    if planned is None:
        return []
    extension = Extension((planned,), now, now)
    settings, paused = configuration.settings(), is_paused(row, now)
    return occurrences(definition, row.revision, extension, settings, paused)


def _ended_at(row: Row[Any], now: datetime) -> datetime:
    """When the run before ended; before the first one, and after a change of its times, when those came.

    One whose job was deleted behind our back ends now.
    """
    unknown = row.valid_from if row.last is None else now
    ended_at: datetime = max(row.ended_at or unknown, row.valid_from)
    return ended_at
