"""Times as people declare them: each kind, its options, and what is told when it cannot be."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger

import cronsched
from cronqueue.errors import DefinitionError
from cronsched import (
    at_times,
    calendar,
    calendar_every,
    cron,
    daily,
    every,
    hourly,
    monthly,
    on,
    union,
    weekly,
)
from cronsched.collecting import collecting
from cronsched.definition import Definition
from cronsched.loader import load
from cronsched.timing import Timing

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def declared(timing: Timing) -> Definition:
    """The definition as a daemon has it: after a way through the database."""
    with collecting() as collector:
        timing(_task)
    assert collector.faults == []
    (made,) = collector.definitions.values()
    stored = Definition.from_json(made.to_json())
    assert stored == made
    assert stored.timing_hash == made.timing_hash
    return stored


def faults(timing: Callable[[], Timing]) -> str:
    with collecting() as collector:
        try:
            timing()(_task)
        except DefinitionError as error:
            return str(error)
    return "; ".join(str(fault) for fault in collector.faults)


def _task() -> None: ...


def times(timing: Timing, count: int = 3, days: int = 900) -> list[str]:
    found = declared(timing).occurrences(NEW_YEAR, NEW_YEAR + timedelta(days=days))
    return [f"{one:%y-%m-%d %H:%M}" for one in islice(found, count)]


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        (
            calendar_every(weeks=2, at="06:00"),
            ["26-01-05 06:00", "26-01-19 06:00", "26-02-02 06:00"],
        ),
        (calendar_every(months=3), ["26-01-01 00:00", "26-04-01 00:00", "26-07-01 00:00"]),
        (
            calendar_every(years=1, anchor=date(2024, 2, 29)),
            ["26-02-28 00:00", "27-02-28 00:00", "28-02-29 00:00"],
        ),
        (
            calendar_every(
                days=10, at=["12:00", "06:00"], anchor=date(2026, 1, 3), tz="Asia/Tokyo"
            ),
            ["26-01-02 21:00", "26-01-03 03:00", "26-01-12 21:00"],
        ),
        (
            calendar_every(months=1, anchor=date(2026, 1, 31), month_end="skip"),
            ["26-01-31 00:00", "26-03-31 00:00", "26-05-31 00:00"],
        ),
        (monthly(day=31), ["26-01-31 00:00", "26-03-31 00:00", "26-05-31 00:00"]),
        (
            monthly(day=31, month_end="clamp"),
            ["26-01-31 00:00", "26-02-28 00:00", "26-03-31 00:00"],
        ),
        (
            monthly(day=[30, "last"], at="06:00", month_end="clamp"),
            ["26-01-30 06:00", "26-01-31 06:00", "26-02-28 06:00"],
        ),
        (
            at_times(
                [NEW_YEAR.replace(hour=9), datetime(2026, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo"))]
            ),
            ["26-01-01 00:00", "26-01-01 09:00"],
        ),
        (at_times(NEW_YEAR), ["26-01-01 00:00"]),
        (
            union(daily(at="09:00"), every("12h"), hourly(minute=0, start=NEW_YEAR.replace(day=5))),
            ["26-01-01 00:00", "26-01-01 09:00", "26-01-01 12:00"],
        ),
        (
            union(
                weekly(day="thu", at="09:00"), daily(at="09:00", tz="Asia/Tokyo"), tz="Europe/Paris"
            ),
            ["26-01-01 00:00", "26-01-01 08:00", "26-01-02 00:00"],
        ),
        (
            union(on(CronTrigger(hour=5, timezone="UTC")), at_times(NEW_YEAR)),
            ["26-01-01 00:00", "26-01-01 05:00", "26-01-02 05:00"],
        ),
        (
            daily(exclude=["thu", "2026-01-02"]),
            ["26-01-03 00:00", "26-01-04 00:00", "26-01-05 00:00"],
        ),
        (
            cron("0 0 * * *", exclude=date(2026, 1, 1)),
            ["26-01-02 00:00", "26-01-03 00:00", "26-01-04 00:00"],
        ),
        (
            every(
                "12h", exclude=calendar("mornings", windows="00:00-12:00"), tz="America/New_York"
            ),
            ["26-01-01 00:00", "26-01-02 00:00", "26-01-03 00:00"],
        ),
        (
            daily(
                exclude=[calendar("closed", weekdays="thu"), "fri"],
                on_excluded="after",
                start=NEW_YEAR,
            ),
            ["26-01-03 00:00", "26-01-04 00:00", "26-01-05 00:00"],
        ),
        (
            union(
                daily(at="01:00", exclude="thu"),
                daily(at="02:00"),
                exclude=calendar("c", cron="* 2 2 * *"),
            ),
            ["26-01-01 02:00", "26-01-02 01:00", "26-01-03 01:00"],
        ),
    ],
)
def test_each_kind_has_its_times_and_keeps_them_in_the_database(
    timing: Timing, expected: list[str]
) -> None:
    assert times(timing) == expected


# Without its types, which refuse most of this.
loose: Any = cronsched


@pytest.mark.parametrize(
    ("timing", "complaint"),
    [
        (loose.calendar_every, "calendar_every: give weeks and days, or months and years"),
        (
            lambda: loose.calendar_every(days=1, months=1),
            "give weeks and days, or months and years",
        ),
        (lambda: loose.calendar_every(days=-1), "days -1: give a whole number"),
        (lambda: loose.calendar_every(months=1.5), "months 1.5: give a whole number"),
        (lambda: loose.calendar_every(days=1, at="9"), "at '9': give a time as"),
        (
            lambda: loose.calendar_every(days=1, anchor=NEW_YEAR),
            "give a date such as date(2026, 1, 31)",
        ),
        (lambda: loose.calendar_every(months=1, month_end="last"), "choose one of 'clamp', 'skip'"),
        (lambda: loose.monthly(month_end="last"), "choose one of 'clamp', 'skip'"),
        (lambda: loose.at_times([]), "at_times is an empty list"),
        (lambda: loose.at_times("2026-01-01"), "at_times '2026-01-01': give an aware datetime"),
        (lambda: loose.at_times(datetime(2026, 1, 1)), "says no zone"),  # noqa: DTZ001
        (loose.union, "union joins nothing"),
        (lambda: loose.union(hourly), "union takes times such as daily"),
        (
            lambda: loose.union(loose.daily(priority=5, name="x")),
            "priority= says how the job runs: give it to the union",
        ),
        (lambda: loose.union(loose.daily(at="25:00")), "at '25:00': give a time"),
        (lambda: loose.union(loose.every("1h", dst_gap="skip")), "follow no clock"),
        (lambda: loose.daily(on_excluded="skip"), "on_excluded= has no meaning without exclude="),
        (
            lambda: loose.daily(exclude="sat", on_excluded="later"),
            "on_excluded 'later': did you mean 'after'?",
        ),
        (lambda: loose.daily(exclude=[]), "exclude is empty: give a calendar, a date or a weekday"),
        (lambda: loose.daily(exclude="caturday"), "weekday 'caturday': give a weekday"),
        (lambda: loose.daily(exclude="2026-13-01"), 'give a date such as "2026-12-25"'),
        (lambda: loose.daily(exclude=NEW_YEAR), 'give a date such as "2026-12-25"'),
        (lambda: loose.daily(exclude=5), "give a date such as"),
        (lambda: loose.weekly(day="sat", exclude="sat"), "leave nothing free"),
        (lambda: loose.calendar(""), "calendar '': give a name"),
        (lambda: loose.calendar("c"), "calendar 'c' excludes nothing"),
        (lambda: loose.calendar("c", windows="22-6"), "window '22': give a time"),
        (lambda: loose.calendar("c", windows="06:00"), 'give two times such as "22:00-06:00"'),
        (lambda: loose.calendar("c", windows="06:00-06:00"), "it ends when it begins"),
        (lambda: loose.calendar("c", weekdays="mo"), "weekday 'mo': give a weekday"),
        (lambda: loose.calendar("c", cron="61 * * * *"), "61 is not within 0-59"),
        (lambda: loose.calendar("c", cron="H * * * *"), "H is drawn from the schedule's name"),
        (lambda: loose.calendar("c", dates=["x"]), "give a date such as"),
        (lambda: loose.calendar("c", ical="missing.ics"), "cannot be read"),
    ],
)
def test_what_cannot_be_is_told_with_the_remedy(timing: Any, complaint: str) -> None:
    assert complaint in faults(timing)


def test_a_changed_calendar_changes_the_timing_of_its_users_and_nothing_else() -> None:
    before, after = (
        declared(daily(at="07:30", exclude=calendar("closed", dates=dates)))
        for dates in (["2026-12-25"], ["2026-12-25", "2026-12-26"])
    )
    assert before.timing_hash != after.timing_hash
    assert before.payload_hash == after.payload_hash


FILE = """
from cronsched import calendar, daily, weekly

