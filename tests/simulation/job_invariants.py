"""What must hold of jobs: their states, their claims, their ends, their order, their keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from simulation.history import Accepted, Body, Change, Event, Gone, History, JobRow, QueueChange
from simulation.replay import (
    ENDS,
    Rules,
    Violation,
    changes,
    earlier,
    follow,
    is_claim,
    leaves_running,
    violation_of,
)

# What a worker knows of the lanes may be so old, and longer when a claim was slow.
ORDER_SLACK = 8.0
# The diagram of the states. A job ends as failed while it waits when it has expired after an attempt.
_DRAWN = {
    "queued": {"queued", "held", "running", "cancelled", "skipped", "failed"},
    "held": {"queued", "held", "running", "cancelled", "skipped", "failed"},
    "running": {"queued", "held", "running", "succeeded", "failed", "cancelled"},
    "succeeded": {"succeeded"},
    "failed": {"failed", "queued"},
    "cancelled": {"cancelled", "queued", "held"},
    "skipped": {"skipped", "queued"},
}


def only_drawn_changes(history: History, rules: Rules) -> Iterator[Violation]:
    """A job goes from state to state as the diagram says, and only operators and plans bring one back."""
    for change in changes(history):
        before, after = change.before, change.after
        if before is None or after is None:
            continue
        if after.state not in _DRAWN[before.state]:
            yield violation_of(change, f"{before.state} → {after.state} is not drawn")
        elif before.state in ENDS and after.state not in ENDS and "/x" in change.who:
            yield violation_of(change, f"a worker brought back what was {before.state}")
        if before.state == "running" and before.cancel_requested_at and after.state == "queued":
            yield violation_of(change, "somebody has cancelled it, and it goes on")
        if after.state in ENDS and (after.slot is not None or after.unique_key is not None):
            yield violation_of(change, "it has ended, and keeps its guard or its key")


def claims_are_right(history: History, rules: Rules) -> Iterator[Violation]:
    """A claim takes what is due, spends an attempt, counts, and has a token of its own."""
    claims: set[tuple[str, int]] = set()
    for change in changes(history):
        before, after = change.before, change.after
        if before is None or after is None:
            continue
        if after.claims < before.claims or after.id != before.id:
            yield violation_of(change, "claims must not go back")
        if not is_claim(change):
            if after.claims != before.claims:
                yield violation_of(change, "claims counts claims only")
            continue
        assert after.lock_token is not None
        if before.run_at > change.clock:
            yield violation_of(change, f"claimed before run_at {before.run_at}, at {change.clock}")
        if before.expires_at is not None and before.expires_at < earlier(change.clock, 1.0):
            yield violation_of(change, f"claimed although it expired at {before.expires_at}")
        if before.gated:
            yield violation_of(change, "claimed before its gate")
        if after.attempts != before.attempts + 1 or after.claims != before.claims + 1:
            yield violation_of(change, "a claim spends one attempt and counts as one claim")
        if after.attempts > after.max_attempts:
            yield violation_of(change, f"attempt {after.attempts} of {after.max_attempts}")
        if (after.lock_token, after.id) in claims:
            yield violation_of(change, "a token of an earlier claim")
        claims.add((after.lock_token, after.id))


def only_holders_write(history: History, rules: Rules) -> Iterator[Violation]:
    """Out of `running` a job goes by its holder's hand, or when its lease or its process has ended."""
    gone: set[str] = set()
    for event in history:
        if isinstance(event, Gone):
            gone.add(event.who)
        if not isinstance(event, Change) or not leaves_running(event):
            continue
        before = event.before
        assert before is not None
        holder, boss = str(before.worker_id), str(before.worker_id).partition("/x")[0]
        if event.who == holder or (event.who == boss and holder in gone):
            continue
        if before.locked_until is None or before.locked_until >= event.clock:
            yield violation_of(event, f"{event.who} wrote to what {holder} holds")
        elif event.after is None or event.after.state == "succeeded":
            yield violation_of(event, "a rescue that completes")


def ends_follow_bodies(history: History, rules: Rules) -> Iterator[Violation]:
    """What became of a job is what its body came to; an attempt that began is spent, no other."""
    over: dict[tuple[str, int], Body] = {}
    for event in history:
        if isinstance(event, Body):
            over[event.token, event.job_id] = event
        if not isinstance(event, Change) or not leaves_running(event) or event.after is None:
            continue
        before, after = event.before, event.after
        assert before is not None
        assert before.lock_token is not None
        body = over.get((before.lock_token, before.id))
        outcome = None if body is None else body.outcome
        if after.state == "succeeded" and outcome != "ok":
            yield violation_of(event, f"succeeded, but its body {outcome or 'has not ended'}")
        is_spent = after.attempts == before.attempts
        is_refunded = after.refunds > before.refunds or after.reason == "snoozed"
        by_rescue = before.locked_until is not None and before.locked_until < event.clock
        if body is None and is_spent and not by_rescue and after.state != "failed":
            yield violation_of(event, "it never began, and its attempt is spent")
        if body is not None and not is_spent and not is_refunded:
            yield violation_of(event, "it began, and its attempt is not spent")
        if outcome == "snoozes" and is_spent and after.reason == "snoozed":
            yield violation_of(event, "snoozed, and its attempt is spent")


