"""Handles: what a program learns of its jobs, and can still do to them."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from cronqueue import Job, current_job, enqueue, enqueue_many, handles, job
from cronqueue.database import Database
from cronqueue.errors import ArgumentError, CronqueueError, StateError, WaitTimeout
from cronqueue.testing import SchedQueue
from job_rows import configured, execute, query


@job(name="handles.double", max_attempts=1)
def double(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number


@pytest.fixture
def opened(database: Database) -> Iterator[Database]:
    with configured(database):
        yield database


def test_a_handle_shows_the_row_as_it_was_until_it_is_refreshed(sched_queue: SchedQueue) -> None:
    made = double.options(tags={"customer": "acme"}).enqueue(4)
    sched_queue.drain()
    assert (made.state, made.result, made.done) == ("queued", None, False)
    assert made.refresh() is made
    assert (made.state, made.result, made.done) == ("succeeded", 8, True)
    found = Job.get(made.id)
    assert found is not None
    assert (found.result, found.attempts, found.tags_json) == (8, 1, '{"customer":"acme"}')


def test_a_fresh_handle_has_every_column_that_the_row_has(sched_queue: SchedQueue) -> None:
    options = double.options(
        delay="5m", priority=3, queue="q", key="k", max_attempts=4, timeout="1m", expires="1h"
    )
    for made in (options.enqueue(4), double.enqueue(4), enqueue("handles.unknown")):
        stored = Job.get(made.id)
        for column in Job.__mapper__.column_attrs:
            assert getattr(made, column.key) == getattr(stored, column.key), column.key


def test_a_failed_job_shows_its_traceback_and_no_result(sched_queue: SchedQueue) -> None:
    made = double.enqueue(-1)
    sched_queue.drain()
    assert made.wait("1s").state == "failed"
    assert made.result is None
    assert made.last_error is not None
    assert made.last_error.endswith("ValueError: -1 is negative\n")
    assert 'raise ValueError(f"{number} is negative")' in made.last_error


def test_waiting_ends_when_somebody_else_finishes_the_job(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = double.enqueue(4)
    has_looked = threading.Event()
    look = handles._look

    def looked(job: Job[Any]) -> Job[Any]:
        seen = look(job)
        has_looked.set()
        return seen

    monkeypatch.setattr(handles, "_look", looked)

    def finish() -> None:
        has_looked.wait(30)
        execute(opened, "UPDATE sched_jobs SET state = 'succeeded', result = '8'")

    other = threading.Thread(target=finish)
    other.start()
    assert made.wait("30s").result == 8
    other.join()


def test_waiting_looks_once_more_when_its_time_is_over(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that ends a moment before the timeout is not reported as unfinished."""
    made = double.enqueue(4)
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] > 9.999:
            execute(opened, "UPDATE sched_jobs SET state = 'succeeded', result = '8'")

    monkeypatch.setattr("cronqueue.handles.time.sleep", sleep)
    monkeypatch.setattr("cronqueue.handles.time.monotonic", lambda: clock[0])
    assert made.wait(10).result == 8
    assert clock[0] == 10


def test_waiting_in_vain_says_so(opened: Database) -> None:
    made = double.options(delay="1h").enqueue(4)
    with pytest.raises(WaitTimeout, match=f"job {made.id} is still queued after 0.01"):
        made.wait(0.01)
    with pytest.raises(TimeoutError):
        made.wait(timedelta(0))
    for wrong in ("soon", -1, float("nan")):
        with pytest.raises(ArgumentError, match="timeout="):
            made.wait(wrong)


def test_a_deleted_row_is_a_lookup_error(opened: Database) -> None:
    made = double.enqueue(4)
    execute(opened, "DELETE FROM sched_jobs")
    assert Job.get(made.id) is None
    with pytest.raises(LookupError, match=f"job {made.id} is gone"):
        made.refresh()
    with pytest.raises(StateError, match="deleted"):
        made.wait("1s")
    for act in (made.cancel, made.retry):
        with pytest.raises(LookupError, match=f"no job {made.id}"):
            act()


