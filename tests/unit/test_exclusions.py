"""Exclusion calendars: what they leave out, and where it goes instead."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import islice

import pytest

from cronqueue.errors import DefinitionError
from cronsched.calendars import Calendar
from cronsched.exclusions import Excluding, OnExcluded, excluding
from cronsched.triggers import Cron, Every, Once, SearchExhausted, Trigger, next_after

# 2026-01-01 is a Thursday.
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEKEND = Calendar("weekends", weekdays=("sat", "sun"))
HOLIDAYS = Calendar("holidays", dates=(date(2026, 1, 1), date(2026, 1, 5)))
NIGHTS = Calendar("nights", windows=((time(22), time(6)),))


def times(
    trigger: Trigger,
    *calendars: Calendar,
    tz: str = "UTC",
    on: OnExcluded = "skip",
    start: datetime = NEW_YEAR,
    days: int = 7,
) -> list[str]:
    rule = Excluding(trigger, calendars, tz, on)
    return [f"{one:%d %H:%M}" for one in rule.between(start, start + days * DAY)]


def test_excluded_days_have_no_occurrence() -> None:
    assert times(Cron("30 7 * * *"), WEEKEND, HOLIDAYS) == ["02 07:30", "06 07:30", "07 07:30"]


def test_a_day_is_that_of_the_schedules_clock() -> None:
    # 23:30 UTC on Friday is Saturday morning in Tokyo, 23:30 on Sunday is Monday there.
    late = Cron("30 23 * * *")
    assert times(late, WEEKEND, tz="Asia/Tokyo", days=4) == ["01 23:30", "04 23:30"]


def test_a_window_excludes_from_its_start_to_before_its_end_and_past_midnight() -> None:
    found = times(Cron("0,59 * * * *"), NIGHTS, days=1)
    assert (found[0], found[-1], len(found)) == ("01 06:00", "01 21:59", 32)


def test_a_cron_expression_excludes_the_minutes_that_it_names() -> None:
    lunch = Calendar("lunch", crons=("* 12 * * 1-5",))
    found = times(Every(1_800), lunch, days=3)
    assert [one for one in found if " 12:" in one] == ["03 12:00", "03 12:30"]
    # All seconds of a minute, unless the expression has seconds.
    assert times(Once((NEW_YEAR.replace(hour=12, second=59),)), lunch) == []
    seconds = Calendar("seconds", crons=("0 0 12 * * *",))
    assert (
        len(times(Once((NEW_YEAR.replace(hour=12), NEW_YEAR.replace(hour=12, second=1))), seconds))
        == 1
    )


def test_an_event_excludes_what_lies_in_it_on_its_own_clock_or_the_schedules() -> None:
    noon = NEW_YEAR.replace(hour=12)
    fast = Calendar("fast", events=((noon, noon + timedelta(hours=2)),))
    hourly = Cron("0 10-15 * * *", "Europe/Paris")
    assert times(hourly, fast, tz="Europe/Paris", days=1) == [
        "01 09:00",
        "01 10:00",
        "01 11:00",
        "01 14:00",
    ]
    shown = Calendar(
        "shown", events=((noon.replace(tzinfo=None), noon.replace(tzinfo=None, hour=14)),)
    )
    assert times(hourly, shown, tz="Europe/Paris", days=1) == [
        "01 09:00",
        "01 10:00",
        "01 13:00",
        "01 14:00",
    ]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        # Thursday and Monday are holidays: what is excluded from Saturday to Monday meets on Tuesday.
        ("next_business", ["02 07:30", "06 07:30", "07 07:30"]),
        # New Year goes to 31 December, before this range.
        ("prev_business", ["02 07:30", "06 07:30", "07 07:30"]),
        ("after", ["02 00:00", "02 07:30", "06 00:00", "06 07:30", "07 07:30"]),
    ],
)
def test_what_is_excluded_may_move(on: OnExcluded, expected: list[str]) -> None:
    assert times(Cron("30 7 * * *"), WEEKEND, HOLIDAYS, on=on) == expected


@pytest.mark.parametrize(
    ("on", "expected"), [("next_business", "06"), ("prev_business", "02"), ("after", "06")]
)
def test_the_first_business_day_after_or_before_is_found(on: OnExcluded, expected: str) -> None:
    # The 3rd is a Saturday.
    found = times(Cron("0 9 3 * *"), WEEKEND, HOLIDAYS, on=on)
    assert [one[:2] for one in found] == [expected]


def test_moved_occurrences_come_in_order_between_the_others() -> None:
    mixed = Cron("0 9,17 1,3,5,6 * *")
    on_holidays = times(
        mixed, WEEKEND, HOLIDAYS, on="prev_business", start=NEW_YEAR - 2 * DAY, days=9
    )
    assert on_holidays == ["31 09:00", "31 17:00", "02 09:00", "02 17:00", "06 09:00", "06 17:00"]


def test_what_moves_to_the_end_of_the_excluded_time_comes_once() -> None:
    assert times(Cron("*/10 * * * *"), NIGHTS, on="after", days=1)[:2] == ["01 06:00", "01 06:10"]
    found = times(Cron("7 1,2,3 * * *"), NIGHTS, on="after", days=3)
    assert found == ["01 06:00", "02 06:00", "03 06:00"]


def test_excluded_times_that_join_count_as_one() -> None:
    # From Friday 22:00 through the weekend to Monday 06:00.
    found = times(Once((NEW_YEAR + 2 * DAY,)), NIGHTS, WEEKEND, on="after")
    assert found == ["05 06:00"]


def test_a_business_day_has_the_same_hour_and_a_window_there_leaves_it_out() -> None:
    late = Once((datetime(2026, 1, 3, 23, tzinfo=UTC), datetime(2026, 1, 3, 12, tzinfo=UTC)))
    assert times(late, WEEKEND, NIGHTS, on="next_business") == ["05 12:00"]
    assert times(Cron("0 23 * * *"), NIGHTS, on="next_business") == []


def test_a_moved_occurrence_obeys_the_rule_for_moved_clocks() -> None:
    # Saturday 02:30 moves to Sunday, when New York has no such time.
    saturday = Cron("30 2 * * sat", "America/New_York")
    closed = Calendar("saturdays", weekdays=("sat",))
    start = datetime(2026, 3, 6, tzinfo=UTC)
    found = times(saturday, closed, tz="America/New_York", on="next_business", start=start, days=4)
    assert found == ["08 07:00"]
    # The window ends in the gap: at its end.
    window = Calendar("window", windows=((time(1), time(2, 30)),))
    sunday = Cron("15 1 8 * *", "America/New_York")
    found = times(sunday, window, tz="America/New_York", on="after", start=start, days=4)
    assert found == ["08 07:00"]


def test_a_day_that_the_zone_left_out_is_passed_over() -> None:
    # Samoa had no 30 December 2011.
    window = Calendar("evening", windows=((time(18), time(0)),))
    evening = Cron("0 20 29 12 *", "Pacific/Apia")
    start = datetime(2011, 12, 29, tzinfo=UTC)
    found = times(evening, window, tz="Pacific/Apia", on="after", start=start, days=4)
    assert found == ["30 10:00"]


def test_a_weekly_schedule_on_an_excluded_day_never_comes_and_is_refused() -> None:
    sundays = Cron("0 9 * * sun")
    with pytest.raises(
        DefinitionError, match=r"exclude: at 09:00, only on Sunday .* leave nothing"
    ):
        excluding(sundays, (WEEKEND,), "UTC", "skip", NEW_YEAR)
    assert times(sundays, WEEKEND) == []
    assert next_after(excluding(sundays, (WEEKEND,), "UTC", "after", NEW_YEAR), NEW_YEAR) == (
        NEW_YEAR + 4 * DAY
    )


def test_calendars_that_leave_no_time_at_all_are_refused() -> None:
    work = Calendar("working days", weekdays=("mon", "tue", "wed", "thu", "fri"))
    for on in ("skip", "next_business", "prev_business", "after"):
        with pytest.raises(DefinitionError, match="leave nothing free"):
            excluding(Every(3_600), (WEEKEND, work), "UTC", on, NEW_YEAR)
    with pytest.raises(SearchExhausted):
        next_after(Excluding(Every(3_600), (WEEKEND, work)), NEW_YEAR)
    with pytest.raises(DefinitionError, match="every day of the week"):
        Calendar("all", weekdays=("sat", "sun", "mon", "tue", "wed", "thu", "fri"))


def test_a_dense_schedule_jumps_over_a_long_exclusion() -> None:
    shutdown = Calendar(
        "shutdown", dates=tuple(date(2026, 1, 1) + number * DAY for number in range(300))
    )
    looked_at = _Counted(Every(1))
    found = next_after(Excluding(looked_at, (shutdown,)), NEW_YEAR)
    assert found == NEW_YEAR + 300 * DAY
    assert looked_at.count < 10


class _Counted:
    """A trigger that counts how many of its instants are looked at."""

    def __init__(self, trigger: Trigger) -> None:
        self.trigger, self.count = trigger, 0

    def between(self, start: datetime, end: datetime):  # type: ignore[no-untyped-def]
        for instant in self.trigger.between(start, end):
            self.count += 1
            yield instant

    def spec(self) -> dict[str, object]:
        return self.trigger.spec()

    def describe(self) -> str:
        return self.trigger.describe()


def test_a_rule_says_what_it_keeps_clear_of() -> None:
    rule = Excluding(Cron("30 7 * * *"), (WEEKEND, HOLIDAYS), "UTC", "next_business")
    assert rule.describe() == (
        "at 07:30 (UTC), except weekends, holidays (then on the next business day)"
    )


def test_the_order_in_which_a_calendar_was_written_means_nothing() -> None:
    one = Calendar("c", dates=(date(2026, 1, 2), date(2026, 1, 1)), weekdays=("sun", "sat"))
    other = Calendar(
        "c", dates=(date(2026, 1, 1), date(2026, 1, 2)), weekdays=("sat", "sun", "sat")
    )
    assert one.spec() == other.spec()
    assert Calendar.from_spec(one.spec()) == one


def test_bounds_that_cross_a_range_are_not_looked_at_beyond_it() -> None:
    assert list(islice(Excluding(Every(60), (WEEKEND,)).between(NEW_YEAR, NEW_YEAR), 1)) == []
    with pytest.raises(DefinitionError, match="choose one of 'skip', 'next_business'"):
        Excluding(Every(60), (WEEKEND,), "UTC", "later")  # type: ignore[arg-type]
