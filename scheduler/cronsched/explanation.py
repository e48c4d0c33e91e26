"""Explanation: why a job is not running, or why it ran when it did.

`explain` reads what bears on the job, each with one query; `tell` decides, in the order in which the claim
and the gate would look at it, and is pure.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.durations import format_duration
from cronqueue.overview import (
    Pause,
    WorkerStatus,
    list_workers,
    paused_queues,
    takes_priority,
    takes_queue,
)
from cronqueue.queries import JobRow, find_job
from cronqueue.tracebacks import error_line


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason with a word for programs, a sentence, and the moment that it speaks of.

    `remedy`: the command that does something about it, or tells more; None where there is none.
    """

    code: str
    words: str
    until: datetime | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What bears on a job beside its own row: the schedule's pause, its queue's, who holds its guard.

    `error`: the line that names what its last attempt failed with.
    """

    now: datetime
    error: str = ""
    schedule_pause: Pause | None = None
    queue_pause: Pause | None = None
    guard_holder: int | None = None
    workers: Sequence[WorkerStatus] = ()


def explain(database: Database, job_id: int) -> tuple[JobRow, list[Reason]]:
    """The job, and every reason; raises LookupError."""
    details = find_job(database, job_id)
    row = details.row
    with database.snapshot() as connection:
        now = read_now(database, connection)
        pause = connection.execute(_PAUSE, {"name": row.schedule}).one_or_none()
        guarded = {"guard": row.guard, "id": row.id}
        holder = None if row.guard is None else connection.execute(_HOLDER, guarded).scalar()
    workers = [each for each in list_workers(database) if each.kind == "worker"]
    around = Surroundings(
        now,
        error_line(details.last_error),
        None if pause is None else Pause(*pause),
        paused_queues(database).get(row.queue),
        holder,
        [each for each in workers if each.state == "running"],
    )
    return row, tell(row, around)


_PAUSE = text("""
SELECT paused_at, paused_by, paused_reason, paused_until FROM sched_schedules
WHERE name = :name AND paused_at IS NOT NULL
""").columns(paused_at=Instant(), paused_until=Instant())
_HOLDER = text("""
SELECT id FROM sched_jobs WHERE guard = :guard AND slot IS NOT NULL AND id <> :id ORDER BY slot LIMIT 1
""")


def tell(job: JobRow, around: Surroundings) -> list[Reason]:
    """Every reason, the one that keeps the job longest in its place first. Pure."""
    if job.state == "running":
        return [_running(job, around.now)]
    if job.state == "held":
        return [_held(job, around)]
    if job.state != "queued":
        return _ended(job)
    if job.expires_at is not None and job.expires_at <= around.now:
        words = f"it was to start by {_at(job.expires_at)}: the next sweep ends it"
        return [Reason("expired", words, job.expires_at)]
    reasons = [_future(job, around)] if job.run_at > around.now else []
    if around.queue_pause is not None:
        reasons.append(_paused_queue(job, around.queue_pause))
    if job.gated and around.guard_holder is not None:
        words = f"it must not overlap with job {around.guard_holder}, which holds {job.guard!r}"
        reasons.append(Reason("guard", words, remedy=_sched("explain", around.guard_holder)))
    reasons += _workers(job, around)
    return reasons or [_waits(job, around)]


def _running(job: JobRow, now: datetime) -> Reason:
    since = "" if job.started_at is None else f" since {_at(job.started_at)}"
    words = f"it runs on {job.locked_by or 'a worker'}{since}, attempt {job.attempts}"
    if job.locked_until is not None and job.locked_until <= now:
        words += "; its worker is not heard of, and the job goes to another one soon"
    elif job.locked_until is not None:
        words += f"; its lease is held until {_at(job.locked_until)}, and renewed while it runs"
    if job.cancel_requested_at is not None:
        words += (
            f"; it was asked to stop at {_at(job.cancel_requested_at)}, and if it goes on for longer than"
            " its worker's SCHED_CANCEL_TIMEOUT, its process is ended"
        )
    return Reason("running", words, job.locked_until, _sched("jobs", "cancel", job.id))


def _held(job: JobRow, around: Surroundings) -> Reason:
    reason = job.held_reason or "held"
    if reason == "paused":
        pause = around.schedule_pause
        if pause is None:
            words = "it is held, although its schedule is not paused"
            return Reason(reason, words, remedy=_sched("jobs", "run-now", job.id))
        words = f"schedule {job.schedule} is paused {_by(pause)}"
        return Reason(reason, words, pause.until, _sched("schedules", "resume", job.schedule))
    if reason == "overlap":
        holder = around.guard_holder
        whose = "nobody does now: it is next" if holder is None else f"job {holder} does"
        remedy = None if holder is None else _sched("explain", holder)
        return Reason(reason, f"it waits until no other holds {job.guard!r}; {whose}", None, remedy)
    if reason == "unknown_task":
        words = f"no worker that has looked at it knows task {job.task!r}: import its module there"
        return Reason(reason, words, remedy="SCHED_IMPORTS=... sched worker")
    return Reason(reason, f"it is held: {reason}")


def _ended(job: JobRow) -> list[Reason]:
    """It ran, or was not to: why, and why then."""
    why = f": {job.reason}" if job.reason else ""
    when = "" if job.finished_at is None else f" at {_at(job.finished_at)}"
    again = None if job.state == "succeeded" else _sched("jobs", "retry", job.id)
    reasons = [Reason(job.state, f"it {_ENDED[job.state]}{when}{why}", job.finished_at, again)]
    if job.started_at is None:
        return reasons
    late = job.started_at - job.run_at
    words = f"it was due at {_at(job.run_at)}, and its last attempt started {_words(late)} later"
    if late < timedelta(seconds=1):
        words = f"it was due at {_at(job.run_at)}, and its last attempt started at once"
    reasons.append(Reason("started", words, job.started_at))
    if job.planned_for is not None and job.planned_for != job.run_at:
        cause = "moved by hand" if job.pinned else _ORIGINS.get(job.origin, _OF_ITSELF)
        words = f"it was planned for {_at(job.planned_for)}; that it was due later: {cause}"
        reasons.append(Reason("planned", words, job.planned_for))
    return reasons


def _future(job: JobRow, around: Surroundings) -> Reason:
    words = f"it is not due before {_at(job.run_at)}, in {_words(job.run_at - around.now)}"
    if job.attempts:
        words += f": attempt {job.attempts} of {job.max_attempts} did not succeed, this is the next"
        words += f"; {around.error}" if around.error else ""
    return Reason("future", words, job.run_at, _sched("jobs", "run-now", job.id))


def _paused_queue(job: JobRow, pause: Pause) -> Reason:
    words = f"queue {job.queue} is paused {_by(pause)}"
    return Reason("queue_paused", words, pause.until, _sched("queues", "resume", job.queue))


def _workers(job: JobRow, around: Surroundings) -> list[Reason]:
    """Whether anybody would take it."""
    if not around.workers:
        return [Reason("no_worker", "no worker is running", remedy="sched worker")]
    of_queue = [each for each in around.workers if takes_queue(each, job.queue)]
    if not of_queue:
        words = f"no live worker takes queue {job.queue}"
        return [Reason("queue", words, remedy=_sched("worker", "--queues", job.queue))]
    if not any(takes_priority(each, job.priority) for each in of_queue):
        words = f"no live worker of queue {job.queue} takes priority {job.priority}"
        bounds = ("--min-priority", job.priority, "--max-priority", job.priority)
        remedy = _sched("worker", "--queues", job.queue, *bounds)
        return [Reason("priority", words, remedy=remedy)]
    return []


def _waits(job: JobRow, around: Surroundings) -> Reason:
    if job.gated:
        return Reason("gate", "it is due, and comes to the gate with the next look of a worker")
    takers = [
        each
        for each in around.workers
        if takes_queue(each, job.queue) and takes_priority(each, job.priority)
    ]
    places = sum(each.concurrency or 0 for each in takers)
    busy = sum(each.running or 0 for each in takers)
    told = f"{busy} of the {places} places that take it are busy" if places else "it is due"
    words = f"{told}: it starts when a place is free and nothing that goes before it is left"
    return Reason("due", words, remedy="sched workers list")


def _sched(*words: object) -> str:
    """A command, quoted for the shell."""
    return shlex.join(["sched", *map(str, words)])


def _by(pause: Pause) -> str:
    until = "until it is resumed" if pause.until is None else f"until {_at(pause.until)}"
    reason = f" ({pause.reason})" if pause.reason else ""
    return f"by {pause.by or 'somebody'}{reason} {until}"


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _words(duration: timedelta) -> str:
    return format_duration(timedelta(seconds=round(duration.total_seconds())))


_ENDED = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "was cancelled",
    "skipped": "was skipped",
}
_OF_ITSELF = "jitter, a retry, or the turn that it had after an outage"
_ORIGINS = {"backfill": "a backfill", "manual": "triggered by hand"}
