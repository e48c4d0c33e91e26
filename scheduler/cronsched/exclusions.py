"""Exclusions: a trigger without what calendars exclude, or with it moved to where there is time.

Where an occurrence goes depends on its own instant and the calendars alone, so a range has the same
instants however it is cut: the search begins as far before the range as occurrences can be moved from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from heapq import heappop, heappush
from typing import Any, Literal, get_args

from cronqueue.errors import DefinitionError
from cronsched.calendars import Calendar, Stretch
from cronsched.timezones import LIMIT, first_shown, wall_clock
from cronsched.triggers import (
    SearchExhausted,
    Spec,
    Trigger,
    next_after,
    trigger_from_spec,
    whole_second,
)

OnExcluded = Literal["skip", "next_business", "prev_business", "after"]

ON_EXCLUDED: tuple[str, ...] = get_args(OnExcluded)
# Stretches or days in a row, excluded ones: further on, nothing is taken to be free.
_LONGEST_ROW = 2_000
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Excluding:
    """A trigger and the calendars that it keeps clear of, read on the clock of `tz`.

    `skip` leaves an excluded occurrence out, `after` moves it to the end of the excluded time.
    `next_business` and `prev_business` move it to the same time of the nearest day that is not excluded as
    a whole; what a window or an event excludes there, or excluded from the first, is left out.
    """

    trigger: Trigger
    calendars: tuple[Calendar, ...]
    tz: str = "UTC"
    on_excluded: OnExcluded = "skip"

    def __post_init__(self) -> None:
        if self.on_excluded not in ON_EXCLUDED:
            raise DefinitionError(
                f"on_excluded {self.on_excluded!r}: choose one of {', '.join(map(repr, ON_EXCLUDED))}"
            )

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Raises SearchExhausted where the calendars leave nothing free for years."""
        start, end = whole_second(start), whole_second(end)
        if start >= end:
            return
        previous = None
        for instant in self._moved_into(start, end):
            if start <= instant < end and instant != previous:
                yield instant
                previous = instant

    def _moved_into(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """What lands in the range, ascending, with some of what lands beside it."""
        if self.on_excluded == "skip":
            return self._past_stretches(start, end)
        if self.on_excluded == "after":
            return self._past_stretches(self._stretch_start(start), end)
        if self.on_excluded == "next_business":
            return self._forwards(self._run_start(start), end)
        return self._backwards(start, self._run_end(end))

    def _past_stretches(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """From one excluded stretch to the next: what lies in one is not looked at one by one."""
        moment, row = start, 0
        while moment < end:
            for instant in self.trigger.between(moment, end):
                moment = self._stretch_end(instant, end)
                if moment != instant:
                    break
                row = 0
                yield instant
            else:
                return
            if self.on_excluded == "after":
                yield moment
                row = 0
            row += 1
            if row > _LONGEST_ROW:
                raise self._exhausted(instant)

    def _forwards(self, start: datetime, end: datetime) -> Iterator[datetime]:
        waiting: list[datetime] = []
        for instant in self.trigger.between(start, end):
            # What follows moves to later instants than its own.
            while waiting and waiting[0] <= instant:
                yield heappop(waiting)
            moved = self._on_a_business_day(instant, 1)
            if moved is not None:
                heappush(waiting, moved)
        yield from sorted(waiting)

    def _backwards(self, start: datetime, end: datetime) -> Iterator[datetime]:
        waiting: list[datetime] = []
        for instant in self.trigger.between(start, end):
            if self._nothing_moves_before(instant):
                while waiting and waiting[0] <= instant:
                    yield heappop(waiting)
            moved = self._on_a_business_day(instant, -1)
            if moved is not None:
                heappush(waiting, moved)
        yield from sorted(waiting)

    def _nothing_moves_before(self, instant: datetime) -> bool:
        """Whether no later instant can land before this one: no closed day near it, nor on the morrow."""
        wall = wall_clock(self.tz, instant)
        days = {(wall - LIMIT).date(), wall.date(), wall.date() + _DAY}
        return not any(map(self._closes_day, days))

    def _on_a_business_day(self, instant: datetime, step: int) -> datetime | None:
        wall = wall_clock(self.tz, instant)
        day = self._open_day(wall.date(), step)
        if day != wall.date():
            shown = datetime.combine(day, wall.time())
            instant = first_shown(self.tz, shown)
        return None if any(self._closed(instant)) else instant

    def _open_day(self, day: date, step: int) -> date:
        """The first open day from this one on, or back."""
        for number in range(_LONGEST_ROW):
            candidate = day + number * step * _DAY
            if not self._closes_day(candidate):
                return candidate
        raise self._exhausted(datetime.combine(day, time.min))

    def _run_start(self, start: datetime) -> datetime:
        """Before the closed days that come before the range: from there on may be moved into it."""
        yesterday = wall_clock(self.tz, start).date() - _DAY
        return _midnight(self._open_day(yesterday, -1)) - _DAY

    def _run_end(self, end: datetime) -> datetime:
        tomorrow = wall_clock(self.tz, end).date() + _DAY
        return _midnight(self._open_day(tomorrow, 1)) + _DAY

    def _stretch_end(self, instant: datetime, limit: datetime) -> datetime:
        """The instant itself if it is free, else the end of the excluded stretch around it, or the limit."""
        for _ in range(_LONGEST_ROW):
            ends = [end for _, end in self._closed(instant)]
            if not ends or instant >= limit:
                return instant
            instant = max(ends)
        raise self._exhausted(instant)

    def _stretch_start(self, instant: datetime) -> datetime:
        for _ in range(_LONGEST_ROW):
            starts = [start for start, _ in self._closed(instant - _SECOND)]
            if not starts:
                break
            instant = min(starts)
        return instant

    def _closes_day(self, day: date) -> bool:
        return any(calendar.closes_day(day) for calendar in self.calendars)

    def _closed(self, instant: datetime) -> Iterator[Stretch]:
        for calendar in self.calendars:
            yield from calendar.closed(instant, self.tz)

    def _exhausted(self, moment: datetime) -> SearchExhausted:
        return SearchExhausted(
            f"{self.describe()}: the calendars leave nothing free before {moment:%Y-%m-%d}"
        )

    def spec(self) -> Spec:
        return {
            "kind": "excluding",
            "of": self.trigger.spec(),
            "calendars": [calendar.spec() for calendar in self.calendars],
            "tz": self.tz,
            "on_excluded": self.on_excluded,
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Excluding:
        """The trigger whose `spec()` this is."""
        calendars = tuple(map(Calendar.from_spec, spec["calendars"]))
        return cls(trigger_from_spec(spec["of"]), calendars, spec["tz"], spec["on_excluded"])

    def describe(self) -> str:
        names = ", ".join(calendar.name for calendar in self.calendars)
        return f"{self.trigger.describe()}, except {names}{_WORDS[self.on_excluded]}"


_WORDS = {
    "skip": "",
    "next_business": " (then on the next business day)",
    "prev_business": " (then on the business day before)",
    "after": " (then at the end of it)",
}


def excluding(
    trigger: Trigger,
    calendars: tuple[Calendar, ...],
    tz: str,
    on_excluded: OnExcluded,
    now: datetime,
) -> Excluding:
    """The trigger without what the calendars exclude; raises DefinitionError where that is everything."""
    made = Excluding(trigger, calendars, tz, on_excluded)
    try:
        next_after(made, now)
    except SearchExhausted as error:
        raise DefinitionError(f"exclude: {error}") from None
    return made


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
