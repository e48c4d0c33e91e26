"""Whatever the rule, its occurrences are a function of the rule alone: random rules of every kind."""

import json
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from cronsched.apscheduler_triggers import adopt
from cronsched.calendar_intervals import CalendarEvery
from cronsched.calendars import Calendar
from cronsched.exclusions import Excluding, OnExcluded
from cronsched.triggers import (
    EPOCH,
    Bounded,
    Cron,
    Every,
    Meeting,
    Once,
    OpaqueTrigger,
    SearchExhausted,
    Trigger,
    Union,
    next_after,
    trigger_from_spec,
)

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
# Clocks that move by an hour, by half an hour, at midnight, at one minute past it, twice a year, never.
ZONES = st.sampled_from(
    [
        "America/New_York",
        "Europe/London",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Africa/Casablanca",
        "America/St_Johns",
        "Antarctica/Casey",
        "Pacific/Apia",
        "Asia/Kathmandu",
        "UTC",
    ]
)
# On or about days on which one of those clocks moves.
MOMENTS = st.builds(
    lambda day, seconds: datetime.fromisoformat(day).replace(tzinfo=UTC) + seconds * SECOND,
    st.sampled_from(
        [
            "2026-03-07",
            "2026-03-28",
            "2026-04-04",
            "2026-10-03",
            "2026-10-24",
            "2026-10-31",
            "2026-02-14",
            "2018-02-17",
            "2018-11-03",
            "2009-11-01",
            "2010-03-04",
            "2011-12-29",
            "2026-07-04",
        ]
    ),
    st.integers(0, 2 * 86_400),
)
GAPS, OVERLAPS = st.sampled_from(["shift", "skip"]), st.sampled_from(["first", "last", "both"])
MINUTES = st.sampled_from(["0", "30", "7", "5,35", "*/20", "0-59/10", "H", "H/15"])
HOURS = st.sampled_from(["2", "0", "23", "1-3", "*/2", "*", "0,1,2,3,22,23", "H(0-3)"])
DAYS = st.sampled_from(["*", "*", "*", "1-15", "L", "*/4", "31"])
WEEKDAYS = st.sampled_from(["*", "*", "sun", "1-5", "sat#1", "friL", "*/2"])
TIMES_OF_DAY = st.builds(time, st.integers(0, 23), st.sampled_from([0, 1, 15, 30, 59]))
DATES = st.dates(date(2008, 1, 1), date(2028, 1, 1))

crons = st.builds(
    lambda minute, hour, day, weekday, tz, gap, overlap: Cron(
        f"{minute} {hour} {day} * {weekday}", tz, gap, overlap, hash_name="some.name"
    ),
    MINUTES,
    HOURS,
    DAYS,
    WEEKDAYS,
    ZONES,
    GAPS,
    OVERLAPS,
)
intervals = st.builds(Every, st.integers(600, 200_000), MOMENTS)
steps = st.one_of(
    st.tuples(st.integers(1, 30), st.just(0)), st.tuples(st.just(0), st.integers(1, 30))
)
calendar_intervals = st.builds(
    lambda anchor, step, at, tz, month_end, gap, overlap: CalendarEvery(
        anchor, step[0], step[1], tuple(at), tz, month_end, gap, overlap
    ),
    DATES,
    steps,
    st.lists(TIMES_OF_DAY, min_size=1, max_size=3),
    ZONES,
    st.sampled_from(["clamp", "skip"]),
    GAPS,
    OVERLAPS,
)
lists = st.builds(lambda moments: Once(tuple(moments)), st.lists(MOMENTS, max_size=4))
simple: st.SearchStrategy[Trigger] = st.one_of(crons, intervals, calendar_intervals, lists)

