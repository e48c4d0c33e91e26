"""Simulation: what the schedules will do to the workers. Pure: definitions and durations in, figures out.

The planner's times, the gate's judge and the claim's order are the real ones; the clock and the bodies are
not. Everything is decided at moments in which a job comes due or ends.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from cronqueue.admission import Contender
from cronsched.catchup import Policy
from cronsched.definition import Definition
from cronsched.gate import guard_of, policy_of
from cronsched.overlap import judge

MOST_OCCURRENCES = 1_000_000
DEFAULT_DURATION = timedelta(seconds=1)
_ZERO = timedelta(0)
# The number of the other job at the end of a verdict.
_KIND = re.compile(r":\d+$")


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute: jobs that came due, jobs that started, the most that waited and ran at a time."""

    at: datetime
    due: int
    started: int
    deepest: int
    busiest: int


@dataclass(frozen=True, slots=True)
class ScheduleForecast:
    """One schedule: its occurrences, how many ran, which did not and why, and how late the worst one was."""

    name: str
    occurrences: int
    ran: int
    skipped: Mapping[str, int]
    worst_lateness: timedelta


@dataclass(frozen=True, slots=True)
class Simulation:
    """The whole: minutes with anything in them, and every schedule. `truncated`: it was too much."""

    minutes: tuple[Minute, ...]
    schedules: tuple[ScheduleForecast, ...]
    worst_lateness: timedelta
    deepest: int
    busy: float
    truncated: bool

    def of(self, name: str) -> ScheduleForecast:
        """One schedule; raises LookupError."""
        for each in self.schedules:
            if each.name == name:
                return each
        raise LookupError(f"there is no schedule {name!r} in this simulation")


def simulate(
    definitions: Iterable[Definition],
    start: datetime,
    end: datetime,
    places: int,
    durations: Mapping[str, timedelta],
) -> Simulation:
    """Run the schedules' occurrences in [start, end) on that many places; `durations` by task."""
    run = _Run(places)
    chosen = sorted(definitions, key=lambda each: each.name)
    arrivals = list(islice(_arrivals(chosen, start, end, durations), MOST_OCCURRENCES + 1))
    run.load(arrivals[:MOST_OCCURRENCES])
    run.play()
    return run.result(chosen, end - start, truncated=len(arrivals) > MOST_OCCURRENCES)


@dataclass(frozen=True, slots=True)
class _Arrival:
    definition: Definition
    planned_for: datetime
    run_at: datetime
    duration: timedelta


def _arrivals(
    definitions: Iterable[Definition],
    start: datetime,
    end: datetime,
    durations: Mapping[str, timedelta],
) -> Iterator[_Arrival]:
    streams = [
        _of_one(each, start, end, durations.get(each.task, DEFAULT_DURATION))
        for each in definitions
    ]
    return heapq.merge(*streams, key=lambda each: each.run_at)


def _of_one(
    definition: Definition, start: datetime, end: datetime, duration: timedelta
) -> Iterator[_Arrival]:
    instant = None
    for following in definition.occurrences(start, end):
        if instant is not None:
            yield _Arrival(definition, instant, definition.run_at(instant, following), duration)
        instant = following
    if instant is not None:
        yield _Arrival(definition, instant, definition.run_at(instant, None), duration)


@dataclass(slots=True)
class _Tally:
    occurrences: int = 0
    ran: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    worst: timedelta = _ZERO


