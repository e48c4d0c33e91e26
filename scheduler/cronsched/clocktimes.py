"""Hourly, daily, weekly and monthly times as cron triggers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cronqueue.errors import DefinitionError
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
    names = ",".join(str(_weekday(one)) for one in _several(day, "day", "mon"))
    return _at_times(binding, at, f"* * {names}")


def monthly(binding: Binding, day: object, at: object) -> Trigger:
    """Every month on the days `day` (numbers, or "last"), at the times `at`."""
    days = ",".join(_day_of_month(one) for one in _several(day, "day", 'last", or day=1'))
    return _at_times(binding, at, f"{days} * *")


def _at_times(binding: Binding, at: object, days: str) -> Trigger:
    """One expression for the times that share minute and second; several of them are a union."""
    hours: dict[tuple[int, int], set[int]] = {}
    for text in _several(at, "at", "07:30"):
        hour, minute, second = _time(text)
        hours.setdefault((minute, second), set()).add(hour)
    crons = []
    for (minute, second), shared in sorted(hours.items()):
        clock = f"{minute} {','.join(map(str, sorted(shared)))}"
        crons.append(binding.cron(f"{second} {clock} {days}" if second else f"{clock} {days}"))
    return crons[0] if len(crons) == 1 else Union(tuple(crons))


def _several(value: object, what: str, example: str) -> Sequence[object]:
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise DefinitionError(
            f'{what} is an empty list: give at least one, such as {what}="{example}"'
        )
    return values


def _time(text: object) -> tuple[int, int, int]:
    matched = _TIME.fullmatch(text) if isinstance(text, str) else None
    if matched is None:
        raise DefinitionError(f'at {text!r}: give a time as "HH:MM" or "HH:MM:SS", such as "07:30"')
    return int(matched[1]), int(matched[2]), int(matched[3] or 0)


def _weekday(name: object) -> int:
    for index, full in enumerate(WEEKDAYS):
        if isinstance(name, str) and name.lower() in (full, full[:3]):
            return index
    raise DefinitionError(
        f"day {name!r}: give a weekday such as 'mon' or 'monday', or a list of them"
    )


def _day_of_month(day: object) -> str:
    if day == "last":
        return "L"
    if isinstance(day, bool) or not isinstance(day, int) or not 1 <= day <= 31:
        raise DefinitionError(f"day {day!r}: give a number from 1 to 31, or 'last'")
    return str(day)
