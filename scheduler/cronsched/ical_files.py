"""Calendar files (.ics): the events of holiday lists and plant shutdowns, as dates and stretches of time.

Only what such files need is understood; what repeats by a rule is refused rather than read half.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronqueue.errors import DefinitionError
from cronsched.calendars import Stretch
from cronsched.timezones import check_zone

MOST_DATES = 10_000
_PROPERTY = re.compile(
    r'(?P<name>[\w-]+)(?P<parameters>(?:;[\w-]+=(?:"[^"]*"|[^":;]*))*):(?P<value>.*)'
)
_TZID = re.compile(r";TZID=\"?/?(?P<zone>[^\";]+)", re.IGNORECASE)
_REFUSED = {
    "RRULE": "repeats by a rule (RRULE): export the file with single events",
    "RDATE": "repeats (RDATE): export the file with single events",
    "DURATION": "has a DURATION: give it a DTEND",
}


class _Property(NamedTuple):
    name: str
    parameters: str
    value: str
    line: int


def read_ical(path: Path) -> tuple[list[date], list[Stretch]]:
    """The dates of all-day events and the stretches of the others; raises DefinitionError with the line."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"ical {str(path)!r} cannot be read: {error}") from None
    dates: list[date] = []
    events: list[Stretch] = []
    try:
        for event in _events(text):
            start, end = _ends(event)
            if isinstance(start, datetime):
                events.append((start, end))  # type: ignore[arg-type] # both are of one kind
            else:
                dates += (start + timedelta(days) for days in range((end - start).days))
            if len(dates) > MOST_DATES:
                raise ValueError(f"{event['DTSTART'].line}: more than {MOST_DATES} days")
    except ValueError as error:
        raise DefinitionError(f"ical {path}:{error}") from None
    if not dates and not events:
        raise DefinitionError(f"ical {path}: there is no event in it")
    return dates, events


def _events(text: str) -> Iterator[dict[str, _Property]]:
    """The properties of each event; those of parts within it, such as alarms, are left out."""
    event: dict[str, _Property] = {}
    inside: list[str] = []
    for each in _properties(text):
        if each.name == "BEGIN":
            inside.append(each.value.upper())
            event = {} if inside[-1] == "VEVENT" else event
        elif each.name == "END":
            if inside and inside.pop() == "VEVENT" and "DTSTART" in event:
                status = event.get("STATUS")
                if status is None or status.value.upper() != "CANCELLED":
                    yield event
        elif inside[-1:] == ["VEVENT"]:
            if each.name in _REFUSED:
                raise ValueError(f"{each.line}: the event {_REFUSED[each.name]}")
            event[each.name] = each


def _properties(text: str) -> Iterator[_Property]:
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line[:1] in (" ", "\t") and lines:  # a long line goes on
            lines[-1] = lines[-1][0], lines[-1][1] + line[1:]
        else:
            lines.append((number, line))
    for number, line in lines:
        if found := _PROPERTY.fullmatch(line):
            yield _Property(found["name"].upper(), found["parameters"], found["value"], number)


def _ends(event: dict[str, _Property]) -> tuple[date, date]:
    start = _moment(event["DTSTART"])
    if "DTEND" in event:
        end = _moment(event["DTEND"])
    elif isinstance(start, datetime):
        raise ValueError(f"{event['DTSTART'].line}: the event has no DTEND")
    else:
        end = start + timedelta(days=1)
    kinds = {
        (isinstance(one, datetime), getattr(one, "tzinfo", None) is None) for one in (start, end)
    }
    if len(kinds) > 1 or end <= start:
        raise ValueError(f"{event['DTSTART'].line}: the event does not end after its start")
    return start, end


def _moment(given: _Property) -> date:
    """A date, an aware time in UTC, or a naive one where the file says no zone."""
    try:
        if re.fullmatch(r"[0-9]{8}", given.value):
            return datetime.strptime(given.value, "%Y%m%d").date()  # noqa: DTZ007 - a date
        moment = datetime.strptime(given.value.removesuffix("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007
    except ValueError:
        raise ValueError(
            f"{given.line}: {given.value!r} is not a time such as 20261225T090000"
        ) from None
    if given.value.endswith("Z"):
        return moment.replace(tzinfo=UTC)
    zone = _TZID.search(given.parameters)
    if zone is None:
        return moment
    try:
        return moment.replace(tzinfo=ZoneInfo(check_zone(zone["zone"]))).astimezone(UTC)
    except DefinitionError as error:
        raise ValueError(f"{given.line}: {error}") from None