holidays = calendar("holidays", ical="holidays.ics")

@daily(at="07:30", exclude=holidays)
def report() -> None: ...

@weekly(day="thu", at="09:00", exclude=[holidays, "fri"], on_excluded="next_business")
def digest() -> None: ...
"""
ICAL = "BEGIN:VEVENT\nDTSTART;VALUE=DATE:20260101\nEND:VEVENT\n"


def test_a_calendar_file_stands_beside_the_schedules_and_is_part_of_what_they_mean(
    tmp_path: Path,
) -> None:
    (tmp_path / "reports.py").write_text(FILE)
    (tmp_path / "holidays.ics").write_text(ICAL)
    digest, report = (manifest := load(tmp_path)).schedules
    (tmp_path / "holidays.ics").unlink()
    first = [
        next(made.occurrences(NEW_YEAR, NEW_YEAR + timedelta(days=9))) for made in (report, digest)
    ]
    assert [f"{one:%d %H:%M}" for one in first] == ["02 07:30", "03 09:00"]
    assert json.loads(report.to_json())["trigger"]["calendars"] == [
        {"name": "holidays", "dates": ["2026-01-01"]}
    ]
    # Without it the file does not load, and nothing of it changes.
    incomplete = load(tmp_path)
    assert (incomplete.complete, incomplete.schedules, manifest.complete) == (False, (), True)
    assert "holidays.ics' cannot be read" in str(incomplete.faults[0])
    assert incomplete.faults[0].line == 4