calendars = st.builds(
    lambda dates, weekdays, windows, crons, events: Calendar(
        "closed", tuple(dates), tuple(weekdays), tuple(windows), tuple(crons), tuple(events)
    ),
    st.lists(
        st.builds(lambda moment, days: moment.date() + days * DAY, MOMENTS, st.integers(-2, 3)),
        max_size=6,
    ),
    st.lists(st.sampled_from(["sat", "sun", "mon", "wed"]), max_size=3),
    st.lists(
        st.tuples(TIMES_OF_DAY, TIMES_OF_DAY).filter(lambda ends: ends[0] != ends[1]), max_size=2
    ),
    st.lists(st.sampled_from(["* 1-2 * * *", "*/30 * * * *", "0 * * * sun"]), max_size=1),
    st.lists(
        st.one_of(
            st.builds(
                lambda start, hours: (start, start + hours * HOUR), MOMENTS, st.integers(1, 60)
            ),
            st.builds(
                lambda start, hours: (
                    start.replace(tzinfo=None),
                    start.replace(tzinfo=None) + hours * HOUR,
                ),
                MOMENTS,
                st.integers(1, 60),
            ),
        ),
        max_size=2,
    ),
)


def _leaves_time(calendar: Calendar) -> bool:
    """Whether a day without events that is open as such has a free quarter of an hour."""
    tuesday = datetime(2001, 1, 2, tzinfo=UTC)
    quarters = (tuesday + number * HOUR / 4 for number in range(96))
    return any(not any(calendar.closed(quarter, "UTC")) for quarter in quarters)


calendars = calendars.filter(_leaves_time)
ON_EXCLUDED = st.sampled_from(["skip", "next_business", "prev_business", "after"])


def with_exclusions(triggers: st.SearchStrategy[Trigger]) -> st.SearchStrategy[Trigger]:
    return st.builds(Excluding, triggers, st.tuples(calendars), ZONES, ON_EXCLUDED)


