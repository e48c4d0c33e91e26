"""Waiting: where jobs wait, by one look at the heads of the indexes.

In most of the places where jobs can wait, none does. The look tells, and spares claims and idle workers
the others. It brings the priorities and the paused queues, too: for a job that is picked up, each statement
more would take as long as the claim.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Connection

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
    statement = prepared(_statement(database.is_postgresql, database.now_sql))
    row = connection.execute(statement, database.now_parameter()).one()
    return Waiting(
        tuple(json.loads(row.priorities)),
        frozenset(json.loads(row.paused)),
        bool(row.gated),
        bool(row.unknown),
        bool(row.held_back),
    )


def distinct_priorities(condition: str) -> str:
    """The priorities of queued jobs, highest first: by jumps over an index, never a walk of it."""
    queued = f"SELECT priority FROM sched_jobs WHERE state = 'queued' AND NOT gated AND {condition}"
    return f"""
    WITH RECURSIVE lane(priority) AS (
        SELECT ({queued} ORDER BY priority DESC LIMIT 1)
        UNION ALL
        SELECT ({queued} AND priority < lane.priority ORDER BY priority DESC LIMIT 1)
        FROM lane WHERE lane.priority IS NOT NULL
    ) SELECT priority FROM lane WHERE priority IS NOT NULL"""


# Always true: it names the index over all queues (models.py).
ANY_QUEUE = "length(queue) > 0"
_PAUSED = """
    SELECT name FROM sched_queues
    WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > {now})"""
# Each in the order of its index: for EXISTS alone PostgreSQL may look for one through the whole table.
_WAITING = """
SELECT {priorities} AS priorities, {paused} AS paused,
    (SELECT id FROM sched_jobs WHERE state = 'queued' AND gated
        ORDER BY run_at LIMIT 1) IS NOT NULL AS gated,
    (SELECT id FROM sched_jobs WHERE state = 'held' AND held_reason = 'unknown_task'
        ORDER BY task, priority DESC, run_at, id LIMIT 1) IS NOT NULL AS unknown,
    (SELECT id FROM sched_jobs WHERE state = 'held' AND held_reason = 'overlap'
        ORDER BY guard LIMIT 1) IS NOT NULL AS held_back
"""


@lru_cache
def _statement(is_postgresql: bool, now_sql: str) -> str:
    priorities, paused = distinct_priorities(ANY_QUEUE), _PAUSED.format(now=now_sql)
    if is_postgresql:
        as_json = "CAST(array_to_json(ARRAY({})) AS text)"
        return _WAITING.format(priorities=as_json.format(priorities), paused=as_json.format(paused))
    return _WAITING.format(
        priorities=f"(SELECT json_group_array(priority) FROM ({priorities}))",
        paused=f"(SELECT json_group_array(name) FROM ({paused}))",
    )
