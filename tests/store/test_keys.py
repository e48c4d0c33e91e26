"""Keys: one unfinished job for each, whoever enqueues at the same time, and free when it has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.orm import Session

from cronqueue import Discard, Snooze, current_job, enqueue_many, hook, job
from cronqueue.database import Database
from cronqueue.errors import ArgumentError, EncodingError, KeyTaken
from cronqueue.testing import SchedQueue
from job_rows import configured, query


@job(name="keys.end", max_attempts=2, backoff="1m")
def end(how: str) -> str:
    if how == "fail":
        raise ValueError(how)
    if how == "discard":
        raise Discard
    if how == "snooze" and current_job().token == 1:
        raise Snooze("1m")
    return how


@job(name="keys.start")
def start() -> None: ...


@pytest.fixture
def opened(database: Database) -> Iterator[Database]:
    with configured(database):
        yield database


def test_a_key_returns_the_unfinished_job_that_holds_it(sched_queue: SchedQueue) -> None:
    first = end.options(key="k", priority=5).enqueue("well")
    second = end.options(key="k", priority=9).enqueue("fail")
    assert (first.created, second.created) == (True, False)
    assert (second.id, second.priority, second.state) == (first.id, 5, "queued")
    assert len(sched_queue.jobs()) == 1


@pytest.mark.parametrize(
    ("how", "state"), [("well", "succeeded"), ("fail", "failed"), ("discard", "failed")]
)
def test_a_key_is_free_when_the_job_has_ended_and_not_before(
    sched_queue: SchedQueue, how: str, state: str
) -> None:
    first = end.options(key="k").enqueue(how)
    sched_queue.drain()
    if how == "fail":
        assert not end.options(key="k").enqueue("well").created  # it waits for its second attempt
        sched_queue.advance("2m")
    assert first.refresh().state == state
    assert end.options(key="k").enqueue("well").created


def test_a_snooze_keeps_the_key_and_a_cancel_frees_it(sched_queue: SchedQueue) -> None:
    first = end.options(key="k").enqueue("snooze")
    sched_queue.drain()
    assert not end.options(key="k").enqueue("well").created
    first.cancel()
    assert end.options(key="k").enqueue("well").created


def test_an_expired_job_frees_its_key(sched_queue: SchedQueue) -> None:
    end.options(key="k", delay="1h", expires="1m", queue="q").enqueue("well")
    sched_queue._clock.time += (sched_queue.jobs()[0].run_at - sched_queue.now) * 2
    sched_queue.drain()
    assert sched_queue.jobs()[0].state == "skipped"
    assert end.options(key="k").enqueue("well").created


@pytest.mark.parametrize(("key_until", "created"), [("start", True), ("finish", False)])
def test_until_the_start_or_the_finish_is_what_a_job_enqueued_meanwhile_sees(
    sched_queue: SchedQueue, key_until: Any, created: bool
) -> None:
    seen: list[bool] = []

    @job(name="keys.meanwhile")
    def meanwhile() -> None:
        seen.append(start.options(key="k", key_until=key_until).enqueue().created)

    meanwhile.options(key="k", key_until=key_until).enqueue()
    sched_queue.drain()
    assert seen == [created]


def test_a_retry_whose_key_is_taken_names_the_holder(sched_queue: SchedQueue) -> None:
    first = end.options(key="k").enqueue("discard")
    sched_queue.drain()
    second = end.options(key="k").enqueue("well")
    with pytest.raises(KeyTaken, match=f"key 'k' is held by job {second.id}"):
        first.retry()
    sched_queue.drain()
    assert first.retry().state == "queued"
    assert not end.options(key="k").enqueue("well").created  # a retry takes the key again


@pytest.mark.parametrize("key", ["", "x" * 501, "a\0b", "\ud800", 7, b"k"])
def test_a_key_that_cannot_be_stored_is_refused(sched_queue: SchedQueue, key: Any) -> None:
    with pytest.raises(EncodingError, match=r"^key"):
        end.options(key=key).enqueue("well")
    with pytest.raises(ArgumentError, match=r"give 'finish' or 'start'$"):
        end.options(key="k", key_until="never").enqueue("well")  # type: ignore[arg-type]
    assert sched_queue.jobs() == []


def together(number: int, act: Callable[[int], Any]) -> list[Any]:
    """What each of so many threads returns that begin at the same moment."""
    barrier = threading.Barrier(number)

    def run(index: int) -> Any:
        barrier.wait(30)
        return act(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def test_of_many_threads_with_one_key_one_creates_the_job(opened: Database) -> None:
    made = together(8, lambda index: end.options(key="k").enqueue("well"))
    assert len({each.id for each in made}) == 1
    assert [each.created for each in made].count(True) == 1
    assert query(opened, "SELECT COUNT(*) FROM sched_jobs") == [(1,)]


def test_bulks_with_the_same_keys_in_opposite_order_do_not_wait_in_a_circle(
    opened: Database,
) -> None:
    keys = [f"key-{number}" for number in range(30)]

    def bulk(index: int) -> list[int]:
        order = keys if index % 2 else keys[::-1]
        stored = enqueue_many([end.options(key=key).call(key) for key in order])
        assert [each.key for each in stored] == order
        return sorted(stored.ids)

    assert len({tuple(ids) for ids in together(4, bulk)}) == 1
    assert query(opened, "SELECT COUNT(*) FROM sched_jobs") == [(30,)]


def test_a_bulk_takes_its_keys_in_their_order(opened: Database) -> None:
    taken: list[str | None] = []

    @hook("enqueue", task=end)
    def note(made: Any) -> None:
        taken.append(made.key)

    enqueue_many([end.options(key=key).call("well") for key in "cab"])
    assert taken == ["a", "b", "c"]


def test_a_key_twice_in_a_bulk_is_one_job(opened: Database) -> None:
    stored = enqueue_many([end.options(key="k").call("one"), end.options(key="k").call("two")])
    assert stored.ids[0] == stored.ids[1]
    assert [each.created for each in stored] == [True, False]


def test_who_finds_the_key_in_an_open_transaction_waits_for_its_end(postgres_url: str) -> None:
    database = Database(postgres_url)
    with configured(database), ThreadPoolExecutor(1) as pool:
        with Session(database.engine) as session:
            first = end.options(key="k", session=session).enqueue("well")
            second = pool.submit(end.options(key="k").enqueue, "well")
            waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while query(database, waits) == [(0,)]:
                assert not second.done()
            session.rollback()
        assert second.result(30).created
        assert second.result().id != first.id
    database.dispose()
