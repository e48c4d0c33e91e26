"""Hooks: who is called when, with what, and what their failures do."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from cronqueue import Discard, Retry, Snooze, enqueue_many, hook, job
from cronqueue.errors import JobInterrupted
from cronqueue.hooks import HookName, announce
from cronqueue.testing import SchedQueue

AROUND: tuple[HookName, ...] = ("before", "success", "error", "failure", "after")


@job(name="hooks.act", max_attempts=2, backoff="1m")
def act(error: str | None = None) -> int:
    errors = {
        "retry": Retry(delay="1m"),
        "discard": Discard("enough"),
        "snooze": Snooze("1m"),
        "value": ValueError("no"),
        "interrupted": JobInterrupted(),
    }
    if error is not None:
        raise errors[error]
    return 7


@job(name="hooks.other")
def other() -> None: ...


@pytest.fixture
def sched_database_url(request: pytest.FixtureRequest) -> str:
    """Hooks know no database; the tests that name one are of their transactions."""
    url: str = request.getfixturevalue(getattr(request, "param", "sqlite_url"))
    return url


on_each_database = pytest.mark.parametrize(
    "sched_database_url", ["sqlite_url", "postgres_url"], indirect=True
)


@pytest.fixture
def called() -> list[Any]:
    """What the hooks around `act` were called with, in order."""
    seen: list[Any] = []

    def listen(event: HookName) -> None:
        hook(event, task=act)(
            lambda running, *more: seen.append(
                (event, running.attempt, *[m if m == 7 else type(m).__name__ for m in more])
            )
        )

    for event in AROUND:
        listen(event)
    return seen


def test_a_success_calls_before_success_and_after(
    sched_queue: SchedQueue, called: list[Any]
) -> None:
    act.enqueue()
    sched_queue.drain()
    assert called == [("before", 1), ("success", 1, 7), ("after", 1)]


@pytest.mark.parametrize(
    ("error", "raised"),
    [("value", "ValueError"), ("retry", "Retry"), ("interrupted", "JobInterrupted")],
)
def test_a_failed_attempt_calls_error_and_the_last_one_failure(
    sched_queue: SchedQueue, called: list[Any], error: str, raised: str
) -> None:
    act.enqueue(error)
    sched_queue.advance("2m")
    first = [("before", 1), ("error", 1, raised), ("after", 1)]
    last = [("before", 2), ("error", 2, raised), ("failure", 2, raised), ("after", 2)]
    assert called == first + last


def test_a_discard_fails_at_once_and_a_snooze_is_no_error(
    sched_queue: SchedQueue, called: list[Any]
) -> None:
    act.enqueue("discard")
    act.options(priority=-1).enqueue("snooze")
    sched_queue.drain()
    failed = [("before", 1), ("error", 1, "Discard"), ("failure", 1, "Discard"), ("after", 1)]
    assert called == [*failed, ("before", 1), ("after", 1)]


def test_before_may_veto(sched_queue: SchedQueue) -> None:
    ran: list[int] = []

    @job(name="hooks.vetoed", max_attempts=1)
    def vetoed() -> None:
        ran.append(1)

    @hook("before", task="hooks.vetoed")
    def veto(running: Any) -> None:
        raise PermissionError("not today")

    made = vetoed.enqueue()
    sched_queue.drain()
    assert (made.refresh().state, ran) == ("failed", [])
    assert "PermissionError: not today" in (made.last_error or "")


def test_before_may_also_discard_or_snooze(sched_queue: SchedQueue) -> None:
    @hook("before", task=other)
    def put_off(running: Any) -> None:
        raise Snooze("1m") if running.token == 1 else Discard("never")

    made = other.enqueue()
    sched_queue.drain()
    assert (made.refresh().state, made.attempts) == ("queued", 0)
    sched_queue.advance("1m")
    assert (made.refresh().state, made.reason) == ("failed", "discarded: never")


@pytest.mark.parametrize("event", ["success", "error", "failure", "after", "enqueue"])
def test_what_the_others_raise_is_logged_and_keeps_nobody_from_being_called(
    sched_queue: SchedQueue, caplog: pytest.LogCaptureFixture, event: HookName
) -> None:
    seen: list[str] = []

    @hook(event)
    def broken(*arguments: Any) -> None:
        raise ValueError("the hook is broken")

    @hook(event)
    def works(*arguments: Any) -> None:
        seen.append(event)

    @hook("after")
    def after(running: Any) -> None:
        seen.append("really after")

    fails = event in ("error", "failure")
    with caplog.at_level(logging.ERROR, "cronqueue.hooks"):
        made = act.options(max_attempts=1).enqueue("value" if fails else None)
        sched_queue.drain()
    assert made.refresh().state == ("failed" if fails else "succeeded")
    assert seen == [event, "really after"]
    assert any("the hook is broken" in (record.exc_text or "") for record in caplog.records)


def test_a_hook_that_exits_does_not_end_the_worker(sched_queue: SchedQueue) -> None:
    @hook("after")
    def leave(running: Any) -> None:
        raise SystemExit

    made = act.enqueue()
    sched_queue.drain()
    assert made.refresh().state == "succeeded"


def test_those_for_all_tasks_come_first_then_the_tasks_own_in_their_order(
    sched_queue: SchedQueue,
) -> None:
    order: list[str] = []
    hook("before", task=act)(lambda running: order.append("own 1"))
    hook("before")(lambda running: order.append("all 1"))
    hook("before", task="hooks.act")(lambda running: order.append("own 2"))
    hook("before")(lambda running: order.append("all 2"))
    hook("before", task=other)(lambda running: order.append("another's"))
    act.enqueue()
    sched_queue.drain()
    assert order == ["all 1", "all 2", "own 1", "own 2"]


def test_an_executor_tells_when_it_starts_and_stops() -> None:
    seen: list[str] = []
    hook("worker_start")(lambda: seen.append("start"))
    hook("worker_stop")(lambda: seen.append("stop"))
    announce("worker_start", None)
    announce("worker_stop", None)
    assert seen == ["start", "stop"]


@on_each_database
def test_enqueue_is_called_once_for_each_new_job_also_in_bulks(sched_queue: SchedQueue) -> None:
    seen: list[tuple[int, bool]] = []
    hook("enqueue", task=act)(lambda made: seen.append((made.id, made.created)))
    one = act.options(key="k").enqueue()
    act.options(key="k").enqueue()  # found, not made
    bulk = enqueue_many([act.call(), other.call(), act.options(key="k").call(), act.call()])
    assert seen == [(each, True) for each in (one.id, bulk.ids[0], bulk.ids[3])]


@on_each_database
def test_enqueue_is_called_in_the_callers_transaction(sched_queue: SchedQueue) -> None:
    hook("enqueue", task=act)(lambda made: other.options(key="follows").enqueue())
    engine = create_engine(sched_queue.database.url)
    with Session(engine) as session:
        act.options(session=session).enqueue()
        session.rollback()
        assert sched_queue.jobs() == []
        act.options(session=session).enqueue()
        session.commit()
    engine.dispose()
    assert [made.task for made in sched_queue.jobs()] == ["hooks.act", "hooks.other"]


@on_each_database
def test_what_a_hook_enqueues_does_not_wait_for_its_own_transaction(
    sched_queue: SchedQueue,
) -> None:
    hook("enqueue", task=act)(lambda made: other.enqueue())
    act.enqueue()
    enqueue_many([act.call(), act.call()])
    assert [made.task for made in sched_queue.jobs()] == ["hooks.act", "hooks.other"] * 3
