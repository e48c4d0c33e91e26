"""The probe: when there is something to do next for a worker that has nothing to do."""

from __future__ import annotations

from cronqueue.admission import seconds_until_due
from cronqueue.claim import Band, probe
from cronqueue.database import Database
from cronqueue.waiting import where_jobs_wait


def seconds_until_work(database: Database, band: Band, tasks: tuple[str, ...]) -> float | None:
    """Seconds until a job can be claimed or comes to the gate, 0 when one is there; None when none waits."""
    with database.snapshot() as connection:
        waiting = where_jobs_wait(database, connection)
        due_in = gate_in = None
        if waiting.priorities or waiting.unknown:
            due_in = probe(database, connection, band, tasks, waiting)
        if waiting.at_gate:
            gate_in = seconds_until_due(database, connection, tasks)
    return min((each for each in (due_in, gate_in) if each is not None), default=None)