def attempts_are_bounded(history: History, rules: Rules) -> Iterator[Violation]:
    """No job begins more often than its attempts, what was given back, and its snoozes allow."""
    rows: dict[int, JobRow] = {}
    begun: Counter[int] = Counter()
    for event in history:
        if isinstance(event, Change):
            follow(rows, event)
            before, after = event.before, event.after
            if before is not None and after is not None and before.state in ENDS:
                begun[event.job_id] = 0  # queued again by hand
            if after is not None and (after.reason == "snoozed" or after.refunds > 0):
                begun[event.job_id] -= leaves_running(event)
        elif isinstance(event, Body) and event.outcome is None:
            begun[event.job_id] += 1
            row = rows.get(event.job_id)
            if row is not None and begun[event.job_id] > row.max_attempts:
                yield violation_of(event, f"begins for the {begun[event.job_id]}th time")


def the_best_is_first(history: History, rules: Rules) -> Iterator[Violation]:
    """Nothing is claimed while something better has been waiting for long."""
    rows: dict[int, JobRow] = {}
    since: dict[int, float] = {}
    for key, group in groupby(history, key=_claim_of):
        events = list(group)
        for event in events:
            if isinstance(event, Change):
                follow(rows, event)
                since[event.job_id] = event.at
        if key is None:
            continue
        claimed = [event for event in events if isinstance(event, Change)]
        worst = max(claimed, key=lambda change: change.after.rank if change.after else (0, "", 0))
        assert worst.before is not None
        assert worst.after is not None
        if worst.before.state == "held":
            continue
        for row in rows.values():
            if row.rank < worst.after.rank and _could_be_claimed(row, worst, since[row.id]):
                yield violation_of(worst, f"claimed, although job {row.id} is better and waits")


def paused_queues_rest(history: History, rules: Rules) -> Iterator[Violation]:
    """Nothing is claimed from a queue that has been paused for a while."""
    paused: dict[str, float] = {}
    for event in history:
        if isinstance(event, QueueChange):
            paused.pop(event.row.name, None)
            if event.row.paused_at is not None:
                paused[event.row.name] = event.at
        elif isinstance(event, Change) and is_claim(event) and event.after is not None:
            since = paused.get(event.after.queue, event.at)
            if event.at - since > ORDER_SLACK:
                yield violation_of(
                    event, f"claimed, although its queue is paused since {since:.4f}"
                )


def nothing_is_lost(history: History, rules: Rules) -> Iterator[Violation]:
    """What was accepted is there; only what has ended is deleted, or what an operator deletes."""
    rows: dict[int, JobRow] = {}
    seen: set[int] = set()
    for event in history:
        if isinstance(event, Change):
            follow(rows, event)
            seen.add(event.job_id)
            before = event.before
            if event.after is not None or before is None:
                continue
            if before.state == "running" or (
                before.is_unfinished and not event.who.startswith("operator")
            ):
                yield violation_of(event, f"deleted, while it was {before.state}")
        elif isinstance(event, Accepted) and event.job_id not in seen:
            yield violation_of(event, "accepted, but it has not been committed")


def keys_are_unique(history: History, rules: Rules) -> Iterator[Violation]:
    """Two unfinished jobs never have one key, unless the older was to hold it only until its start."""
    rows: dict[int, JobRow] = {}
    for change in changes(history):
        follow(rows, change)
        row = change.after
        if row is None or row.key is None or not row.is_unfinished:
            continue
        for other in rows.values():
            if (
                other.id != row.id
                and other.key == row.key
                and _holds_key(other)
                and _holds_key(row)
            ):
                yield violation_of(change, f"its key {row.key} is held by job {other.id}")


def _claim_of(event: Event) -> str | None:
    """The token of the claim that a change belongs to: its rows are one group."""
    if isinstance(event, Change) and is_claim(event):
        assert event.after is not None
        return event.after.lock_token
    return None


def _could_be_claimed(row: JobRow, claim: Change, since: float) -> bool:
    """Whether a row has been there for long, for everybody to take."""
    return (
        row.state == "queued"
        and not row.gated
        and not row.run_alone
        and row.attempts + 1 < row.max_attempts
        and row.run_at < earlier(claim.clock, ORDER_SLACK)
        and (row.expires_at is None or row.expires_at > claim.clock)
        and since < claim.at - ORDER_SLACK
        and row.queue == "default"
        and row.task == "work"
    )


def _holds_key(row: JobRow) -> bool:
    return row.is_unfinished and (row.key_until != "start" or row.claims == 0)
