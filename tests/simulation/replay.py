"""Reading a history: what an event means, and what the rows were when it happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cronqueue.columns import to_text
from simulation.history import EVERYBODY, Calm, Change, History, JobRow, Trouble

ENDS = {"succeeded", "failed", "cancelled", "skipped"}
# Whoever was in trouble is in touch again so long after it: the longest pause between tries, and a little.
BACK_IN_TOUCH = 6.0


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be."""

    at: float
    what: str
    job_id: int | None = None

    def __str__(self) -> str:
        return f"at {self.at:.4f}: {self.what}"


@dataclass(frozen=True)
class Rules:
    """How long leases are, and whether the database's clock was set: then nobody's lease is safe."""

    lease: float
    places: int = 2
    clock_was_set: bool = False


Invariant = Callable[[History, Rules], Iterator[Violation]]


def unfinished_rows(history: History) -> list[JobRow]:
    """The jobs that have not ended."""
    rows: dict[int, JobRow] = {}
    for change in changes(history):
        follow(rows, change)
    return [row for row in rows.values() if row.is_unfinished]


def changes(history: History) -> Iterator[Change]:
    return (event for event in history if isinstance(event, Change))


def follow(rows: dict[int, JobRow], change: Change) -> None:
    if change.after is None:
        rows.pop(change.job_id, None)
    else:
        rows[change.job_id] = change.after


def is_claim(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or after is None or after.state != "running":
        return False
    return before.lock_token != after.lock_token


def leaves_running(change: Change) -> bool:
    """Whether a claim ends: also by another claim, which must not be."""
    before, after = change.before, change.after
    if before is None or before.state != "running":
        return False
    return after is None or after.lock_token != before.lock_token


def troubles_of(history: History) -> list[Trouble]:
    """All troubles, each until its end."""
    calm_at = min((event.at for event in history if isinstance(event, Calm)), default=float("inf"))
    troubles = [event for event in history if isinstance(event, Trouble)]
    return [replace(each, until=min(each.until, calm_at)) for each in troubles]


def last_trouble(troubles: list[Trouble], process: str, at: float) -> float:
    """When the last trouble of a process ended that began before; -inf if it had none."""
    ends = [each.until for each in troubles if each.at <= at and _strikes(each.who, process)]
    return max(ends, default=float("-inf"))


def _strikes(who: str, process: str) -> bool:
    """Whether a trouble of a machine, a process or everybody is one of this process or its supervisor."""
    return who == EVERYBODY or process == who or process.startswith((f"{who}.", f"{who}/"))


def earlier(moment: str, seconds: float) -> str:
    return to_text(datetime.fromisoformat(moment) - timedelta(seconds=seconds))


def violation_of(event: Any, what: str) -> Violation:
    return Violation(event.at, f"job {event.job_id}: {what}", event.job_id)