class _Run:
    """The state of a simulation; a job is known by its number."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._jobs: list[_Arrival] = []
        self._next = 0
        self._queue: list[tuple[int, datetime, int]] = []
        self._running: list[tuple[datetime, int]] = []
        self._gate: dict[str, dict[int, Contender]] = {}
        self._ended: set[int] = set()
        self._replaced = 0
        self._tallies: dict[str, _Tally] = {}
        self._minutes: dict[datetime, list[int]] = {}
        self._busy = _ZERO

    def load(self, arrivals: list[_Arrival]) -> None:
        self._jobs = arrivals
        for each in arrivals:
            self._tallies.setdefault(each.definition.name, _Tally()).occurrences += 1

    def play(self) -> None:
        while self._next < len(self._jobs) or self._running:
            now = self._next_moment()
            touched = self._end_until(now) | self._arrive_until(now)
            for guard in touched:
                self._judge(guard, now)
            self._start(now)

    def result(
        self, definitions: Iterable[Definition], span: timedelta, *, truncated: bool
    ) -> Simulation:
        forecasts = tuple(self._forecast(each.name) for each in definitions)
        minutes = tuple(Minute(at, *figures) for at, figures in sorted(self._minutes.items()))
        return Simulation(
            minutes,
            forecasts,
            max((each.worst_lateness for each in forecasts), default=_ZERO),
            max((each.deepest for each in minutes), default=0),
            self._busy / (span * self._places),
            truncated,
        )

    def _next_moment(self) -> datetime:
        moments = [self._running[0][0]] if self._running else []
        if self._next < len(self._jobs):
            moments.append(self._jobs[self._next].run_at)
        return min(moments)

    def _end_until(self, now: datetime) -> set[str]:
        freed = set()
        while self._running and self._running[0][0] <= now:
            _, number = heapq.heappop(self._running)
            guard = guard_of(self._jobs[number].definition)
            if guard is not None and number in self._gate.get(guard, {}):
                del self._gate[guard][number]
                freed.add(guard)
        return freed

    def _arrive_until(self, now: datetime) -> set[str]:
        touched = set()
        while self._next < len(self._jobs) and self._jobs[self._next].run_at <= now:
            number, job = self._next, self._jobs[self._next]
            self._next += 1
            self._count(now, 0)
            guard = guard_of(job.definition)
            if guard is None:
                self._let_through(number)
            else:
                self._gate.setdefault(guard, {})[number] = _contender(number, job, guard)
                touched.add(guard)
        return touched

    def _judge(self, guard: str, now: datetime) -> None:
        jobs = self._gate[guard]
        policies: dict[str | None, Policy] = {
            self._jobs[number].definition.name: policy_of(self._jobs[number].definition)
            for number in jobs
        }
        ruling = judge(jobs.values(), policies, now)
        for each in ruling.ended:
            self._replaced += jobs.pop(each.id).has_slot
            self._ended.add(each.id)
            name = self._jobs[each.id].definition.name
            self._tallies[name].skipped[_KIND.sub("", each.reason)] += 1
        for number in ruling.admitted:
            jobs[number] = jobs[number]._replace(
                has_slot=True, is_due=False, state="queued", held_reason=None
            )
            self._let_through(number)
        for number in ruling.passed:
            del jobs[number]
            self._let_through(number)
        for number in ruling.waiting:
            jobs[number] = jobs[number]._replace(state="held", held_reason="overlap", is_due=False)

    def _let_through(self, number: int) -> None:
        job = self._jobs[number]
        heapq.heappush(self._queue, (-job.definition.priority, job.run_at, number))

    def _start(self, now: datetime) -> None:
        while self._queue and len(self._running) < self._places:
            *_, number = heapq.heappop(self._queue)
            if number in self._ended:  # replaced before it started
                self._replaced -= 1
                continue
            job = self._jobs[number]
            heapq.heappush(self._running, (now + job.duration, number))
            self._busy += job.duration
            guard = guard_of(job.definition)
            if guard is not None and number in self._gate[guard]:
                held = self._gate[guard][number]
                self._gate[guard][number] = held._replace(
                    state="running", started_at=now, is_ours=False
                )
            tally = self._tallies[job.definition.name]
            tally.ran += 1
            tally.worst = max(tally.worst, now - job.run_at)
            self._count(now, 1)
        self._count(now, None)

    def _count(self, now: datetime, column: int | None) -> None:
        """Due or started one more, or the depth as it is."""
        minute = self._minutes.setdefault(now.replace(second=0, microsecond=0), [0, 0, 0, 0])
        if column is not None:
            minute[column] += 1
            return
        minute[2] = max(minute[2], len(self._queue) - self._replaced)
        minute[3] = max(minute[3], len(self._running))

    def _forecast(self, name: str) -> ScheduleForecast:
        tally = self._tallies.get(name, _Tally())
        return ScheduleForecast(
            name, tally.occurrences, tally.ran, dict(tally.skipped), tally.worst
        )


def _contender(number: int, job: _Arrival, guard: str) -> Contender:
    return Contender(
        id=number,
        guard=guard,
        schedule=job.definition.name,
        planned_for=job.planned_for,
        run_at=job.run_at,
        priority=job.definition.priority,
        state="queued",
        held_reason=None,
        has_slot=False,
        started_at=None,
        by_hand=False,
        is_due=True,
        is_ours=True,
    )
