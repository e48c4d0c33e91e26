"""Calendars of excluded times: dates, weekdays, daily windows, minutes of a cron expression, events."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Any

from cronqueue.errors import DefinitionError
from cronsched import cronexpr
from cronsched.cronfields import WEEKDAYS
from cronsched.timezones import first_shown, wall_clock
from cronsched.triggers import Spec, from_text, to_text

# A stretch of excluded time, its end not included.
Stretch = tuple[datetime, datetime]

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)
_SHORT_WEEKDAYS = tuple(name[:3] for name in WEEKDAYS)


@dataclass(frozen=True, slots=True)
class Calendar:
    """What is excluded, on the clock of the schedule that uses it.

    A window whose end is not after its start goes past midnight. `events` are stretches of time; naive
    ones are the clock's, aware ones stand fast.
    """

    name: str
    dates: tuple[date, ...] = ()
    weekdays: tuple[str, ...] = ()
    windows: tuple[tuple[time, time], ...] = ()
    crons: tuple[str, ...] = ()
    events: tuple[Stretch, ...] = ()

    def __post_init__(self) -> None:
        for field in ("dates", "windows", "crons"):
            object.__setattr__(self, field, tuple(sorted(set(getattr(self, field)))))
        weekdays = sorted(set(self.weekdays), key=_SHORT_WEEKDAYS.index)
        object.__setattr__(self, "weekdays", tuple(weekdays))
        events = sorted(set(self.events), key=_event_texts)
        object.__setattr__(self, "events", tuple(events))
        if len(weekdays) == len(_SHORT_WEEKDAYS):
            raise DefinitionError(f"calendar {self.name!r} excludes every day of the week")
        for text in self.crons:
            cronexpr.parse(text)

    def closes_day(self, day: date) -> bool:
        """Whether the whole day is excluded, by its date or its weekday."""
        if _SHORT_WEEKDAYS[day.isoweekday() % 7] in self.weekdays:
            return True
        place = bisect_left(self.dates, day)
        return place < len(self.dates) and self.dates[place] == day

    def closed(self, instant: datetime, tz: str) -> Iterator[Stretch]:
        """The excluded stretches around an instant, none if it is free.

        Each ends at the right instant, or at a midnight after which another may follow; its beginning is
        right to the hours by which the clock is moved meanwhile.
        """
        wall = wall_clock(tz, instant)
        for start, end in self._shown_around(wall):
            if start <= wall < end:
                yield instant - (wall - start), first_shown(tz, end, instant)
        for start, end in self.events:
            if start.tzinfo and start <= instant < end:
                yield start, end

    def _shown_around(self, wall: datetime) -> Iterator[Stretch]:
        day = datetime.combine(wall, time.min)
        if self.closes_day(wall.date()):
            yield day, day + _DAY
        for start, end in self.windows:
            opens, closes = datetime.combine(day, start), datetime.combine(day, end)
            if start < end:
                yield opens, closes
            else:
                yield day, closes
                yield opens, day + _DAY
        for text in self.crons:
            yield from _cron_stretches(text, day)
        yield from (event for event in self.events if event[0].tzinfo is None)

    def spec(self) -> Spec:
        """The calendar as JSON-able values."""
        values: Spec = {
            "dates": [day.isoformat() for day in self.dates],
            "weekdays": list(self.weekdays),
            "windows": [[start.isoformat(), end.isoformat()] for start, end in self.windows],
            "crons": list(self.crons),
            "events": [list(_event_texts(event)) for event in self.events],
        }
        return {"name": self.name} | {key: value for key, value in values.items() if value}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Calendar:
        """The calendar whose `spec()` this is."""
        return cls(
            spec["name"],
            tuple(map(date.fromisoformat, spec.get("dates", ()))),
            tuple(spec.get("weekdays", ())),
            tuple(
                (time.fromisoformat(a), time.fromisoformat(b)) for a, b in spec.get("windows", ())
            ),
            tuple(spec.get("crons", ())),
            tuple((_event_time(a), _event_time(b)) for a, b in spec.get("events", ())),
        )


@lru_cache(maxsize=1024)
def _cron_stretches(text: str, day: datetime) -> tuple[Stretch, ...]:
    """The minutes of a day that an expression names (with six fields the seconds), joined."""
    expression = cronexpr.parse(text)
    length = _SECOND if expression.fields[0].kind.name == "second" else _MINUTE
    found: list[Stretch] = []
    for shown in takewhile(lambda shown: shown < day + _DAY, expression.times(day)):
        if found and found[-1][1] == shown:
            found[-1] = found[-1][0], shown + length
        else:
            found.append((shown, shown + length))
    return tuple(found)


def _event_texts(event: Stretch) -> tuple[str, str]:
    start, end = (to_text(one) if one.tzinfo else one.isoformat() for one in event)
    return start, end


def _event_time(text: str) -> datetime:
    return from_text(text) if text.endswith("Z") else datetime.fromisoformat(text)
