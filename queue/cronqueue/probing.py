"""The probe: when there is something to do next for a worker that has nothing to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from cronqueue.admission import seconds_until_due
from cronqueue.claim import Band, probe
from cronqueue.database import Database, prepared
from cronqueue.registration import Presence, beat
from cronqueue.waiting import ANY_QUEUE, Waiting, look_sql, read_look


class Sight(NamedTuple):
    """What an idle worker has seen.

    `due_in`: seconds until a job can be claimed or comes to the gate, 0 when one is there; None when none
    waits. `lease_ends_in`: the same for the first lease of anybody's to run out, where that was asked for.
    `drain_asked`: whether one of those whose heartbeat went with it is asked to drain.
    """

    now: datetime
    due_in: float | None
    lease_ends_in: float | None
    drain_asked: bool = False


def look_around(
    database: Database,
    band: Band,
    tasks: tuple[str, ...],
    *,
    at_leases: bool = False,
    present: Sequence[Presence] = (),
) -> Sight:
    """The look of an idle worker. One statement as a rule: it is sent every second.

    `present`: processes whose heartbeat goes with it, in the same transaction.
    """
    with database.begin() if present else database.autocommit() as connection:
        waiting, sight = look_ahead(database, connection, at_leases=at_leases)
        if present:
            sight = sight._replace(drain_asked=beat(database, connection, present, sight.now))
    if _tells_all(waiting, band):
        return sight
    return sight._replace(due_in=_ask_further(database, band, tasks, waiting))


def look_ahead(
    database: Database, connection: Connection, *, at_leases: bool = False
) -> tuple[Waiting, Sight]:
    """Where jobs wait, and what is seen if it depends on their times alone."""
    ahead = _AHEAD.format(now=database.now_sql, lease_end=_LEASE_END if at_leases else "NULL")
    sql = look_sql(database.is_postgresql, database.now_sql, ahead)
    statement = prepared(sql, "due_at", "gate_at", "lease_end", "now")
    row = connection.execute(statement, database.now_parameter()).one()
    due_in = _soonest(_seconds(row.due_at, row.now), _seconds(row.gate_at, row.now))
    return read_look(row), Sight(row.now, due_in, _seconds(row.lease_end, row.now))


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
    {{lease_end}} AS lease_end, {{now}} AS now"""
# A walk over all that runs, so not to be asked for each time.
_LEASE_END = "(SELECT MIN(locked_until) FROM sched_jobs WHERE state = 'running')"
