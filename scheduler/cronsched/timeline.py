"""The timeline: what ran, what will run, and whether it will fit.

`read_timeline` reads the runs and the rows of a span of time; what lies beyond the rows that are written is
computed from the definitions. `load_of` and what follows from it are pure.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Row, text

from cronqueue.columns import Instant
from cronqueue.database import Database
from cronqueue.errors import CronqueueError
from cronqueue.overview import Percentiles, durations_by_task, paused_queues, stats
from cronsched.definition import Definition
from cronsched.schedule_queries import ScheduleRow, all_definitions, list_schedules

# More than this no picture shows: the newest runs, and the next rows, are taken.
MOST_RUNS = 10_000
MOST_COMING = 10_000
# Of a schedule, so many occurrences are computed beyond what is written.
MOST_BEYOND = 20_000
# How long a job of a task is expected to take of which none has ended yet.
UNKNOWN_DURATION = timedelta(seconds=1)
_ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Run:
    """A job that has started, or ended without: when it was due, when it began and ended, and how."""

    job_id: int
    state: str
    due_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Coming:
    """A job to come. Without an id it is no row yet. `held_reason` says why it is parked.

    `planned_for` is there where it is an occurrence of a schedule.
    """

    run_at: datetime
    job_id: int | None
    held_reason: str | None
    pinned: bool
    planned_for: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """A schedule, or a task with jobs of its own; `words` are the schedule's."""

    name: str
    is_schedule: bool
    queue: str
    state: str
    words: str | None
    covered_until: datetime | None
    took: Percentiles | None
    runs: tuple[Run, ...]
    coming: tuple[Coming, ...]

    @property
    def expected(self) -> timedelta:
        """How long a run will take, most likely."""
        return UNKNOWN_DURATION if self.took is None else timedelta(seconds=self.took.p50)


@dataclass(frozen=True, slots=True)
class Timeline:
    """All lanes in a span of time; `places` are those of live workers.

    `truncated`: it was too much. What is to come is all there until `whole_until`.
    """

    start: datetime
    now: datetime
    end: datetime
    lanes: tuple[Lane, ...]
    places: int
    truncated: bool
    whole_until: datetime


@dataclass(frozen=True, slots=True)
class Load:
    """A stretch of the time to come: places wanted on average, and how late jobs will be in it."""

    at: datetime
    wanted: float
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Herd:
    """A minute in which many jobs come due."""

    at: datetime
    jobs: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """A stretch in which nothing is expected to run."""

    start: datetime
    end: datetime


def read_timeline(database: Database, back: timedelta, ahead: timedelta) -> Timeline:
    """What ran within `back`, and what will within `ahead`."""
    now = database.server_now()
    definitions = {each.name: each for each in all_definitions(database, now, now + ahead)[0]}
    known = {each.name: each for each in list_schedules(database)}
    took, paused = durations_by_task(database), paused_queues(database)
    with database.snapshot() as connection:
        start, end = now - back, now + ahead
        span = {"start": database.moment(start), "end": database.moment(end)}
        ended = connection.execute(_ENDED, span | {"limit": MOST_RUNS}).all()
        running = connection.execute(_RUNNING).all()
        waiting = connection.execute(_WAITING, span | {"limit": MOST_COMING}).all()
    groups: dict[tuple[bool, str], list[Row[Any]]] = {(True, name): [] for name in known}
    for row in (*reversed(ended), *running, *waiting):
        groups.setdefault((row.schedule is not None, row.schedule or row.task), []).append(row)
    cut_off = waiting[-1].run_at if len(waiting) == MOST_COMING else end
    lanes = [
        _lane(key, rows, known.get(key[1]), definitions.get(key[1]), took, paused, (now, cut_off))
        for key, rows in groups.items()
    ]
    cut = [
        lane.coming[-1].run_at
        for lane in lanes
        if sum(each.job_id is None for each in lane.coming) == MOST_BEYOND
    ]
    whole_until = min([cut_off, *cut])
    truncated = len(ended) == MOST_RUNS or whole_until < end
    ordered = sorted(lanes, key=lambda lane: (not lane.is_schedule, lane.queue, lane.name))
    places = stats(database).places
    return Timeline(start, now, end, tuple(ordered), places, truncated, whole_until)


def load_of(timeline: Timeline, step: timedelta) -> list[Load]:
    """Places wanted in each step from now on, as if every job started when it is due.

    Where more are wanted than there are, work piles up, and what comes then waits for it.
    """
    seconds, horizon = step.total_seconds(), (timeline.whole_until - timeline.now).total_seconds()
    busy = [0.0] * max(math.ceil(horizon / seconds), 1)
    for lane in timeline.lanes:
        for begins, ends in _expected(lane, timeline.now):
            first = (begins - timeline.now).total_seconds()
            last = min((ends - timeline.now).total_seconds(), horizon)
            for number in range(int(first / seconds), math.ceil(last / seconds)):
                at = number * seconds
                busy[number] += min(last, at + seconds) - max(first, at)
    found, behind = [], 0.0
    for number, work in enumerate(busy):
        behind = max(behind + work - timeline.places * seconds, 0.0)
        delay = timedelta(seconds=behind / timeline.places if timeline.places else 0.0)
        found.append(Load(timeline.now + number * step, work / seconds, delay))
    return found