class Tides(BaseTrigger):  # type: ignore[misc]
    """A rule of a user's own."""

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        period = timedelta(minutes=745)
        return EPOCH + ((now - EPOCH) // period + 1) * period


foreign_crons = st.builds(
    lambda minute, hour, weekday, tz: CronTrigger(
        minute=minute, hour=hour, day_of_week=weekday, timezone=tz
    ),
    st.sampled_from(["0", "30", "*/20"]),
    st.sampled_from(["2", "1-3", "*", "23"]),
    st.sampled_from(["*", "sun", "0-4"]),
    ZONES,
)
foreign_intervals = st.one_of(
    st.builds(lambda hours: IntervalTrigger(hours=hours), st.integers(1, 30)),
    st.builds(
        lambda hours, start: IntervalTrigger(hours=hours, start_date=start),
        st.integers(1, 30),
        MOMENTS,
    ),
)
foreign: st.SearchStrategy[Any] = st.one_of(
    foreign_crons,
    foreign_intervals,
    st.builds(DateTrigger, MOMENTS),
    st.builds(
        lambda days, hour, start, tz: CalendarIntervalTrigger(
            days=days, hour=hour, minute=30, start_date=start, timezone=tz
        ),
        st.integers(1, 9),
        st.integers(0, 23),
        DATES,
        ZONES,
    ),
    st.builds(lambda first, second: OrTrigger([first, second]), foreign_crons, foreign_intervals),
    st.builds(
        lambda hour, tz: AndTrigger(
            [CronTrigger(hour=hour, timezone=tz), CronTrigger(hour="*", day="1-20", timezone=tz)]
        ),
        st.integers(0, 23),
        ZONES,
    ),
    st.builds(Tides),
)
adopted = foreign.map(lambda trigger: adopt(trigger, datetime.now(UTC)))

joined = st.one_of(
    st.builds(
        lambda parts: Union(tuple(parts)),
        st.lists(st.one_of(simple, adopted), min_size=1, max_size=3),
    ),
    st.builds(lambda cron, every: Meeting((cron, every)), crons, st.just(Every(3_600))),
    st.builds(
        lambda trigger, start, days: Bounded(trigger, start, start + days * DAY),
        simple,
        MOMENTS,
        st.integers(0, 9),
    ),
)
triggers = st.one_of(simple, joined, adopted, with_exclusions(st.one_of(simple, joined, adopted)))


@settings(max_examples=200, deadline=None)
@given(triggers, MOMENTS, st.lists(st.integers(0, 7 * 86_400), min_size=1, max_size=5))
def test_a_range_has_the_same_occurrences_however_it_is_cut(
    trigger: Trigger, start: datetime, cuts: list[int]
) -> None:
    edges = [start, *(start + seconds * SECOND for seconds in sorted(cuts)), start + 7 * DAY]
    pieces = [list(trigger.between(*piece)) for piece in pairwise(edges)]
    whole = list(trigger.between(start, start + 7 * DAY))
    assert [instant for piece in pieces for instant in piece] == whole


# Calendars that close whole days or most of the night, so that a cut often falls into closed time.
closed_calendars = st.builds(
    lambda dates, weekdays, window: Calendar("closed", tuple(dates), tuple(weekdays), window),
    st.lists(DATES, max_size=3),
    st.lists(st.sampled_from(["sat", "sun", "mon", "wed"]), min_size=1, max_size=3),
    st.sampled_from([(), ((time(22), time(6)),), ((time(1), time(2, 30)), (time(2, 15), time(5)))]),
)


@settings(max_examples=120, deadline=None)
@given(
    st.one_of(crons, calendar_intervals),
    closed_calendars,
    ZONES,
    st.sampled_from(["next_business", "prev_business", "after"]),
    MOMENTS,
)
def test_what_moves_is_the_same_wherever_a_range_is_cut(
    rule: Trigger, calendar: Calendar, tz: str, on_excluded: OnExcluded, start: datetime
) -> None:
    trigger = Excluding(rule, (calendar,), tz, on_excluded)
    whole = list(trigger.between(start, start + 9 * DAY))
    edges = [*(start + number * 11 * HOUR for number in range(20)), start + 9 * DAY]
    pieces = [list(trigger.between(*piece)) for piece in pairwise(edges)]
    assert [instant for piece in pieces for instant in piece] == whole
    assert whole == sorted(set(whole))


@settings(max_examples=200, deadline=None)
@given(triggers, MOMENTS, st.integers(0, 3 * 86_400))
def test_what_comes_next_does_not_depend_on_where_the_search_begins(
    trigger: Trigger, moment: datetime, back: int
) -> None:
    later = trigger.between(moment - back * SECOND, moment + 30 * DAY)
    expected = next((instant for instant in later if instant > moment), None)
    if expected is not None:
        with suppress(
            SearchExhausted
        ):  # it looks further ahead, where two rules may part for half a year
            assert next_after(trigger, moment) == expected


@settings(max_examples=120, deadline=None)
@given(triggers, MOMENTS)
def test_occurrences_ascend_and_survive_storage(trigger: Trigger, start: datetime) -> None:
    found = list(islice(trigger.between(start, start + 30 * DAY), 100))
    assert found == sorted(set(found))
    assert all(one.tzinfo is UTC and not one.microsecond and one >= start for one in found)
    assert trigger.describe()
    stored = trigger_from_spec(json.loads(json.dumps(trigger.spec())))
    assert stored.spec() == trigger.spec()
    with suppress(OpaqueTrigger):  # the user's own, whose answers are known around its loading only
        assert list(islice(stored.between(start, start + 30 * DAY), 100)) == found


@settings(max_examples=100, deadline=None)
@given(simple, calendars, ZONES, MOMENTS)
def test_what_is_excluded_is_left_out_and_nothing_else(
    trigger: Trigger, calendar: Calendar, tz: str, start: datetime
) -> None:
    kept = list(Excluding(trigger, (calendar,), tz).between(start, start + 7 * DAY))
    everything = trigger.between(start, start + 7 * DAY)
    assert kept == [one for one in everything if not any(calendar.closed(one, tz))]
