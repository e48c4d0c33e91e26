"""Waiting: where jobs wait, by one look at the heads of the indexes.

In most of the places where jobs can wait, none does. The look tells, and spares claims and idle workers
the others. It brings the priorities and the paused queues, too: for a job that is picked up, each statement
more would take as long as the claim.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from cronqueue.database import Database, prepared


class Waiting(NamedTuple):
    """In which places jobs wait, whether their time has come or not."""

    priorities: tuple[int, ...]  # of those that a claim could take, highest first
    paused: frozenset[str]  # queues, whether any waits there or not
    gated: bool
    unknown: bool
    held_back: bool

    @property
    def at_gate(self) -> bool:
        """Whether any may have to pass it."""
        return self.gated or self.unknown or self.held_back


def where_jobs_wait(database: Database, connection: Connection) -> Waiting:
    """Where jobs wait now."""
    statement = prepared(look_sql(database.is_postgresql, database.now_sql))
    return read_look(connection.execute(statement, database.now_parameter()).one())


def read_look(row: Row[Any]) -> Waiting:
    """What a row of `look_sql` says."""
    return Waiting(
        tuple(json.loads(row.priorities)),
        frozenset(json.loads(row.paused)),
        bool(row.gated),
        bool(row.unknown),
        bool(row.held_back),
    )


@lru_cache
def look_sql(is_postgresql: bool, now_sql: str, more: str = "") -> str:
    """The look as one statement; `more` columns may read the priorities from `lane`."""
    listed = _LISTED_POSTGRESQL if is_postgresql else _LISTED_SQLITE
    return _LOOK.format(
        lanes=_LANES.format(condition=ANY_QUEUE),
        priorities=listed.format(values=_PRIORITIES),
        paused=listed.format(values=_PAUSED.format(now=now_sql)),
        more=more,
    )


def distinct_priorities(condition: str) -> str:
    """The priorities of queued jobs, highest first."""
    return f"{_LANES.format(condition=condition)} {_PRIORITIES}"


# Always true: it names the index over all queues (models.py).
ANY_QUEUE = "length(queue) > 0"
# By jumps over an index, never a walk of it.
_LANES = """
WITH RECURSIVE lane(value) AS (
    SELECT (SELECT priority FROM sched_jobs WHERE state = 'queued' AND NOT gated AND {condition}
        ORDER BY priority DESC LIMIT 1)
    UNION ALL
    SELECT (SELECT priority FROM sched_jobs WHERE state = 'queued' AND NOT gated AND {condition}
        AND priority < lane.value ORDER BY priority DESC LIMIT 1)
    FROM lane WHERE lane.value IS NOT NULL
)"""
_PRIORITIES = "SELECT value FROM lane WHERE value IS NOT NULL"
_PAUSED = """
    SELECT name AS value FROM sched_queues
    WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > {now})"""
_LISTED_POSTGRESQL = "CAST(array_to_json(ARRAY({values})) AS text)"
_LISTED_SQLITE = "(SELECT json_group_array(value) FROM ({values}))"
# Each in the order of its index: for EXISTS alone PostgreSQL may look for one through the whole table.
_LOOK = """
{lanes} SELECT {priorities} AS priorities, {paused} AS paused,
    (SELECT id FROM sched_jobs WHERE state = 'queued' AND gated
        ORDER BY run_at LIMIT 1) IS NOT NULL AS gated,
    (SELECT id FROM sched_jobs WHERE state = 'held' AND held_reason = 'unknown_task'
        ORDER BY task, priority DESC, run_at, id LIMIT 1) IS NOT NULL AS unknown,
    (SELECT id FROM sched_jobs WHERE state = 'held' AND held_reason = 'overlap'
        ORDER BY guard LIMIT 1) IS NOT NULL AS held_back{more}
"""
