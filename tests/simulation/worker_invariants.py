"""What must hold of workers: who may run what, who loses what, and who is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from simulation.history import (
    THE_DATABASE,
    Accepted,
    Body,
    Change,
    Event,
    Gone,
    History,
    JobRow,
)
from simulation.replay import (
    BACK_IN_TOUCH,
    Rules,
    Violation,
    follow,
    is_claim,
    last_trouble,
    leaves_running,
    troubles_of,
    violation_of,
)
from simulation.world import THE_END


def bodies_run_under_their_lease(history: History, rules: Rules) -> Iterator[Violation]:
    """A body begins only while its claim holds, and no second one beside it in the same claim."""
    rows: dict[int, JobRow] = {}
    begun: set[tuple[str, int]] = set()
    for event in history:
        if isinstance(event, Change):
            follow(rows, event)
        if isinstance(event, Body) and event.outcome is None:
            row = rows.get(event.job_id)
            if (event.token, event.job_id) in begun:
                yield violation_of(event, "two bodies of one claim")
            begun.add((event.token, event.job_id))
            if not rules.clock_was_set and (row is None or row.lock_token != event.token):
                yield violation_of(event, "its claim is lost, and its body begins")


def last_attempts_are_not_read_ahead(history: History, rules: Rules) -> Iterator[Violation]:
    """A worker claims a job's last attempt only if it can begin at once.

    What has ended and is not handed in yet has begun: that may come beside the next claim.
    """
    rows: dict[int, JobRow] = {}
    begun: set[tuple[str, int]] = set()
    for event in history:
        if isinstance(event, Body):
            begun.add((event.token, event.job_id))
        if isinstance(event, Accepted | Gone | Body) or not rows:
            yield from _too_many_last(rows, begun, event, rules)
        if isinstance(event, Change):
            follow(rows, event)


def _too_many_last(
    rows: dict[int, JobRow], begun: set[tuple[str, int]], event: Event, rules: Rules
) -> Iterator[Violation]:
    """Looked at between transactions only: within its own, a claim may give some back."""
    waiting = Counter(
        str(row.worker_id)
        for row in rows.values()
        if row.state == "running"
        and row.attempts >= row.max_attempts
        and (str(row.lock_token), row.id) not in begun
    )
    for worker, number in waiting.items():
        if number > rules.places:
            yield Violation(event.at, f"{worker} holds {number} last attempts that have not begun")


def the_dead_are_relieved(history: History, rules: Rules) -> Iterator[Violation]:
    """Jobs of a dead executor go back within moments, those of a stopped one when its lease is over."""
    troubles = troubles_of(history)
    gone: dict[str, float] = {}
    claimed: dict[tuple[str, int], float] = {}
    for event in history:
        if isinstance(event, Gone):
            gone[event.who] = event.at
        if isinstance(event, Change) and event.after is not None and is_claim(event):
            claimed[str(event.after.lock_token), event.job_id] = event.at
        if not isinstance(event, Change) or not leaves_running(event) or event.before is None:
            continue
        holder = str(event.before.worker_id)
        boss = holder.partition("/x")[0]
        if holder in gone and boss not in gone:
            since = max(
                gone[holder],
                last_trouble(troubles, boss, event.at),
                last_trouble(troubles, THE_DATABASE, event.at),
            )
            if event.at > since + BACK_IN_TOUCH + 1.0:
                yield violation_of(event, f"{holder} is dead since {gone[holder]:.4f}")
        for stop in (each for each in troubles if each.who == holder):
            held_since = claimed[str(event.before.lock_token), event.job_id]
            free_at = stop.at + rules.lease + BACK_IN_TOUCH
            others = [each for each in troubles if each.until > stop.at and each.who != holder]
            if held_since < stop.at and free_at < min(event.at, stop.until) and not others:
                yield violation_of(event, f"{holder} is stopped since {stop.at:.4f}")


def living_workers_keep_their_jobs(history: History, rules: Rules) -> Iterator[Violation]:
    """Nobody's job is taken away while he lives and nothing keeps him from renewing his lease."""
    if rules.clock_was_set:
        return
    troubles = troubles_of(history)
    gone: set[str] = set()
    for event in history:
        if isinstance(event, Gone):
            gone.add(event.who)
        if not isinstance(event, Change) or not leaves_running(event):
            continue
        assert event.before is not None
        holder = str(event.before.worker_id)
        boss = holder.partition("/x")[0]
        if event.who == holder or {holder, boss} & gone:
            continue
        renewed_by = BACK_IN_TOUCH + rules.lease / 3 + 1.0
        if last_trouble(troubles, holder, event.at) < event.at - renewed_by:
            yield violation_of(event, f"taken from {holder}, who lives and is in touch")


def who_lost_a_job_is_told(history: History, rules: Rules) -> Iterator[Violation]:
    """A body whose claim was lost is interrupted soon after its worker is in touch."""
    troubles = troubles_of(history)
    running: dict[tuple[str, int], Body] = {}
    lost: dict[tuple[str, int], float] = {}
    end = history.events[-1].at if history.events else 0.0

    def late(key: tuple[str, int], at: float) -> Iterator[Violation]:
        body = running.pop(key)
        told = max(lost[key], last_trouble(troubles, body.who, at))
        if at - told > rules.lease / 3 + BACK_IN_TOUCH:
            what = "its body goes on although its claim is lost and its worker in touch"
            yield Violation(at, f"job {body.job_id}: {what}", body.job_id)

    for event in history:
        if isinstance(event, Change) and leaves_running(event) and event.before is not None:
            key = (str(event.before.lock_token), event.before.id)
            if key in running:
                lost[key] = event.at
        elif isinstance(event, Body) and event.outcome is None:
            running[event.token, event.job_id] = event
        elif isinstance(event, Body):
            key = (event.token, event.job_id)
            if key in lost and key in running:
                yield from late(key, event.at)
            running.pop(key, None)
        elif isinstance(event, Gone):
            for key in [key for key, body in running.items() if body.who == event.who]:
                if key in lost and event.text != THE_END:
                    yield from late(key, event.at)
                running.pop(key, None)
    for key in [key for key in running if key in lost]:
        yield from late(key, end)
