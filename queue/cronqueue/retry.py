"""What follows from an attempt: pure decisions, carried out by `finish`.

outcome ──decide──► verdict
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from cronqueue.durations import parse_duration
from cronqueue.registry import Backoff, Duration, RetryPolicy

# A wait longer than this is no retry any more; it also keeps run_at within its range.
LONGEST_DELAY = timedelta(days=365)
# Retries of jobs that failed together are spread over a tenth of their wait.
JITTER = 0.1
# How often a job gets an attempt back that another job's timeout cost it.
MAX_REFUNDS = 3


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The task returned; `result_json` None means None."""

    result_json: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The task raised, or its process died; `delay` is the wait that it asked for itself."""

    error: str
    exception: BaseException | None = None
    delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The task asked to be run later; no attempt is spent."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class Discarded:
    """The task said that it can never succeed."""

    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The worker's shutdown, or a cancel, ended the running task."""

    error: str


Outcome = Succeeded | Failed | Snoozed | Discarded | Interrupted


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the job. `delay` in seconds counts from now on the database's clock."""

    state: Literal["succeeded", "queued", "failed"]
    result_json: str | None = None
    delay: float | None = None
    error: str | None = None
    reason: str | None = None
    refund: bool = False
    run_alone: bool = False
    rescued: bool = False
    # The line in `sched_attempts`; None writes none.
    attempt_outcome: str | None = None


#: Most jobs return nothing: one outcome and one verdict serve them all.
NOTHING = Succeeded()
SUCCEEDED = Verdict("succeeded")


def decide(
    outcome: Outcome,
    *,
    attempt: int,
    max_attempts: int,
    policy: RetryPolicy,
    backoff: Backoff | None,
    jitter: float,
) -> Verdict:
    """The verdict on one attempt. `jitter` is a random number in [0, 1)."""
    match outcome:
        case Succeeded():
            return succeed(outcome)
        case Snoozed(delay):
            return Verdict("queued", delay=_bounded(delay), refund=True, reason="snoozed")
        case Discarded(reason, error):
            return Verdict(
                "failed", error=error, reason=f"discarded: {reason}", attempt_outcome="discarded"
            )
        case Interrupted(error):
            return _retry(error, "interrupted", 0.0, attempt, max_attempts)
        case Failed(error, exception, delay):
            if exception is not None and isinstance(exception, policy.discard_on):
                reason = f"discarded: {type(exception).__name__}"
                return Verdict("failed", error=error, reason=reason, attempt_outcome="discarded")
            if delay is None and not _is_retried(exception, policy):
                reason = f"not retried: {type(exception).__name__}"
                return Verdict("failed", error=error, reason=reason, attempt_outcome="failed")
            wait = (
                _bounded(delay) if delay is not None else backoff_seconds(attempt, backoff, jitter)
            )
            return _retry(error, "failed", wait, attempt, max_attempts)


def succeed(outcome: Succeeded) -> Verdict:
    """The verdict on an attempt that returned."""
    if outcome.result_json is None:
        return SUCCEEDED
    return Verdict("succeeded", result_json=outcome.result_json)


def decide_lost(
    error: str,
    *,
    attempt: int,
    max_attempts: int,
    rescues: int,
    backoff: Backoff | None,
    jitter: float,
    alone: bool,
) -> Verdict:
    """The verdict on an attempt whose worker is gone: at once the first time, then with the back-off."""
    wait = 0.5 * jitter if rescues == 0 else backoff_seconds(attempt, backoff, jitter)
    if attempt >= max_attempts:
        return Verdict(
            "failed", error=error, reason="worker lost", rescued=True, attempt_outcome="lost"
        )
    return Verdict(
        "queued", delay=wait, error=error, run_alone=alone, rescued=True, attempt_outcome="lost"
    )


def backoff_seconds(attempt: int, backoff: Backoff | None, jitter: float) -> float:
    """The wait after failed attempt number `attempt` (from 1): delayed_job's attempt^4 + 5 s by default."""
    base = float(attempt**4 + 5) if backoff is None else _seconds(backoff(attempt))
    return min(base * (1 + JITTER * jitter), LONGEST_DELAY.total_seconds())


def _seconds(wait: Duration) -> float:
    """A wait in seconds; a function that doubles it each time soon passes every limit."""
    longest = LONGEST_DELAY.total_seconds()
    if isinstance(wait, timedelta):
        wait = wait.total_seconds()
    if isinstance(wait, int | float) and wait > longest:
        return longest
    return parse_duration(wait).total_seconds()


def _retry(error: str, outcome: str, wait: float, attempt: int, max_attempts: int) -> Verdict:
    if attempt >= max_attempts:
        return Verdict("failed", error=error, reason="attempts spent", attempt_outcome=outcome)
    return Verdict("queued", delay=wait, error=error, attempt_outcome=outcome)


def _is_retried(exception: BaseException | None, policy: RetryPolicy) -> bool:
    return policy.retry_on is None or exception is None or isinstance(exception, policy.retry_on)


def _bounded(delay: timedelta) -> float:
    return min(max(delay, timedelta(0)), LONGEST_DELAY).total_seconds()
