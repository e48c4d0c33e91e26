"""The probe: when there is something to do next for a worker that has nothing to do.

In most of the places where jobs can wait, none does. One look at the heads of their indexes tells, and spares
an idle worker the others.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection

from cronqueue.admission import seconds_until_due
from cronqueue.claim import Band, probe
from cronqueue.database import Database, prepared


class Waiting(NamedTuple):
    """In which places jobs wait, whether their time has come or not."""

    queued: bool
    gated: bool
    unknown: bool
    held_back: bool

    @property
    def at_gate(self) -> bool:
        """Whether any may have to pass it."""
        return self.gated or self.unknown or self.held_back


def where_jobs_wait(connection: Connection) -> Waiting:
    """Where jobs wait now."""
    return Waiting._make(map(bool, connection.execute(prepared(_WAITING)).one()))


def seconds_until_work(database: Database, band: Band, tasks: tuple[str, ...]) -> float | None:
    """Seconds until a job can be claimed or comes to the gate, 0 when one is there; None when none waits."""
    with database.snapshot() as connection:
        waiting = where_jobs_wait(connection)
        due_in = gate_in = None
        if waiting.queued or waiting.unknown:
            due_in = probe(database, connection, band, tasks)
        if waiting.at_gate:
            gate_in = seconds_until_due(database, connection, tasks)
    return min((each for each in (due_in, gate_in) if each is not None), default=None)


# Each in the order of its index: for EXISTS alone PostgreSQL may look for one through the whole table.
_WAITING = """
SELECT
    (SELECT id FROM sched_jobs WHERE state = 'queued' AND NOT gated AND length(queue) > 0
        ORDER BY priority DESC, run_at, id LIMIT 1) IS NOT NULL AS queued,
    (SELECT id FROM sched_jobs WHERE state = 'queued' AND gated
        ORDER BY run_at LIMIT 1) IS NOT NULL AS gated,
    (SELECT id FROM sched_jobs WHERE state = 'held' AND held_reason = 'unknown_task'
        ORDER BY task, priority DESC, run_at, id LIMIT 1) IS NOT NULL AS unknown,
    (SELECT id FROM sched_jobs WHERE state = 'held' AND held_reason = 'overlap'
        ORDER BY guard LIMIT 1) IS NOT NULL AS held_back
"""