def test_what_is_no_id_is_refused_and_what_cannot_be_one_finds_nothing(opened: Database) -> None:
    for nothing in (0, -1, 2**63, 10**30):
        assert Job.get(nothing) is None
    for wrong in ("7", 7.0, None, True):
        with pytest.raises(ArgumentError, match="give a whole number"):
            Job.get(wrong)  # type: ignore[arg-type]


def test_a_running_job_is_asked_to_stop_and_an_ended_one_refuses(sched_queue: SchedQueue) -> None:
    @job(name="handles.cancels")
    def cancels() -> str:
        me = Job.get(current_job().id)
        assert me is not None
        return me.cancel("enough").state

    made = cancels.enqueue()
    sched_queue.drain()
    assert made.refresh().result == "running"
    with pytest.raises(StateError, match="has succeeded"):
        made.cancel()
    with pytest.raises(StateError, match="enqueue its task anew"):
        made.retry()


def test_a_retry_gives_fresh_attempts_and_keeps_the_token_growing(sched_queue: SchedQueue) -> None:
    made = double.enqueue(-1)
    sched_queue.drain()
    assert made.refresh().claims == 1
    assert (made.retry().state, made.attempts, made.failed_at) == ("queued", 0, None)
    sched_queue.drain()
    assert (made.refresh().attempts, made.claims) == (1, 2)


def test_ten_thousand_are_stored_in_the_order_of_the_calls(opened: Database) -> None:
    calls = [double.call(number) for number in range(10_000)]
    for number in range(0, 10_000, 2_500):
        calls[number] = double.options(key=f"key-{9_999 - number}").call(number)
    stored = enqueue_many(calls)
    rows = query(opened, "SELECT id, CAST(args AS text) FROM sched_jobs")
    numbers = {job_id: args.partition("[")[2].partition("]")[0] for job_id, args in rows}
    assert [numbers[job_id] for job_id in stored.ids] == [str(n) for n in range(10_000)]
    plain = [job_id for n, job_id in enumerate(stored.ids) if n % 2_500]
    assert plain == sorted(plain)
    assert [each.id for each in stored[2_499:2_502]] == stored.ids[2_499:2_502]


def test_an_empty_bulk_stores_nothing(opened: Database) -> None:
    assert list(enqueue_many([])) == []
    assert len(enqueue_many(iter(()))) == 0


@pytest.mark.parametrize("wrong", [double, "handles.double", None, 7])
def test_a_bulk_of_something_else_than_calls_is_refused_whole(opened: Database, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"enqueue_many takes calls"):
        enqueue_many([double.call(1), wrong])
    with pytest.raises(CronqueueError, match="enqueue_many"):
        enqueue_many([double.call(1), double.options(session=object()).call(2)])  # type: ignore[arg-type]
    assert query(opened, "SELECT COUNT(*) FROM sched_jobs") == [(0,)]


def test_a_name_that_nobody_knows_waits_for_a_worker_that_does(sched_queue: SchedQueue) -> None:
    made = enqueue("handles.later", [1, 2], {"odd": True})
    sched_queue.drain()
    assert (made.refresh().state, made.held_reason, made.attempts) == ("held", "unknown_task", 0)

    @job(name="handles.later")
    def later(first: int, second: int, *, odd: bool) -> list[object]:
        return [first, second, odd]

    sched_queue.drain()
    assert made.refresh().result == [1, 2, True]


def test_arguments_that_do_not_fit_a_name_fail_in_the_job(sched_queue: SchedQueue) -> None:
    made = enqueue("handles.strict", ["one too many"], max_attempts=1)

    @job(name="handles.strict")
    def strict() -> None: ...

    sched_queue.drain()
    assert made.refresh().state == "failed"
    assert "takes 0 positional arguments but 1 was given" in (made.last_error or "")


def test_a_handle_can_be_copied_and_pickled(opened: Database) -> None:
    made = double.enqueue(4)
    assert pickle.loads(pickle.dumps(made)).id == copy.copy(made).id == made.id


def test_jobs_are_queried_like_any_mapped_class(opened: Database) -> None:
    for number in range(3):
        double.options(priority=number).enqueue(number)
    with Session(opened.engine) as session:
        found = session.scalars(
            select(Job).where(Job.state == "queued").order_by(Job.priority.desc())
        ).all()
        assert [each.priority for each in found] == [2, 1, 0]
