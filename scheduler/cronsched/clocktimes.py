"""Hourly, daily, weekly and monthly times, and calendar intervals, as triggers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, time

from cronqueue.errors import DefinitionError
from cronsched.calendar_intervals import CalendarEvery, MonthEnd, check_month_end
from cronsched.cronfields import WEEKDAYS
from cronsched.timezones import DstGap, DstOverlap
from cronsched.triggers import Cron, Trigger, Union, cron_trigger

_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")


@dataclass(frozen=True, slots=True)
class Binding:
    """What a schedule adds to its times: its name, from which `H` is drawn, and its clock."""

    name: str
    tz: str | None = None
    default_tz: str = "UTC"
    dst_gap: DstGap = "shift"
    dst_overlap: DstOverlap = "first"

    @property
    def zone(self) -> str:
        return self.tz or self.default_tz

    def cron(self, expression: str) -> Cron:
        """The expression on this clock; a zone in front of it wins over the default one only."""
        return cron_trigger(
            expression,
            tz=self.tz,
            default_tz=self.default_tz,
            dst_gap=self.dst_gap,
            dst_overlap=self.dst_overlap,
            hash_name=self.name,
        )


# Times that are declared before the schedule's name and zone are known.
Rule = Callable[[Binding], Trigger]


def hourly(binding: Binding, minute: object) -> Trigger:
    """Every hour at a minute of it; raises DefinitionError, as all of these do."""
    if isinstance(minute, bool) or not isinstance(minute, int) or not 0 <= minute <= 59:
        raise DefinitionError(f"minute {minute!r}: give a whole number from 0 to 59")
    return binding.cron(f"{minute} * * * *")


def daily(binding: Binding, at: object) -> Trigger:
    """Every day at the times `at`."""
    return _at_times(binding, at, "* * *")


def weekly(binding: Binding, day: object, at: object) -> Trigger:
    """Every week on the weekdays `day`, at the times `at`."""
    names = ",".join(str(weekday(one)) for one in _several(day, "day", "mon"))
    return _at_times(binding, at, f"* * {names}")


def monthly(binding: Binding, day: object, at: object, month_end: object = "skip") -> Trigger:
    """Every month on the days `day` (numbers, or "last"), at the times `at`."""
    check_month_end(month_end)
    days = [_day_of_month(one) for one in _several(day, "day", 'last", or day=1')]
    if month_end == "skip":
        return _at_times(binding, at, f"{','.join(days)} * *")
    clamped = (
        calendar_every(binding, at, months=1, anchor=date(1970, 1, 31 if one == "L" else int(one)))
        for one in days
    )
    return union(tuple(clamped))


def calendar_every(
    binding: Binding,
    at: object,
    *,
    months: int = 0,
    days: int = 0,
    anchor: date,
    month_end: MonthEnd = "clamp",
) -> Trigger:
    """Every so many months, or days, from the date `anchor` on and back, at the times `at`."""
    times = tuple(time(*time_of_day(text)) for text in _several(at, "at", "07:30"))
    knobs = binding.dst_gap, binding.dst_overlap
    return CalendarEvery(anchor, months, days, times, binding.zone, month_end, *knobs)


def union(triggers: tuple[Trigger, ...]) -> Trigger:
    """What any of the triggers yields."""
    return triggers[0] if len(triggers) == 1 else Union(triggers)


def _at_times(binding: Binding, at: object, days: str) -> Trigger:
    """One expression for the times that share minute and second; several of them are a union."""
    hours: dict[tuple[int, int], set[int]] = {}
    for text in _several(at, "at", "07:30"):
        hour, minute, second = time_of_day(text)
        hours.setdefault((minute, second), set()).add(hour)
    crons = []
    for (minute, second), shared in sorted(hours.items()):
        clock = f"{minute} {','.join(map(str, sorted(shared)))}"
        crons.append(binding.cron(f"{second} {clock} {days}" if second else f"{clock} {days}"))
    return union(tuple(crons))


def _several(value: object, what: str, example: str) -> Sequence[object]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise DefinitionError(
            f'{what} is an empty list: give at least one, such as {what}="{example}"'
        )
    return values


def time_of_day(text: object, what: str = "at") -> tuple[int, int, int]:
    """Hour, minute and second of a text such as "07:30"; raises DefinitionError."""
    matched = _TIME.fullmatch(text) if isinstance(text, str) else None
    if matched is None:
        raise DefinitionError(
            f'{what} {text!r}: give a time as "HH:MM" or "HH:MM:SS", such as "07:30"'
        )
    return int(matched[1]), int(matched[2]), int(matched[3] or 0)


def weekday(name: object, what: str = "day") -> int:
    """The number of a weekday by its name, Sunday being 0; raises DefinitionError."""
    for index, full in enumerate(WEEKDAYS):
        if isinstance(name, str) and name.lower() in (full, full[:3]):
            return index
    raise DefinitionError(
        f"{what} {name!r}: give a weekday such as 'mon' or 'monday', or a list of them"
    )


def _day_of_month(day: object) -> str:
    if day == "last":
        return "L"
    if isinstance(day, bool) or not isinstance(day, int) or not 1 <= day <= 31:
        raise DefinitionError(f"day {day!r}: give a number from 1 to 31, or 'last'")
    return str(day)
