"""The probe: when there is something to do next for a worker that has nothing to do."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from cronqueue.admission import seconds_until_due
from cronqueue.claim import Band, probe
from cronqueue.database import Database, prepared
from cronqueue.waiting import ANY_QUEUE, Waiting, look_sql, read_look


def seconds_until_work(database: Database, band: Band, tasks: tuple[str, ...]) -> float | None:
    """Seconds until a job can be claimed or comes to the gate, 0 when one is there; None when none waits.

    One statement tells as a rule: an idle worker has it sent every second.
    """
    with database.autocommit() as connection:
        waiting, due_in = look_ahead(database, connection)
    return due_in if _tells_all(waiting, band) else _ask_further(database, band, tasks, waiting)


def look_ahead(database: Database, connection: Connection) -> tuple[Waiting, float | None]:
    """Where jobs wait, and the seconds until the first of all that wait for their time alone."""
    ahead = _AHEAD.format(now=database.now_sql)
    sql = look_sql(database.is_postgresql, database.now_sql, ahead)
    statement = prepared(sql, "due_at", "gate_at", "now")
    row = connection.execute(statement, database.now_parameter()).one()
    return read_look(row), _soonest(_seconds(row.due_at, row.now), _seconds(row.gate_at, row.now))


def _tells_all(waiting: Waiting, band: Band) -> bool:
    """Whether the times alone decide: the worker takes any job that waits, and none waits for a guard."""
    is_for_anybody = not waiting.priorities or (band == Band() and not waiting.paused)
    return is_for_anybody and not (waiting.unknown or waiting.held_back)


def _ask_further(
    database: Database, band: Band, tasks: tuple[str, ...], waiting: Waiting
) -> float | None:
    due_in = gate_in = None
    with database.snapshot() as connection:
        if waiting.priorities or waiting.unknown:
            due_in = probe(database, connection, band, tasks, waiting)
        if waiting.at_gate:
            gate_in = seconds_until_due(database, connection, tasks)
    return _soonest(due_in, gate_in)


def _seconds(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max((moment - now).total_seconds(), 0.0)


def _soonest(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


# When the first of them is due, at any priority, and at the gate.
_AHEAD = f""",
    (SELECT MIN((SELECT run_at FROM sched_jobs WHERE state = 'queued' AND NOT gated AND {ANY_QUEUE}
        AND priority = lane.value ORDER BY run_at, id LIMIT 1)) FROM lane) AS due_at,
    (SELECT run_at FROM sched_jobs WHERE state = 'queued' AND gated ORDER BY run_at LIMIT 1) AS gate_at,
    {{now}} AS now"""
