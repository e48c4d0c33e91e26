"""Retries on the clock: how long a failed job waits, how often it is tried, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cronqueue import Discard, Retry, Snooze, configuration, configure, current_job, job
from cronqueue.registry import Task
from cronqueue.settings import Settings
from cronqueue.testing import SchedQueue
from cronqueue.tracebacks import MAX_ERROR_BYTES
from job_rows import attempts


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    configuration.use_database(None)
    configuration._backoff = None


@pytest.fixture
def sched_database_url(sqlite_url: str) -> str:
    """When a job runs again is decided without a database, and written like any other verdict."""
    return sqlite_url


def failing(**options: Any) -> Task[[], None]:
    @job(name="retries.fail", **options)
    def fail() -> None:
        raise ValueError("no")

    return fail


def waits(queue: SchedQueue, most: int = 4) -> list[float]:
    """Seconds between the attempts of the only job, each until it was due again."""
    found: list[float] = []
    (made,) = queue.jobs()
    while len(found) < most:
        queue.drain()
        if made.refresh().state != "queued":
            break
        found.append((made.run_at - queue.now).total_seconds())
        queue._clock.time = made.run_at
    return found


def test_the_default_wait_is_attempts_to_the_fourth_and_five_seconds_and_a_tenth(
    sched_queue: SchedQueue,
) -> None:
    failing().enqueue()
    for wait, attempt in zip(waits(sched_queue, 6), range(1, 7), strict=True):
        assert attempt**4 + 5 <= wait <= (attempt**4 + 5) * 1.1


def test_there_are_25_attempts_by_default(sched_queue: SchedQueue) -> None:
    made = failing(backoff=0).enqueue()
    sched_queue.drain()
    assert (made.refresh().state, made.attempts, made.reason) == ("failed", 25, "attempts spent")
    assert len(attempts(sched_queue.database, made.id)) == 25
    assert made.failed_at == sched_queue.now


@pytest.mark.parametrize(
    ("backoff", "bases"),
    [
        ("30s", [30, 30, 30, 30]),
        (timedelta(minutes=1), [60, 60, 60, 60]),
        (["10s", 60, "10m"], [10, 60, 600, 600]),
        (lambda attempt: 2**attempt, [2, 4, 8, 16]),
        (lambda attempt: timedelta(hours=attempt), [3_600, 7_200, 10_800, 14_400]),
        (lambda attempt: 10.0**attempt * 10**9, [31_536_000] * 4),  # a year, and no longer
    ],
)
def test_a_tasks_back_off_is_a_duration_a_list_or_a_function(
    sched_queue: SchedQueue, backoff: Any, bases: list[int]
) -> None:
    failing(backoff=backoff).enqueue()
    for wait, base in zip(waits(sched_queue), bases, strict=True):
        assert base <= wait <= base * 1.1


@pytest.mark.parametrize("wrong", [None, "soon", -1, float("nan"), [1]])
def test_a_back_off_that_fails_or_makes_no_sense_gives_the_default_wait(
    sched_queue: SchedQueue, wrong: Any
) -> None:
    def backoff(attempt: int) -> Any:
        if wrong is None:
            raise ZeroDivisionError
        return wrong

    made = failing(backoff=backoff).enqueue()
    (wait,) = waits(sched_queue, 1)
    assert 6 <= wait <= 6.6
    assert "ValueError: no" in (made.refresh().last_error or "")


def test_what_is_configured_holds_for_tasks_that_say_nothing(sched_queue: SchedQueue) -> None:
    configure(max_attempts=2, backoff=["1m", "1h"])
    mine = failing(max_attempts=3, backoff="5s").enqueue()
    sched_queue.advance("1m")
    assert (mine.refresh().state, mine.attempts) == ("failed", 3)

    @job(name="retries.plain")
    def plain() -> None:
        raise ValueError

    other = plain.enqueue()
    assert other.max_attempts == 2
    sched_queue.drain()
    assert 60 <= (other.refresh().run_at - sched_queue.now).total_seconds() <= 66
    assert plain.options(max_attempts=9).enqueue().max_attempts == 9


def test_the_settings_hold_where_nothing_is_configured(sched_queue: SchedQueue) -> None:
    configuration.use_settings(Settings(max_attempts=4, backoff=(timedelta(minutes=2),)))
    assert failing().enqueue().max_attempts == 4
    (wait,) = waits(sched_queue, 1)
    assert 120 <= wait <= 132


def test_a_task_says_itself_when_it_is_tried_again(sched_queue: SchedQueue) -> None:
    @job(name="retries.own", max_attempts=3)
    def own() -> None:
        raise Retry("busy", delay="7m")

    made = own.enqueue()
    assert waits(sched_queue) == [420, 420]
    assert (made.refresh().state, made.attempts) == ("failed", 3)
    assert (made.last_error or "").rstrip().endswith("Retry: busy")


def test_a_snooze_spends_no_attempt_however_often(sched_queue: SchedQueue) -> None:
    @job(name="retries.snooze", max_attempts=1)
    def snooze() -> int:
        if current_job().token < 40:
            raise Snooze("1m")
        return current_job().attempt

    made = snooze.enqueue()
    sched_queue.advance("39m")
    assert (made.refresh().result, made.attempts, made.last_error) == (1, 1, None)
    assert attempts(sched_queue.database, made.id) == []


def test_a_discard_ends_the_job_with_its_reason(sched_queue: SchedQueue) -> None:
    @job(name="retries.discard")
    def discard() -> None:
        raise Discard("the user is gone")

    made = discard.enqueue()
    sched_queue.drain()
    assert (made.refresh().state, made.reason) == ("failed", "discarded: the user is gone")
    assert [line.outcome for line in attempts(sched_queue.database, made.id)] == ["discarded"]


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"retry_on": ConnectionError}, "queued"),
        ({"retry_on": (OSError, ValueError)}, "queued"),
        ({"retry_on": ValueError}, "failed"),
        ({"retry_on": ()}, "failed"),
        ({"discard_on": ConnectionError}, "failed"),
        ({"discard_on": (KeyError, OSError)}, "failed"),
        ({"discard_on": ValueError}, "queued"),
        ({"retry_on": OSError, "discard_on": ConnectionError}, "failed"),
    ],
)
def test_the_kind_of_exception_may_decide(
    sched_queue: SchedQueue, options: dict[str, Any], state: str
) -> None:
    @job(name="retries.kinds", **options)
    def broken() -> None:
        raise ConnectionResetError("gone")

    made = broken.enqueue()
    sched_queue.drain()
    assert (made.refresh().state, made.attempts) == (state, 1)
    assert "ConnectionResetError: gone" in (made.last_error or "")


def test_an_error_is_kept_with_head_and_tail(sched_queue: SchedQueue) -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise ValueError("begin " + "x" * 1_000_000 + " end")

    made = job(name="retries.deep")(deep).enqueue(500)
    sched_queue.drain()
    error = made.refresh().last_error or ""
    assert len(error.encode()) <= MAX_ERROR_BYTES
    assert error.startswith("Traceback (most recent call last):\n")
    assert "ValueError: begin xxx" in error
    assert error.rstrip().endswith("xxx end")
    assert "left out" in error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), BaseException("odd")])
def test_no_exception_at_all_ends_more_than_its_attempt(
    sched_queue: SchedQueue, error: BaseException
) -> None:
    @job(name="retries.exit")
    def leave() -> None:
        raise error

    made = leave.enqueue()
    sched_queue.drain()
    assert (made.refresh().state, made.attempts) == ("queued", 1)
    assert type(error).__name__ in (made.last_error or "")
