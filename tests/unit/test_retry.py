"""Decisions about attempts: pure, so their tests are tables."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronqueue.registry import RetryPolicy, backoff_function
from cronqueue.retry import (
    LONGEST_DELAY,
    Discarded,
    Failed,
    Interrupted,
    Outcome,
    Snoozed,
    Succeeded,
    Verdict,
    backoff_seconds,
    decide,
    decide_lost,
)


def verdict(outcome: Outcome, *, attempt: int = 1, policy: RetryPolicy = RetryPolicy()) -> Verdict:  # noqa: B008
    return decide(outcome, attempt=attempt, max_attempts=3, policy=policy, backoff=None, jitter=0.0)


def test_a_success_keeps_its_result() -> None:
    assert verdict(Succeeded("1")) == Verdict("succeeded", result_json="1")


@pytest.mark.parametrize(("attempt", "wait"), [(1, 6.0), (2, 21.0)])
def test_a_failure_waits_for_attempts_to_the_fourth_and_five_seconds(
    attempt: int, wait: float
) -> None:
    expected = Verdict("queued", delay=wait, error="boom", attempt_outcome="failed")
    assert verdict(Failed("boom"), attempt=attempt) == expected


def test_the_last_attempt_ends_the_job() -> None:
    found = verdict(Failed("boom"), attempt=3)
    assert (found.state, found.reason) == ("failed", "attempts spent")


def test_jitter_adds_up_to_a_tenth() -> None:
    assert backoff_seconds(1, None, 0.0) == 6.0
    assert backoff_seconds(1, None, 1.0) == pytest.approx(6.6)


def test_an_interrupted_attempt_is_spent_and_goes_on_at_once() -> None:
    found = verdict(Interrupted("stop"))
    assert (found.state, found.delay, found.refund) == ("queued", 0.0, False)
    assert verdict(Interrupted("stop"), attempt=3).state == "failed"


def test_a_snooze_gives_the_attempt_back() -> None:
    found = verdict(Snoozed(timedelta(minutes=5)), attempt=3)
    assert (found.state, found.delay, found.refund) == ("queued", 300.0, True)


def test_a_discard_ends_the_job_at_once() -> None:
    found = verdict(Discarded("gone", "trace"))
    assert (found.state, found.reason) == ("failed", "discarded: gone")


def test_only_the_named_exceptions_are_retried() -> None:
    policy = RetryPolicy(retry_on=(OSError,), discard_on=(TimeoutError,))
    assert verdict(Failed("", ConnectionError()), policy=policy).state == "queued"
    assert verdict(Failed("", ValueError()), policy=policy).state == "failed"
    # A TimeoutError is an OSError: what ends the job is asked first.
    assert verdict(Failed("", TimeoutError()), policy=policy).state == "failed"
    # Retry was raised, or the process died: no exception of the task's to look at.
    assert verdict(Failed(""), policy=policy).state == "queued"


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [("30s", [30, 30, 30]), (["10s", "1m"], [10, 60, 60]), (lambda attempt: 2**attempt, [2, 4, 8])],
)
def test_a_back_off_is_a_duration_a_list_or_a_function(backoff: object, waits: list[int]) -> None:
    function = backoff_function(backoff)  # type: ignore[arg-type]
    assert [backoff_seconds(attempt, function, 0.0) for attempt in (1, 2, 3)] == waits


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_no_wait_is_negative_or_longer_than_a_year(attempt: int, jitter: float) -> None:
    assert 0 <= backoff_seconds(attempt, None, jitter) <= LONGEST_DELAY.total_seconds()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 5))
def test_a_lost_job_never_gets_more_attempts_than_it_has(
    attempt: int, max_attempts: int, rescues: int
) -> None:
    found = decide_lost(
        "lost",
        attempt=attempt,
        max_attempts=max_attempts,
        rescues=rescues,
        backoff=None,
        jitter=0.5,
        alone=False,
    )
    assert (found.state == "failed") == (attempt >= max_attempts)
    assert not found.refund
