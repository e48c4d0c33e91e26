"""What fixed and clock-following times mean where the clock is moved, against a simulation of Debian cron."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import debian_cron
from compare_clocks import FIRST_YEAR, LAST_YEAR, compare
from cronqueue.errors import DefinitionError
from cronsched.timezones import check_zone, offsets_fingerprint, transitions, utc_offset
from cronsched.triggers import Cron

# Zone, the day's date, expression, local times on it; ' is the second pass. Read off the Debian daemon.
GOLDEN = [
    ("America/New_York", "2026-03-08", "30 2 * * *", "03:00"),
    ("America/New_York", "2026-03-08", "0 1-3 * * *", "01:00 03:00"),
    (
        "America/New_York",
        "2026-03-08",
        "0 */2 * * *",
        "00:00 04:00 06:00 08:00 10:00 12:00 14:00 16:00 18:00 20:00 22:00",
    ),
    ("America/New_York", "2026-03-08", "*/15 2 * * *", ""),
    ("America/New_York", "2026-11-01", "30 1 * * *", "01:30"),
    ("America/New_York", "2026-11-01", "0 1-3 * * *", "01:00 02:00 03:00"),
    ("America/New_York", "2026-11-01", "*/30 1 * * *", "01:00 01:30 01:00' 01:30'"),
    ("Europe/London", "2026-03-29", "30 1 * * *", "02:00"),
    ("Europe/London", "2026-03-29", "0 1-3 * * *", "02:00 03:00"),
    ("Europe/London", "2026-10-25", "30 1 * * *", "01:30"),
    ("Australia/Lord_Howe", "2026-10-04", "0 1-3 * * *", "01:00 02:30 03:00"),
    ("Australia/Lord_Howe", "2026-10-04", "15 2 * * *", "02:30"),
    ("Australia/Lord_Howe", "2026-04-05", "30 1 * * *", "01:30"),
    ("Australia/Lord_Howe", "2026-04-05", "*/15 2 * * *", "02:00 02:15 02:30 02:45"),
    (
        "Australia/Lord_Howe",
        "2026-04-05",
        "*/20 1,2,3 * * *",
        "01:00 01:20 01:40 01:40' 02:00 02:20 02:40 03:00 03:20 03:40",
    ),
    ("America/Sao_Paulo", "2018-11-04", "0 0 * * *", "01:00"),
    ("America/Sao_Paulo", "2018-02-17", "30 23 * * *", "23:30"),
    ("Africa/Casablanca", "2026-02-15", "30 2 * * *", "02:30"),
    ("Africa/Casablanca", "2026-02-15", "*/30 2 * * *", "02:00 02:30 02:00' 02:30'"),
    ("Africa/Casablanca", "2026-03-22", "30 2 * * 0", "03:00"),
    # A day that the calendar leaves out is a new clock: nothing is made up for.
    ("Pacific/Apia", "2011-12-30", "0 12 * * *", ""),
    ("Pacific/Apia", "2011-12-31", "0 12 * * *", "12:00"),
    ("Pacific/Apia", "2011-12-31", "0 0 * * *", "00:00"),
]


@pytest.mark.parametrize(("tz", "day", "expression", "expected"), GOLDEN)
def test_a_day_on_which_the_clock_moves_has_these_times(
    tz: str, day: str, expression: str, expected: str
) -> None:
    noon = datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC)
    found = Cron(expression, tz).between(noon - timedelta(days=2), noon + timedelta(days=2))
    local = [instant.astimezone(ZoneInfo(tz)) for instant in found]
    shown = [f"{one:%H:%M}{chr(39) * one.fold}" for one in local if f"{one:%Y-%m-%d}" == day]
    # A zone's fold is set where a clock shows a time again.
    assert " ".join(shown) == expected


def _sample(seed: int) -> Iterator[tuple[str, datetime]]:
    """Zones and changes of their clocks, the same ones in every run. `make oracle` takes them all."""
    draw = random.Random(seed)
    zones = [*debian_cron.zone_names(), *ODD_ZONES * 3]
    while True:
        tz, year = draw.choice(zones), draw.randint(FIRST_YEAR, LAST_YEAR)
        for change in debian_cron.clock_changes(tz, year, year):
            yield tz, change


# Moves by half an hour, two hours, three hours, a day, at midnight and at one minute past it, twice a year.
ODD_ZONES = (
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "America/Caracas",
    "Asia/Pyongyang",
    "Asia/Colombo",
    "Pacific/Apia",
    "America/St_Johns",
)


@pytest.mark.parametrize("seed", range(4))
def test_the_times_around_a_move_are_those_of_debian_cron(seed: int) -> None:
    for number, (tz, change) in enumerate(islice(_sample(seed), 10)):
        assert compare(tz, change, dense=number == seed == 0).differences == ()


def _golden_cases() -> list[tuple[str, str, str, list[str]]]:
    """Zone, day in UTC, expression, and the minutes of that day and the next at which it runs."""
    lines = Path(__file__).with_name("clock_changes.txt").read_text("utf-8").splitlines()
    cases = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [(tz, day, text, minutes.replace("-", "").split()) for tz, day, text, minutes in cases]


def test_every_golden_minute_is_met() -> None:
    for tz, day, expression, minutes in _golden_cases():
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        found = Cron(expression, tz).between(start, start + timedelta(days=2))
        shown = [f"{one:%dT%H:%M}" for one in found]
        assert (tz, day, expression, shown) == (tz, day, expression, minutes)


def test_a_fixed_time_in_a_gap_is_left_out_when_told_so() -> None:
    day = _day("America/New_York", 2026, 3, 8)
    assert list(Cron("30 2 * * *", "America/New_York", dst_gap="skip").between(*day)) == []


@pytest.mark.parametrize(
    ("knob", "expected"), [("first", ["05:30"]), ("last", ["06:30"]), ("both", ["05:30", "06:30"])]
)
def test_a_fixed_time_in_an_overlap_runs_in_the_pass_that_is_chosen(
    knob: str, expected: list[str]
) -> None:
    cron = Cron("30 1 * * *", "America/New_York", dst_overlap=knob)  # type: ignore[arg-type]
    assert [
        f"{one:%H:%M}" for one in cron.between(*_day("America/New_York", 2026, 11, 1))
    ] == expected


@pytest.mark.parametrize("knob", ["first", "last", "both"])
def test_hours_that_follow_the_clock_are_not_touched_by_the_knobs(knob: str) -> None:
    cron = Cron("0 * * * *", "America/New_York", dst_gap="skip", dst_overlap=knob)  # type: ignore[arg-type]
    assert len(list(cron.between(*_day("America/New_York", 2026, 11, 1)))) == 25


def test_seconds_do_not_change_the_class_of_an_expression() -> None:
    day = _day("America/New_York", 2026, 11, 1)
    assert len(list(Cron("*/20 30 1 * * *", "America/New_York").between(*day))) == 3


def test_several_fixed_times_in_a_gap_run_once_at_its_end() -> None:
    day = _day("Europe/London", 2026, 3, 29)
    times = [f"{one:%H:%M}" for one in Cron("0,20,40 1 * * *", "Europe/London").between(*day)]
    assert times == ["01:00"]  # UTC


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Lonon", "did you mean 'Europe/London'?"),
        ("europe/london", "did you mean 'Europe/London'?"),
        ("London", "did you mean 'Europe/London'?"),
        ("new york", "did you mean 'America/New_York'?"),
        ("Xyzzy", 'names are like "Europe/London" or "UTC"'),
        ("../etc/passwd", 'names are like "Europe/London" or "UTC"'),
        ("Europe", "is not a known time zone"),
        ("localtime", "depends on the host"),
        ("", "give the name of a zone"),
        (3, "give the name of a zone"),
    ],
)
def test_a_zone_that_is_not_one_is_refused_with_the_nearest_name(name: object, hint: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_zone(name)
    assert hint in str(caught.value)
    assert repr(name) in str(caught.value)


def test_a_zone_may_be_given_as_an_object() -> None:
    assert check_zone(ZoneInfo("Asia/Tokyo")) == "Asia/Tokyo"


def test_moves_of_the_clock_are_found_to_the_second() -> None:
    year = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)
    assert [change.at for change in transitions("Europe/London", *year)] == [
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 10, 25, 1, tzinfo=UTC),
    ]


def test_the_fingerprint_of_a_zone_follows_its_offsets_and_nothing_else() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    paris = offsets_fingerprint("Europe/Paris", start, end)
    assert paris == offsets_fingerprint("Europe/Berlin", start, end)
    assert paris != offsets_fingerprint("Europe/London", start, end)
    assert utc_offset("Europe/Paris", start) == timedelta(hours=1)


def _day(tz: str, *date: int) -> tuple[datetime, datetime]:
    midnight = datetime(*date, tzinfo=ZoneInfo(tz))  # type: ignore[misc,arg-type]
    return midnight.astimezone(UTC), (midnight + timedelta(days=1)).astimezone(UTC)
