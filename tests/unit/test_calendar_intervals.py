"""Calendar intervals: dates counted from an anchor, at times that the clock shows."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any

import pytest

from cronqueue.errors import DefinitionError
from cronsched.calendar_intervals import CalendarEvery
from cronsched.triggers import next_after

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
SIX = (time(6),)


def dates(trigger: CalendarEvery, count: int = 5, start: datetime = NEW_YEAR) -> list[str]:
    found = islice(trigger.between(start, start + timedelta(days=20_000)), count)
    return [f"{one:%Y-%m-%d}" for one in found]


def test_the_last_day_of_a_short_month_stands_for_the_missing_one() -> None:
    monthly = CalendarEvery(date(2024, 1, 31), months=1, days=0, at=SIX)
    # Counted from the anchor: February does not make March end on the 28th.
    expected = ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert dates(monthly) == expected


def test_short_months_are_left_out_when_told_so() -> None:
    monthly = CalendarEvery(date(2024, 1, 31), months=1, days=0, at=SIX, month_end="skip")
    assert dates(monthly) == ["2026-01-31", "2026-03-31", "2026-05-31", "2026-07-31", "2026-08-31"]


def test_a_leap_day_has_its_turn_on_the_28th_or_every_fourth_year() -> None:
    clamped = CalendarEvery(date(2024, 2, 29), months=12, days=0, at=SIX)
    assert dates(clamped, 3) == ["2026-02-28", "2027-02-28", "2028-02-29"]
    skipped = CalendarEvery(date(2024, 2, 29), months=12, days=0, at=SIX, month_end="skip")
    assert dates(skipped, 3) == ["2028-02-29", "2032-02-29", "2036-02-29"]


def test_the_count_goes_from_the_anchor_in_both_directions() -> None:
    for anchor in (date(2001, 2, 15), date(2026, 2, 15), date(2030, 2, 15)):
        quarterly = CalendarEvery(anchor, months=3, days=0, at=SIX)
        assert dates(quarterly, 3) == ["2026-02-15", "2026-05-15", "2026-08-15"]
    for anchor in (date(2026, 1, 6), date(2026, 1, 6) - timedelta(700), date(2026, 1, 20)):
        fortnightly = CalendarEvery(anchor, months=0, days=14, at=SIX)
        assert dates(fortnightly, 3) == ["2026-01-06", "2026-01-20", "2026-02-03"]


def test_the_clock_of_the_zone_says_when_and_the_rule_for_moved_clocks_holds() -> None:
    weekly = CalendarEvery(date(2026, 3, 1), 0, 7, (time(2, 30),), "America/New_York")
    start = datetime(2026, 3, 1, tzinfo=UTC)
    found = [f"{one:%d %H:%M}" for one in weekly.between(start, start + timedelta(days=20))]
    assert found == ["01 07:30", "08 07:00", "15 06:30"]


def test_several_times_of_the_day_come_in_order() -> None:
    daily = CalendarEvery(date(2026, 1, 1), 0, 1, (time(19), time(7, 30), time(19)))
    found = daily.between(NEW_YEAR, NEW_YEAR + timedelta(days=1))
    assert [f"{one:%H:%M}" for one in found] == ["07:30", "19:00"]


def test_the_end_of_the_calendar_ends_the_search() -> None:
    rule = CalendarEvery(date(2026, 1, 1), months=1, days=0, at=SIX)
    assert next_after(rule, datetime(9998, 12, 30, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"months": 1, "days": 0},
            "every month counted from 2026-01-31 at 06:00, in a shorter month",
        ),
        ({"months": 24, "days": 0}, "every 2 years counted from"),
        ({"months": 0, "days": 14}, "every 2 weeks counted from 2026-01-31 at 06:00 (UTC)"),
        ({"months": 0, "days": 10}, "every 10 days counted from"),
    ],
)
def test_an_interval_says_in_words_what_it_does(values: dict[str, Any], words: str) -> None:
    assert CalendarEvery(date(2026, 1, 31), at=SIX, **values).describe().startswith(words)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"months": 0, "days": 0}, "give weeks and days, or months and years"),
        ({"months": 1, "days": 1}, "give weeks and days, or months and years"),
        ({"months": 1, "days": -1}, "give weeks and days, or months and years"),
        ({"months": 12 * 41, "days": 0}, "at most 40 years"),
        ({"months": 0, "days": 10**9}, "at most 40 years"),
        ({"months": 1, "days": 0, "at": ()}, "at is empty"),
        ({"months": 1, "days": 0, "month_end": "last"}, "choose one of 'clamp', 'skip'"),
        ({"months": 1, "days": 0, "tz": "Mars"}, "not a known time zone"),
    ],
)
def test_an_interval_that_cannot_be_is_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DefinitionError, match=complaint):
        CalendarEvery(**{"anchor": date(2026, 1, 31), "at": SIX, **values})
