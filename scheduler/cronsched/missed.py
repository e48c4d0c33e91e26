"""Missed occurrences are told: to the task that their schedule names with `on_missed`.

Every worker looks every few seconds for what the gate or the clock has ended as `missed:*`. Telling it is a
job, written in the transaction that notes that it was told: so it is told once, and retried like any job.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue import configuration, wakeup
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.insertion import NewJob, insert_jobs
from cronqueue.registry import DEFAULT_QUEUE
from cronqueue.serialization import encode_value
from cronsched.definition import Definition
from cronsched.triggers import to_text
from cronsched.watching import watched_schedules

# Of so many the newest are named one by one.
MOST_NAMED = 100
# Told of at a time.
BATCH = 1_000


def tell_missed(database: Database) -> int:
    """Write a job for each schedule of which something has been missed since it was told last."""
    tellers = [
        each.definition
        for each in watched_schedules(database)
        if each.definition.on_missed is not None
    ]
    told = sum(database.write(partial(_tell, database, made)) for made in tellers)
    if told:
        wakeup.notify(database)
    return told


# What was decided longer ago was missed before anybody asked.
_FRESH = timedelta(hours=1)
_UNTOLD = """
SELECT planned_for FROM sched_occurrences
WHERE schedule = :name AND substr(verdict, 1, 7) = 'missed:' AND told_at IS NULL AND decided_at > :since
LIMIT :limit
"""
_TELL = f"""
UPDATE sched_occurrences SET told_at = :now
WHERE schedule = :name AND planned_for = ANY(ARRAY({_UNTOLD} FOR UPDATE SKIP LOCKED))
RETURNING planned_for, verdict
"""
# The only writer, and a database without arrays.
_TELL_SQLITE = f"""
UPDATE sched_occurrences SET told_at = :now WHERE schedule = :name AND planned_for IN ({_UNTOLD})
RETURNING planned_for, verdict
"""


def _tell(database: Database, made: Definition, connection: Connection) -> int:
    now = read_now(database, connection)
    statement = text(_TELL if database.is_postgresql else _TELL_SQLITE)
    moments = {"now": database.moment(now), "since": database.moment(now - _FRESH)}
    chosen = {"name": made.name, "limit": BATCH} | moments
    told = connection.execute(statement.columns(planned_for=Instant()), chosen).all()
    if not told:
        return 0
    rows = sorted(told, key=lambda row: row.planned_for)
    insert_jobs(database, connection, [_job(made, rows)])
    return 1


def _job(made: Definition, rows: Sequence[Row[Any]]) -> NewJob:
    named = [
        {"planned_for": to_text(row.planned_for), "verdict": row.verdict}
        for row in rows[-MOST_NAMED:]
    ]
    kwargs = {"schedule": made.name, "missed": named, "count": len(rows)}
    return NewJob(
        task=made.on_missed or "",
        args_json=encode_value({"args": [], "kwargs": kwargs}),
        queue=made.on_missed_queue or DEFAULT_QUEUE,
        priority=0,
        max_attempts=configuration.settings().max_attempts,
    )
