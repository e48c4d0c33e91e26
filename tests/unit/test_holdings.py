"""How much an executor claims: buffers follow how short its jobs are, and order is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from cronqueue.claim import Claimed
from cronqueue.execution import Execution, Surroundings
from cronqueue.finish import Finished, Retention
from cronqueue.holdings import SHORT_BUFFER, Holdings
from cronqueue.retry import SUCCEEDED

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLACES, READ_AHEAD = 4, 100
SURROUNDINGS = Surroundings(SimpleNamespace(), "worker", Retention())  # type: ignore[arg-type]


def job(number: int, *, priority: int = 0, token: str = "t", alone: bool = False) -> Claimed:
    run_at = START + timedelta(seconds=number)
    return Claimed(
        number, "demo", "", "default", priority, run_at, 1, 25, 1,
        None, None, None, None, None, 0, alone, None, START, token,
    )  # fmt: skip


class Executor:
    """An executor with jobs that take no time, and a queue that never ends."""

    def __init__(self) -> None:
        self.holdings = Holdings(PLACES, READ_AHEAD, PLACES + 3 * READ_AHEAD)
        self.claims: list[int] = []
        self.number = 0

    def claim(self, now: float, room: int) -> None:
        self.claims.append(room)
        token = f"t{len(self.claims)}"
        ids = range(self.number, self.number + room)
        self.number += room
        self.holdings.add(token, [job(each, token=token) for each in ids], now, now)

    def offer(self) -> list[Execution]:
        holdings = self.holdings
        offered = [
            Execution(each, SURROUNDINGS, entry=holdings.take_entry())
            for each in holdings.next_to_offer()
        ]
        holdings.place(offered)
        return offered

    def end(self, executions: list[Execution]) -> None:
        for each in executions:
            claimed = each.claimed
            self.holdings.end(each, Finished(claimed.id, claimed.lock_token, 1, SUCCEEDED))
        self.holdings.settle(executions)


def drain(seconds_a_turn: float, turns: int) -> Executor:
    executor, now = Executor(), 100.0
    for _ in range(turns):
        executor.holdings.adapt(now)
        executor.claim(now, executor.holdings.room(0))
        executor.end(executor.offer())
        now += seconds_a_turn
    return executor


def test_the_first_claim_takes_as_many_jobs_as_can_start() -> None:
    assert drain(0.001, 1).claims == [PLACES]


def test_while_jobs_are_short_claims_grow_to_what_may_be_read_ahead() -> None:
    claims = drain(0.001, 20).claims
    assert claims == sorted(claims)
    assert claims[-1] == READ_AHEAD


def test_jobs_that_outlast_the_buffer_are_not_read_ahead() -> None:
    assert set(drain(5 * SHORT_BUFFER, 20).claims) == {PLACES}


def test_a_claim_fills_one_half_of_the_buffer_while_the_pool_works_on_the_other() -> None:
    executor = drain(0.001, 20)
    executor.claim(200.0, executor.holdings.room(0))
    begun = executor.offer()
    assert len(begun) == READ_AHEAD
    waiting = READ_AHEAD - PLACES
    assert executor.holdings.room(waiting) == READ_AHEAD
    executor.claim(200.0, READ_AHEAD)
    executor.offer()
    assert executor.holdings.room(waiting + READ_AHEAD) == 0


def test_nothing_more_is_claimed_than_the_board_has_lines_for() -> None:
    executor = drain(0.001, 20)
    held = 0
    while (room := executor.holdings.room(0)) > 0:
        executor.claim(200.0, room)
        for each in executor.offer():  # ended, and not handed in: the database is away
            claimed = each.claimed
            finished = Finished(claimed.id, claimed.lock_token, 1, SUCCEEDED)
            assert executor.holdings.end(each, finished)
        held += room
    assert held == PLACES + 3 * READ_AHEAD


def test_the_best_of_all_that_waits_is_offered_first() -> None:
    holdings = Holdings(PLACES, READ_AHEAD, 100)
    holdings.add("a", [job(1, token="a"), job(3, token="a")], 100.0, 100.0)
    holdings.add("b", [job(9, priority=5, token="b"), job(2, token="b")], 100.0, 100.0)
    assert [each.id for each in holdings.next_to_offer()] == [9, 1, 2, 3]


def test_what_is_taken_back_waits_in_its_old_place_and_frees_its_line() -> None:
    executor = Executor()
    executor.claim(100.0, PLACES)
    offered = executor.offer()
    executor.holdings.take_back(offered[1:3])
    assert [each.id for each in executor.holdings.waiting] == [1, 2]
    assert executor.holdings.oldest_claim() == 100.0
    again = executor.offer()
    assert {each.entry for each in again} == {each.entry for each in offered[1:3]}


def test_a_job_that_must_run_alone_has_nothing_beside_it() -> None:
    executor = Executor()
    jobs: list[Any] = [job(1), job(2), job(3, alone=True), job(4)]
    executor.holdings.add("t", jobs, 100.0, 100.0)
    steps = []
    while offered := executor.offer():
        steps.append([each.claimed.id for each in offered])
        assert executor.offer() == []
        executor.end(offered)
    assert steps == [[1, 2], [3], [4]]


def test_an_end_that_comes_after_we_gave_the_job_up_changes_nothing() -> None:
    executor = Executor()
    executor.claim(100.0, 1)
    (execution,) = executor.offer()
    finished = Finished(0, "t1", 1, SUCCEEDED)
    assert executor.holdings.end(execution, finished)
    assert not executor.holdings.end(execution, finished._replace(worker="late"))
    assert list(executor.holdings.finished.values()) == [finished]
