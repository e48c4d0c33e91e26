"""When a worker that has nothing to do looks again, and what it costs where nothing waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cronqueue.claim import Band, Lane, find_lanes
from cronqueue.database import Database
from cronqueue.operations import pause_queue
from cronqueue.probing import look_around
from job_rows import add, add_occurrence, at, now, recorded_statements

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "waiting",
    [
        {"run_at": at(-1)},
        {"gated": True, "guard": "g", "run_at": at(-1)},
        {"state": "held", "held_reason": "unknown_task", "task": "known", "run_at": at(-1)},
        {"state": "held", "held_reason": "overlap", "guard": "g", "run_at": at(-1)},
    ],
)
def test_what_can_begin_is_found_wherever_it_waits(
    database: Database, waiting: dict[str, Any]
) -> None:
    assert look_around(database, Band(), ("known",)).due_in is None
    add_occurrence(database, **waiting)
    assert look_around(database, Band(), ("known",)).due_in == 0


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("band", [Band(), Band(queues=("default",))])
def test_the_next_one_is_waited_for(database: Database, gated: bool, band: Band) -> None:
    for priority, hours in ((5, 3), (0, 1), (-5, 2)):
        soon = now() + hours * HOUR
        add(database, run_at=soon, priority=priority, gated=gated, guard="g" if gated else None)
    found = look_around(database, band, ()).due_in
    assert found is not None
    assert HOUR.total_seconds() / 2 < found <= HOUR.total_seconds()


def test_what_waits_in_a_paused_queue_is_not_waited_for(database: Database) -> None:
    pause_queue(database, "default", actor="ann")
    add(database, run_at=at(-1))
    assert look_around(database, Band(), ()).due_in is None
    add(database, run_at=at(-1), queue="other")
    assert look_around(database, Band(), ()).due_in == 0


@pytest.mark.parametrize("waits", [True, False])
def test_one_statement_tells_what_an_idle_worker_wants_to_know(
    database: Database, waits: bool
) -> None:
    add(database, state="succeeded")
    add(database, state="held", held_reason="paused")
    if waits:
        add(database, run_at=now() + HOUR)
        add(database, run_at=now() + HOUR, gated=True, guard="g")
    with recorded_statements(database) as asked:
        assert (look_around(database, Band(), ("t",)).due_in is not None) is waits
    assert len(asked) == 1


def test_where_the_next_claim_looks_takes_one_statement_as_well(database: Database) -> None:
    for priority in (0, 5, 5, -3):
        add(database, priority=priority)
    with recorded_statements(database) as asked, database.begin() as connection:
        lanes = find_lanes(database, connection, Band(max_priority=4))
    assert lanes == (Lane(0, None), Lane(-3, None))
    assert len([sql for sql, _ in asked if "SELECT" in sql]) == 1
