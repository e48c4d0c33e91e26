"""Floors: a claim takes what lies above them, and passes nothing of what lies below."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from cronqueue.claim import BOTTOM, Band, Claimed, Floor, Lane, claim, find_lanes, new_token
from cronqueue.database import Database
from cronqueue.exchange import Order, Request, exchange
from cronqueue.finish import Retention
from cronqueue.search import SLOW, Found, Search
from job_rows import WORKER, add, claim_due, execute, hand_in, ids, now
from statement_cost import measured

HOUR = timedelta(hours=1)
BANDS = [Band(), Band(queues=("default", "mail"))]


def claim_from(
    database: Database, band: Band, floors: dict[int, Floor], room: int = 10
) -> list[Claimed]:
    """Take what is due above these floors, by priority."""

    def work(connection: object) -> list[Claimed]:
        lanes = tuple(
            lane._replace(floor=floors.get(lane.priority, BOTTOM))
            for lane in find_lanes(database, connection, band)  # type: ignore[arg-type]
        )
        return claim(database, connection, lanes, room, WORKER, new_token())  # type: ignore[arg-type]

    return database.write(work)


@pytest.mark.parametrize("band", BANDS, ids=["all queues", "some queues"])
def test_a_claim_takes_what_comes_after_its_floor_in_run_at_and_id(
    database: Database, band: Band
) -> None:
    early, same = now() - 2 * HOUR, now() - HOUR
    add(database, run_at=early)
    first = add(database, run_at=same)
    second = add(database, run_at=same, queue="mail")
    later = add(database, run_at=same + timedelta(minutes=1))
    higher = add(database, run_at=early, priority=9)
    taken = claim_from(database, band, {0: Floor(same, first)})
    assert ids(taken) == [higher, second, later]


@pytest.mark.parametrize("band", BANDS, ids=["all queues", "some queues"])
def test_what_lies_below_a_floor_is_found_by_a_sweep(database: Database, band: Band) -> None:
    below = add(database, run_at=now() - HOUR)
    floors = {0: Floor(now() - timedelta(minutes=1), 0)}
    assert claim_from(database, band, floors) == []
    assert ids(claim_due(database, band=band)) == [below]


def test_only_a_sweep_ends_a_search(database: Database) -> None:
    below = add(database, run_at=now() - HOUR)
    slow = Lane(0, None, Floor(now() - timedelta(minutes=1), 0))
    search = Search(sweep_at=10.0, rested_at=5.0, is_slow=True, lanes=(slow,))
    found = exchanged(database, search.lanes_at(0.0))
    search = search.after(found)
    assert (found.jobs, search.claim_at) == ([], 5.0)
    found = exchanged(database, search.lanes_at(search.claim_at))
    assert ids(found.jobs) == [below]


def test_while_another_transaction_stays_open_a_floor_spares_the_dead_entries(
    postgres_url: str,
) -> None:
    database = Database(postgres_url)
    execute(
        database,
        "INSERT INTO sched_jobs (task, run_at) SELECT 'demo.add', now() - interval '1 hour'"
        " FROM generate_series(1, 8100)",
    )
    with database.snapshot() as other:
        other.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        other.execute(text("SELECT 1 FROM sched_jobs LIMIT 1"))
        for _ in range(16):
            last = claim_due(database, 500)
            hand_in(database, last)
        with database.begin() as connection:
            lanes = find_lanes(database, connection, Band())
        found = Found(lanes, last, True, False, False, 0.0, SLOW * 2)
        floored = Search().after(found).lanes_at(0.0)
        assert floored is not None
        with database.begin() as connection, measured(database) as from_the_floor:
            assert len(claim(database, connection, floored, 5, WORKER, new_token())) == 5
        with database.begin() as connection, measured(database) as from_the_bottom:
            assert len(claim(database, connection, lanes, 5, WORKER, new_token())) == 5
        # The pages of eight thousand dead rows; what both have in common is the writing of five.
        assert from_the_bottom.pages > 3 * from_the_floor.pages, from_the_bottom
    database.dispose()


def exchanged(database: Database, lanes: tuple[Lane, ...] | None) -> Found:
    """A claim by an executor in these lanes."""
    order = Order(WORKER, Band(), new_token(), 5, 5, lanes, lambda name: True, ("demo.add",))
    found = exchange(database, Request(order=order), Retention()).found
    assert found is not None
    return found
