"""Planner: which occurrences are to be written, kept and taken back. Pure.

A schedule is written out ahead by time and by count: to the horizon, at least its next two, at most 600.
What it is computed from is its cursor, never "now", so a late pass leaves no hole:

    ──── valid_from ──── written ────┬───────── written ahead ─────────┬──── to come ────►
                                    now                       materialized_until

Every instant up to and including the cursor is decided; the next one to write lies after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice, pairwise, takewhile

from cronqueue.columns import LATEST
from cronsched.definition import Definition
from cronsched.timezones import utc_offset
from cronsched.triggers import SEARCH_LIMIT, After, whole_second

# A yearly schedule is worth seeing, and surviving without a daemon, beyond its next occurrence.
LEAST_AHEAD = 2
# An every-second schedule reaches 10 minutes, an every-minute one 10 hours: it is rows that cost.
MOST_AHEAD = 600
# How much of what an outage longer than the horizon has left behind is written at a time, and the pause
# before the next part, in which the other schedules are served.
MOST_LATE = 600
LATE_PAUSE = timedelta(seconds=1)
# Topped up when less than this share of its own range is left.
_SHARE_LEFT = 0.9

# What a plan wrote into the ledger itself, and may take back.
SUPERSEDED = "superseded"
REMOVED = "removed"
BY_PLAN = (SUPERSEDED, REMOVED)
_WAITING = ("queued", "held")
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Planned:
    """An occurrence to be written: nominal instant, due time, and the zone's seconds ahead of UTC."""

    planned_for: datetime
    run_at: datetime
    utc_offset: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is written already between now and the cursor: how many, and the last two, newest first."""

    count: int = 0
    last: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Extension:
    """Occurrences to write, where the cursor stands after them, and when to look again."""

    occurrences: tuple[Planned, ...]
    materialized_until: datetime
    refill_at: datetime


@dataclass(frozen=True, slots=True)
class Written:
    """An occurrence as it is stored, with its job as far as there is one."""

    planned_for: datetime
    verdict: str | None
    job_id: int | None
    job_state: str | None
    attempts: int
    run_at: datetime | None
    pinned: bool
    busy: bool = False  # somebody else is changing the job at this moment

    @property
    def is_waiting(self) -> bool:
        """Whether a plan may still take it back or change it."""
        return (
            self.verdict is None
            and self.job_state in _WAITING
            and self.attempts == 0
            and not (self.pinned or self.busy)
        )

    @property
    def is_revivable(self) -> bool:
        """Whether a plan took it back before it had started; then a plan may bring it again."""
        return self.verdict in BY_PLAN and (
            self.job_state is None or (self.job_state == "cancelled" and self.attempts == 0)
        )


@dataclass(frozen=True, slots=True)
class Revision:
    """What a changed definition does to the occurrences after now."""

    add: tuple[Planned, ...]
    keep: tuple[tuple[Written, Planned], ...]
    cancel: tuple[Written, ...]
    busy: tuple[Written, ...]
    materialized_until: datetime
    refill_at: datetime


def extend(
    definition: Definition, cursor: datetime, now: datetime, ahead: Ahead, horizon: timedelta
) -> Extension:
    """Write on from the cursor. Raises what the trigger raises when it cannot be computed."""
    instants = _after(definition, cursor, search_end := _search_end(cursor, now))
    late, instants = _late(instants, now)
    if len(late) > MOST_LATE:
        first = tuple(_planned(definition, late))[:MOST_LATE]
        return Extension(first, first[-1].planned_for, now + LATE_PAUSE)
    chosen, following = _wanted(instants, now + horizon, ahead.count)
    planned = _planned(definition, [*late, *chosen, *following])
    occurrences = tuple(planned)[: len(late) + len(chosen)]
    newest = (*reversed(chosen), *ahead.last)
    if not following:
        return Extension(occurrences, search_end, search_end - horizon)
    until = _reach(cursor, now + horizon, newest, ahead.count + len(chosen))
    return Extension(occurrences, until, _refill_at(until, now, newest, horizon))


def revise(
    definition: Definition,
    written: Sequence[Written],
    now: datetime,
    horizon: timedelta,
    *,
    is_retimed: bool = True,
) -> Revision:
    """The difference between what is stored after now and what the changed definition says.

    An instant that both have keeps its row. One that has started, was decided by an operator or is
    pinned stays as it is, and no second one is written beside it.
    """
    extension = extend(definition, now, now, Ahead(), horizon)
    wanted = {each.planned_for: each for each in extension.occurrences}
    by_instant = {each.planned_for: each for each in written}
    wanted |= _beyond(definition, by_instant, extension.materialized_until)
    if isinstance(definition.trigger, After) and not is_retimed:  # no rule tells its times
        wanted |= {each: _alone(definition, each) for each in by_instant}
    waiting = [each for each in written if each.is_waiting]
    return Revision(
        add=tuple(
            each
            for each in extension.occurrences
            if each.planned_for not in by_instant or by_instant[each.planned_for].is_revivable
        ),
        keep=tuple(
            (each, wanted[each.planned_for]) for each in waiting if each.planned_for in wanted
        ),
        cancel=tuple(each for each in waiting if each.planned_for not in wanted),
        busy=tuple(each for each in written if each.busy),
        materialized_until=extension.materialized_until,
        refill_at=extension.refill_at,
    )


def owed(definition: Definition, cursor: datetime, now: datetime) -> Iterator[Planned]:
    """What a schedule that is behind has not written yet of the time up to now."""
    instants = _after(definition, cursor, _search_end(cursor, now))
    return takewhile(lambda each: each.planned_for <= now, _planned(definition, instants))


def follow(definition: Definition, ended_at: datetime, last: datetime | None) -> Planned | None:
    """What comes `after` the run that has ended; None when the schedule itself has.

    Never before what was planned for `last`, whatever the clocks did.
    """
    assert isinstance(definition.trigger, After)
    instant = whole_second(ended_at) + timedelta(seconds=definition.trigger.seconds)
    for bound in (definition.start, None if last is None else last + _SECOND):
        instant = instant if bound is None else max(instant, bound)
    has_ended = definition.end is not None and instant > definition.end
    return None if has_ended or not definition.enabled else _alone(definition, instant)


def upcoming(definition: Definition, after: datetime, count: int) -> tuple[Planned, ...]:
    """The next occurrences strictly after a moment, with the times at which they become due."""
    instants = _after(definition, after, _search_end(after, after))
    return tuple(_planned(definition, list(islice(instants, count + 1))))[:count]


def _after(definition: Definition, moment: datetime, end: datetime) -> Iterator[datetime]:
    return definition.occurrences(moment.replace(microsecond=0) + _SECOND, end)


def _search_end(cursor: datetime, now: datetime) -> datetime:
    return min(max(cursor, now), LATEST - SEARCH_LIMIT) + SEARCH_LIMIT


def _late(instants: Iterator[datetime], now: datetime) -> tuple[list[datetime], Iterator[datetime]]:
    """The instants up to now, of which one more than may be written at a time; and the rest."""
    late: list[datetime] = []
    for instant in instants:
        if instant > now:
            return late, chain([instant], instants)
        late.append(instant)
        if len(late) > MOST_LATE:
            break
    return late, instants


def _wanted(
    instants: Iterable[datetime], horizon_end: datetime, count: int
) -> tuple[list[datetime], list[datetime]]:
    """The instants to write ahead of now, and the one that follows them, if any does."""
    chosen: list[datetime] = []
    for instant in instants:
        ahead = count + len(chosen)
        if ahead >= MOST_AHEAD or (instant > horizon_end and ahead >= LEAST_AHEAD):
            return chosen, [instant]
        chosen.append(instant)
    return chosen, []


def _reach(
    cursor: datetime, horizon_end: datetime, newest: Sequence[datetime], count: int
) -> datetime:
    """How far everything is written: by count only to the last one, else to the horizon at least."""
    last = max([cursor, *newest[:1]])
    return last if count >= MOST_AHEAD else max(last, horizon_end)


def _refill_at(
    until: datetime, now: datetime, newest: Sequence[datetime], horizon: timedelta
) -> datetime:
    """When a tenth of the range is used up, or only one occurrence is left, whichever comes first."""
    by_range = until - min(horizon, until - now) * _SHARE_LEFT
    by_count = newest[LEAST_AHEAD - 1] if len(newest) >= LEAST_AHEAD else by_range
    return max(min(by_range, by_count), now + _SECOND)


def _planned(definition: Definition, instants: Iterable[datetime]) -> Iterator[Planned]:
    """With their due times; what follows each bounds its jitter."""
    for instant, following in pairwise(chain(instants, [None])):
        if instant is not None:  # only the last one is None, and it comes second
            offset = utc_offset(definition.tz, instant).total_seconds()
            yield Planned(instant, definition.run_at(instant, following), int(offset))


def _alone(definition: Definition, instant: datetime) -> Planned:
    (planned,) = _planned(definition, [instant])
    return planned


def _beyond(
    definition: Definition, written: Mapping[datetime, Written], until: datetime
) -> dict[datetime, Planned]:
    """What the definition says of rows that an earlier, longer range has written."""
    found = {}
    for instant in (each for each in written if each > until):
        for planned in upcoming(definition, instant - _SECOND, 1):
            if planned.planned_for == instant:
                found[instant] = planned
    return found
