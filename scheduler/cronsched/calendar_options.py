"""Excluded times as people write them, read into calendars; every fault is told with its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time
from pathlib import Path

from cronqueue.errors import DefinitionError
from cronsched.calendars import Calendar
from cronsched.clocktimes import time_of_day, weekday
from cronsched.cronfields import WEEKDAYS
from cronsched.ical_files import read_ical

_MOST_NAME = 100


def make_calendar(
    name: object,
    *,
    dates: object = (),
    weekdays: object = (),
    windows: object = (),
    cron: object = (),
    ical: Path | None = None,
) -> Calendar:
    """A calendar of everything that is given; raises DefinitionError."""
    if not isinstance(name, str) or not name.strip() or len(name) > _MOST_NAME:
        raise DefinitionError(
            f"calendar {name!r}: give a name of 1 to {_MOST_NAME} characters, such as 'holidays'"
        )
    try:
        listed, events = ([], []) if ical is None else read_ical(ical)
        made = Calendar(
            name,
            dates=(*map(_date, _several(dates)), *listed),
            weekdays=tuple(map(_weekday, _several(weekdays))),
            windows=tuple(map(_window, _several(windows))),
            crons=tuple(map(_cron, _several(cron))),
            events=tuple(events),
        )
    except DefinitionError as error:
        raise DefinitionError(f"calendar {name!r}: {error}") from None
    if made == Calendar(name):
        raise DefinitionError(
            f"calendar {name!r} excludes nothing: give dates, weekdays, windows, cron or ical"
        )
    return made


def read_exclude(what: str, value: object) -> tuple[Calendar, ...]:
    """`exclude=`: calendars, dates and weekdays, one or a list of them; raises DefinitionError."""
    items = _several(value)
    calendars = [item for item in items if isinstance(item, Calendar)]
    loose = [item for item in items if not isinstance(item, Calendar)]
    weekdays = [item for item in loose if isinstance(item, str) and item[:1].isalpha()]
    dates = [item for item in loose if item not in weekdays]
    if not items:
        raise DefinitionError(f"{what} is empty: give a calendar, a date or a weekday")
    try:
        if loose:
            shown = ", ".join(str(item) for item in loose[:3]) + (" ..." if loose[3:] else "")
            calendars.append(make_calendar(shown[:_MOST_NAME], dates=dates, weekdays=weekdays))
    except DefinitionError as error:
        raise DefinitionError(f"{what}: {error}") from None
    return tuple(calendars)


def _several(value: object) -> list[object]:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return list(value)
    return [value]


def _date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise DefinitionError(f'{value!r}: give a date such as "2026-12-25" or date(2026, 12, 25)')


def _weekday(value: object) -> str:
    return WEEKDAYS[weekday(value, "weekday")][:3]


def _window(value: object) -> tuple[time, time]:
    start, dash, end = value.partition("-") if isinstance(value, str) else ("", "", "")
    if not dash:
        raise DefinitionError(f'window {value!r}: give two times such as "22:00-06:00"')
    opens, closes = (time(*time_of_day(text.strip(), "window")) for text in (start, end))
    if opens == closes:
        raise DefinitionError(f"window {value!r}: it ends when it begins")
    return opens, closes


def _cron(value: object) -> str:
    if not isinstance(value, str):
        raise DefinitionError(f"cron {value!r} is not a text")
    return " ".join(value.split())