def herds_of(timeline: Timeline, count: int = 3) -> list[Herd]:
    """The minutes in which most jobs come due, of those with more than there are places."""
    minutes: dict[datetime, int] = {}
    for lane in timeline.lanes:
        for each in lane.coming:
            if each.held_reason is None and each.run_at >= timeline.now:
                minute = each.run_at.replace(second=0, microsecond=0)
                minutes[minute] = minutes.get(minute, 0) + 1
    crowded = [Herd(at, jobs) for at, jobs in minutes.items() if jobs > max(timeline.places, 1)]
    return sorted(crowded, key=lambda each: (-each.jobs, each.at))[:count]


def quiet_of(timeline: Timeline, count: int = 3) -> list[Quiet]:
    """The longest stretches without an expected run, of a minute at least."""
    spans = sorted(span for lane in timeline.lanes for span in _expected(lane, timeline.now))
    found, free_from = [], timeline.now
    for begins, ends in (*spans, (timeline.whole_until, timeline.whole_until)):
        if begins - free_from >= timedelta(minutes=1):
            found.append(Quiet(free_from, begins))
        free_from = max(free_from, ends)
    return sorted(found, key=lambda each: (each.start - each.end, each.start))[:count]


# The condition on the states is that of the index: ended jobs by their end.
_COLUMNS = (
    "id, task, schedule, queue, state, run_at, started_at, finished_at, reason, held_reason, pinned,"
    " planned_for, origin"
)
_INSTANTS = {name: Instant() for name in ("run_at", "started_at", "finished_at", "planned_for")}
_ENDED = text(f"""
SELECT {_COLUMNS} FROM sched_jobs
WHERE state IN ('succeeded', 'failed', 'cancelled', 'skipped') AND finished_at > :start
ORDER BY finished_at DESC LIMIT :limit
""").columns(**_INSTANTS)
_RUNNING = text(f"SELECT {_COLUMNS} FROM sched_jobs WHERE state = 'running'").columns(**_INSTANTS)
_WAITING = text(f"""
SELECT {_COLUMNS} FROM sched_jobs
WHERE state IN ('queued', 'held') AND run_at <= :end ORDER BY run_at LIMIT :limit
""").columns(**_INSTANTS)


def _lane(
    key: tuple[bool, str],
    rows: Sequence[Row[Any]],
    schedule: ScheduleRow | None,
    definition: Definition | None,
    took: Mapping[str, Percentiles],
    paused: Container[str],
    span: tuple[datetime, datetime],
) -> Lane:
    is_schedule, name = key
    runs = [row for row in rows if row.state not in ("queued", "held")]
    waiting = [row for row in rows if row.state in ("queued", "held")]
    coming = [
        Coming(
            row.run_at,
            row.id,
            _held(row.held_reason, row.queue, paused),
            bool(row.pinned),
            row.planned_for if row.origin == "schedule" else None,
        )
        for row in waiting
    ]
    if definition is not None and schedule is not None and schedule.state != "retired":
        held = _held("paused" if schedule.state == "paused" else None, definition.queue, paused)
        coming += _beyond(definition, schedule.covered_until, held, span)
    task = schedule.task if schedule else (rows[0].task if rows else name)
    return Lane(
        name,
        is_schedule,
        schedule.queue if schedule else rows[0].queue,
        schedule.state if schedule else "active",
        schedule.words if schedule else None,
        schedule.covered_until if schedule else None,
        took.get(task),
        tuple(
            Run(row.id, row.state, row.run_at, row.started_at, row.finished_at, row.reason)
            for row in runs
        ),
        tuple(sorted(coming, key=lambda each: each.run_at)),
    )


def _held(reason: str | None, queue: str, paused: Container[str]) -> str | None:
    """Why it will not run when it is due; the rows of a paused queue do not say it themselves."""
    return reason or ("queue paused" if queue in paused else None)


def _beyond(
    definition: Definition,
    covered_until: datetime,
    held: str | None,
    span: tuple[datetime, datetime],
) -> Iterable[Coming]:
    """What is not written yet. A paused schedule writes on, and parks what it writes."""
    now, end = span
    start = max(covered_until, now) + timedelta(microseconds=1)
    if start >= end:
        return
    try:
        for instant in islice(definition.occurrences(start, end), MOST_BEYOND):
            yield Coming(instant, None, held, False, instant)
    except CronqueueError:  # it cannot be computed so far ahead
        return


def _expected(lane: Lane, now: datetime) -> list[tuple[datetime, datetime]]:
    """When its jobs will run, as if places were never short; those that run now, to their likely end."""
    running = [
        (now, max(run.started_at + lane.expected, now))
        for run in lane.runs
        if run.state == "running" and run.started_at is not None
    ]
    begin = (max(each.run_at, now) for each in lane.coming if each.held_reason is None)
    return running + [(begins, begins + lane.expected) for begins in begin]
