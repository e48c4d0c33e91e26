"""What has happened: every committed change of a row, every body, every fault, in one order.

Triggers of the simulated database tell of the changes (`line.py`); they come here when they commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

# Whom a trouble may concern, besides a machine or a process.
EVERYBODY, THE_DATABASE = "everybody", "the database"
# SQLite's word for the present, as `cronqueue.columns` stores it.
Moment = str


class JobRow(NamedTuple):
    """A row of `sched_jobs`, as far as the invariants look at it."""

    id: int
    task: str
    state: str
    priority: int
    queue: str
    run_at: Moment
    expires_at: Moment | None
    attempts: int
    max_attempts: int
    claims: int
    refunds: int
    rescues: int
    worker_id: str | None
    lock_token: str | None
    locked_until: Moment | None
    gated: int
    guard: str | None
    slot: int | None
    key: str | None
    key_until: str | None
    unique_key: str | None
    schedule: str | None
    planned_for: Moment | None
    origin: str
    held_reason: str | None
    reason: str | None
    cancel_requested_at: Moment | None
    run_alone: int

    @property
    def is_unfinished(self) -> bool:
        return self.state in ("queued", "held", "running")

    @property
    def rank(self) -> tuple[int, Moment, int]:
        """The order in which jobs run."""
        return (-self.priority, self.run_at, self.id)


class OccurrenceRow(NamedTuple):
    """A row of `sched_occurrences`."""

    schedule: str
    planned_for: Moment
    verdict: str | None
    job_id: int | None


class QueueRow(NamedTuple):
    """A row of `sched_queues`."""

    name: str
    paused_at: Moment | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: when, by the true time in seconds, and whose doing it was."""

    at: float
    who: str

    def __str__(self) -> str:
        return f"{self.at:10.4f}  {self.who:<22} {self.describe()}"

    def describe(self) -> str:
        raise NotImplementedError

    def concerns(self, job_id: int) -> bool:
        """Whether it belongs into the story of this job."""
        return False


@dataclass(frozen=True, slots=True)
class Note(Event):
    """What was done to the world, or to one of it."""

    text: str

    def describe(self) -> str:
        return self.text

    def concerns(self, job_id: int) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Gone(Note):
    """The end of a process."""


@dataclass(frozen=True, slots=True)
class Calm(Note):
    """All troubles end, however long they were to last."""


@dataclass(frozen=True, slots=True)
class Trouble(Note):
    """Something that keeps `who`, a machine, a process or everybody, from its work until then."""

    until: float


@dataclass(frozen=True, slots=True)
class Change(Event):
    """A committed change of a job's row. `clock`: the database's time when it was written."""

    clock: Moment
    before: JobRow | None
    after: JobRow | None

    @property
    def job_id(self) -> int:
        row = self.after or self.before
        assert row is not None
        return row.id

    def describe(self) -> str:
        if self.before is None:
            assert self.after is not None
            return f"job {self.job_id} inserted: {_shown(self.after)}"
        if self.after is None:
            return f"job {self.job_id} deleted, it was {self.before.state}"
        changed = ", ".join(
            f"{name} {old}→{new}"
            for name, old, new in zip(JobRow._fields, self.before, self.after, strict=True)
            if old != new
        )
        return f"job {self.job_id} {changed}"

    def concerns(self, job_id: int) -> bool:
        return self.job_id == job_id


@dataclass(frozen=True, slots=True)
class LedgerChange(Event):
    """A committed change of an occurrence's row."""

    before: OccurrenceRow | None
    after: OccurrenceRow | None

    def describe(self) -> str:
        return f"occurrence {self.before or ''} → {self.after or 'gone'}"


@dataclass(frozen=True, slots=True)
class QueueChange(Event):
    """A queue was paused, or resumed."""

    row: QueueRow

    def describe(self) -> str:
        return f"queue {self.row.name} {'paused' if self.row.paused_at else 'resumed'}"


@dataclass(frozen=True, slots=True)
class Body(Event):
    """A body has begun, or is over (then `outcome` says how)."""

    job_id: int
    token: str
    attempt: int
    outcome: str | None = None

    def describe(self) -> str:
        what = "begins" if self.outcome is None else f"is over: {self.outcome}"
        return f"job {self.job_id} body {what} (attempt {self.attempt}, token {self.token})"

    def concerns(self, job_id: int) -> bool:
        return self.job_id == job_id


@dataclass(frozen=True, slots=True)
class Accepted(Event):
    """`enqueue` has returned to its caller."""

    job_id: int

    def describe(self) -> str:
        return f"job {self.job_id} accepted"

    def concerns(self, job_id: int) -> bool:
        return self.job_id == job_id


@dataclass(slots=True)
class History:
    """Events in their order."""

    events: list[Event] = field(default_factory=list)

    def append(self, event: Event) -> None:
        self.events.append(event)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def story_of(self, job_id: int | None) -> list[Event]:
        """What concerns one job; everything for None."""
        if job_id is None:
            return self.events
        return [event for event in self.events if event.concerns(job_id)]


def moment_of(text: Moment) -> datetime:
    return datetime.fromisoformat(text)


def seconds_between(earlier: Moment, later: Moment) -> float:
    return (moment_of(later) - moment_of(earlier)) / timedelta(seconds=1)


def _shown(row: JobRow) -> str:
    shown: dict[str, Any] = {
        name: value
        for name, value in row._asdict().items()
        if value not in (None, 0, "default", "adhoc") and name not in ("id", "max_attempts")
    }
    return ", ".join(f"{name}={value}" for name, value in shown.items())
