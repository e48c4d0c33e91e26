"""`sched_queue`: what a program's own tests see of the queue."""

import asyncio
from contextlib import nullcontext
from datetime import timedelta

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from cronqueue import Retry, Snooze, current_job, enqueue, job
from cronqueue.testing import SchedQueue
from job_rows import execute

HOUR = timedelta(hours=1)


@job(name="testing.greet")
def greet(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name


def test_nothing_runs_before_the_queue_is_drained(sched_queue: SchedQueue) -> None:
    made = greet.enqueue("you")
    assert made.refresh().state == "queued"
    (ran,) = sched_queue.drain()
    assert (ran.id, ran.state, ran.result) == (made.id, "succeeded", "you")
    assert sched_queue.drain() == []


def test_drain_runs_the_higher_priority_first_and_what_jobs_enqueue(
    sched_queue: SchedQueue,
) -> None:
    @job(name="testing.parent")
    def parent() -> None:
        greet.options(priority=9).enqueue("child")

    greet.options(priority=1).enqueue("low")
    parent.options(priority=5).enqueue()
    assert [ran.result for ran in sched_queue.drain()] == [None, "child", "low"]


def test_time_passes_only_when_it_is_advanced_and_jobs_run_at_their_time(
    sched_queue: SchedQueue,
) -> None:
    start = sched_queue.now
    seen: list[timedelta] = []

    @job(name="testing.note")
    def note() -> None:
        seen.append(sched_queue.now - start)

    for hours in (3, 1, 2):
        note.options(delay=hours * HOUR).enqueue()
    assert sched_queue.drain() == []
    assert len(sched_queue.advance("2h")) == 2
    assert (seen, sched_queue.now - start) == ([HOUR, 2 * HOUR], 2 * HOUR)


def test_a_retry_and_a_snooze_come_back_as_time_passes(sched_queue: SchedQueue) -> None:
    @job(name="testing.moody")
    def moody() -> int:
        if current_job().token == 1:
            raise Retry(delay="10m")
        if current_job().token == 2:
            raise Snooze("10m")
        return current_job().attempt

    made = moody.enqueue()
    sched_queue.advance("19m")
    assert (made.refresh().state, made.attempts) == ("queued", 1)
    sched_queue.advance("1m")
    assert (made.refresh().state, made.result) == ("succeeded", 2)


def test_what_was_enqueued_can_be_asserted_however_it_was_written(sched_queue: SchedQueue) -> None:
    made = enqueue(greet, kwargs={"name": "you"}, priority=3)
    assert sched_queue.assert_enqueued(greet).id == made.id
    assert sched_queue.assert_enqueued(greet, "you", loud=False).priority == 3
    assert sched_queue.assert_enqueued("testing.greet", "you").id == made.id
    with pytest.raises(AssertionError, match=r'(?s)no job of testing.greet with .*"me".*"you"'):
        sched_queue.assert_enqueued(greet, "me")


def test_inline_runs_each_job_before_enqueue_returns(sched_queue: SchedQueue) -> None:
    @job(name="testing.outer")
    def outer() -> int:
        inner = greet.enqueue("inner")
        assert inner.refresh().result == "inner"
        return current_job().id

    with sched_queue.inline():
        made = outer.enqueue()
        late = greet.options(delay="1h").enqueue("late")
        assert (made.refresh().result, late.refresh().state) == (made.id, "queued")
    assert greet.enqueue("after").refresh().state == "queued"


def test_a_coroutine_runs_also_where_the_test_is_one(sched_queue: SchedQueue) -> None:
    @job(name="testing.later")
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return current_job().id * 0 + number

    async def story() -> object:
        await later.enqueue_async(7)
        return sched_queue.drain()[0].result

    assert asyncio.run(story()) == 7


@pytest.mark.parametrize("inline", [False, True])
def test_what_joins_a_users_transaction_runs_after_its_commit(
    sched_queue: SchedQueue, inline: bool
) -> None:
    engine = create_engine(sched_queue.database.url)
    sched_queue.advance("1h")
    with sched_queue.inline() if inline else nullcontext(), Session(engine) as session:
        made = greet.options(session=session).enqueue("you")
        assert made.run_at == sched_queue.now
        assert sched_queue.jobs() == []
        session.commit()
    assert made.refresh().state == ("succeeded" if inline else "queued")
    assert len(sched_queue.drain()) == int(not inline)
    with Session(sched_queue.database.engine) as session, session.begin():
        assert greet.options(session=session).enqueue("you").run_at == sched_queue.now
    engine.dispose()


def test_a_task_that_enqueues_itself_is_stopped(
    sched_queue: SchedQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @job(name="testing.endless")
    def endless() -> None:
        endless.enqueue()

    monkeypatch.setattr("cronqueue.testing.MOST_JOBS", 20)
    endless.enqueue()
    with pytest.raises(RuntimeError, match="more than 20 jobs"):
        sched_queue.drain()


def test_the_fixture_comes_with_the_package_and_brings_its_own_database(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        from cronqueue import job

        @job(name="shop.order")
        def order(number: int) -> int:
            return number

        def test_one(sched_queue):
            order.options(delay="1h").enqueue(7)
            sched_queue.assert_enqueued(order, 7)
            assert [ran.result for ran in sched_queue.advance("1h")] == [7]

        def test_another_is_empty(sched_queue):
            assert sched_queue.jobs() == []
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_a_job_at_the_gate_is_let_through_when_its_time_comes(sched_queue: SchedQueue) -> None:
    first, second = (greet.options(delay=hours * HOUR).enqueue(str(hours)) for hours in (1, 2))
    execute(sched_queue.database, "UPDATE sched_jobs SET gated = true, guard = 'one at a time'")
    assert sched_queue.drain() == []
    assert [ran.id for ran in sched_queue.advance("3h")] == [first.id, second.id]
