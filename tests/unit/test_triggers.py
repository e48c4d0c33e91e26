"""Triggers: the same instants wherever a search begins and however a range is cut."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronqueue.errors import DefinitionError
from cronsched.apscheduler_triggers import ApsCalendar, ApsCron
from cronsched.triggers import (
    Bounded,
    Cron,
    Every,
    Meeting,
    Once,
    SearchExhausted,
    Trigger,
    Union,
    cron_trigger,
    next_after,
    trigger_from_spec,
    zone_of,
)

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)

# One of each kind, in zones and at times whose clock moves.
TRIGGERS: list[Trigger] = [
    Cron("*/20 1-3 * * *", "America/New_York"),
    Cron("30 1,2 * * *", "Europe/London", dst_overlap="last"),
    Cron("0,30 2 * * *", "Australia/Lord_Howe", dst_gap="skip", dst_overlap="both"),
    Cron("*/7 10 */4 1 * sun"),
    Cron("H H(0-3) * * *", "Africa/Casablanca", hash_name="some.name"),
    Every(5_000),
    Every(86_400, datetime(2031, 5, 5, 5, 5, 5, tzinfo=UTC)),
    Once((NEW_YEAR, datetime(2026, 3, 8, 7, tzinfo=UTC))),
    Union((Cron("0 */2 * * *", "Europe/London"), Every(7_200), Cron("5 1 * * *", "Europe/Paris"))),
    Meeting((Cron("0 * * * *"), Every(5_400))),
    Bounded(Every(600), datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ApsCron(("*", "*", "*", "*", "sun", "1-2", "*/30", "0"), "America/New_York"),
    ApsCron(("*", "*", "*", "*", "*", "1,2", "30", "0"), "Europe/London"),
    ApsCalendar(date(2025, 1, 31), 1, 0, time(2, 30), "America/New_York"),
    ApsCalendar(date(2024, 3, 3), 0, 7, time(1, 30), "Europe/London"),
]
INTERESTING_DAYS = [
    datetime(2026, 3, 8, tzinfo=UTC),
    datetime(2026, 3, 29, tzinfo=UTC),
    datetime(2026, 4, 4, tzinfo=UTC),
    datetime(2026, 10, 3, tzinfo=UTC),
    datetime(2026, 10, 25, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 2, 15, tzinfo=UTC),
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(TRIGGERS),
    st.sampled_from(INTERESTING_DAYS),
    st.integers(0, 86_400),
    st.integers(0, 60 * 3_600),
    st.integers(0, 60 * 3_600),
)
def test_a_range_has_the_same_instants_however_it_is_cut(
    trigger: Trigger, day: datetime, into: int, first: int, second: int
) -> None:
    start = day + timedelta(seconds=into)
    cut, end = start + timedelta(seconds=first), start + timedelta(seconds=first + second)
    whole = list(trigger.between(start, end))
    assert list(trigger.between(start, cut)) + list(trigger.between(cut, end)) == whole


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TRIGGERS), st.sampled_from(INTERESTING_DAYS), st.integers(0, 2 * 86_400))
def test_the_next_instant_does_not_depend_on_where_the_search_begins(
    trigger: Trigger, day: datetime, into: int
) -> None:
    moment = day + timedelta(seconds=into)
    instants = trigger.between(day - timedelta(days=1), moment + timedelta(days=400))
    expected = next((one for one in instants if one > moment), None)
    if expected is not None:
        assert next_after(trigger, moment) == expected


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_instants_are_aware_utc_whole_seconds_and_ascend(trigger: Trigger) -> None:
    found = list(islice(trigger.between(NEW_YEAR, NEW_YEAR + timedelta(days=800)), 500))
    assert found
    assert all(one.tzinfo is UTC and not one.microsecond for one in found)
    assert found == sorted(set(found))


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_trigger_is_rebuilt_from_its_spec_by_way_of_json(trigger: Trigger) -> None:
    assert trigger_from_spec(json.loads(json.dumps(trigger.spec()))) == trigger


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_every_trigger_says_in_words_what_it_does(trigger: Trigger) -> None:
    words = trigger.describe()
    assert words
    assert "object at 0x" not in words


def test_a_range_begins_with_its_start_and_ends_before_its_end() -> None:
    hour = timedelta(hours=1)
    assert list(Cron("0 * * * *").between(NEW_YEAR, NEW_YEAR + hour)) == [NEW_YEAR]
    assert list(Every(3_600).between(NEW_YEAR, NEW_YEAR + hour)) == [NEW_YEAR]
    nearly = NEW_YEAR + timedelta(microseconds=1)
    assert list(Every(3_600).between(nearly, nearly + hour)) == [NEW_YEAR + hour]
    assert list(Cron("0 * * * *").between(nearly, nearly + hour)) == [NEW_YEAR + hour]
    assert list(Cron("0 * * * *").between(NEW_YEAR, NEW_YEAR)) == []


def test_an_interval_is_elapsed_time_whatever_the_clock_does() -> None:
    start = datetime(2026, 3, 7, tzinfo=UTC)
    found = list(Every(86_400).between(start, start + timedelta(days=4)))
    assert found == [start + timedelta(days=day) for day in range(4)]


def test_an_interval_counts_from_its_anchor_in_both_directions() -> None:
    every = Every(100, NEW_YEAR + 7 * SECOND)
    assert next_after(every, NEW_YEAR) == NEW_YEAR + 7 * SECOND
    assert next_after(every, NEW_YEAR - 95 * SECOND) == NEW_YEAR - 93 * SECOND


@pytest.mark.parametrize("seconds", [0, -5])
def test_an_interval_below_a_second_is_refused(seconds: int) -> None:
    with pytest.raises(DefinitionError, match="at least one"):
        Every(seconds)


def test_a_naive_anchor_is_refused_with_the_fix() -> None:
    with pytest.raises(DefinitionError, match="tzinfo=UTC"):
        Every(60, datetime(2026, 1, 1))  # noqa: DTZ001


def test_what_two_triggers_of_a_union_share_comes_once() -> None:
    union = Union((Every(3_600), Every(1_800)))
    assert len(list(union.between(NEW_YEAR, NEW_YEAR + timedelta(hours=2)))) == 4


def test_rules_that_never_meet_end_their_search_with_a_message() -> None:
    never = Meeting((Cron("0 * * * *"), Cron("30 * * * *")))
    with pytest.raises(SearchExhausted, match=r"do not meet .* write one rule"):
        next_after(never, NEW_YEAR)
    # Within a short range there is an answer: none.
    assert list(never.between(NEW_YEAR, NEW_YEAR + timedelta(days=2))) == []


def test_bounds_belong_to_the_range() -> None:
    bounded = Bounded(Every(60), NEW_YEAR, NEW_YEAR + timedelta(minutes=2))
    found = list(bounded.between(NEW_YEAR - timedelta(days=1), NEW_YEAR + timedelta(days=1)))
    assert found == [NEW_YEAR + minute * 60 * SECOND for minute in range(3)]


def test_the_next_instant_is_strictly_later() -> None:
    assert next_after(Cron("0 0 * * *"), NEW_YEAR) == NEW_YEAR + timedelta(days=1)
    assert next_after(Cron("0 0 * * *"), NEW_YEAR - timedelta(microseconds=1)) == NEW_YEAR
    assert next_after(Once((NEW_YEAR,)), NEW_YEAR) is None
    with pytest.raises(DefinitionError, match="says no zone"):
        next_after(Every(1), datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_leap_day_is_found_across_eight_years() -> None:
    asked = datetime(2096, 3, 1, tzinfo=UTC)
    assert next_after(Cron("0 0 29 2 *"), asked) == datetime(2104, 2, 29, tzinfo=UTC)


def test_a_long_range_is_computed_only_as_far_as_it_is_read() -> None:
    forever = Cron("* * * * * *", "Europe/London").between(
        NEW_YEAR, datetime(9000, 1, 1, tzinfo=UTC)
    )
    assert len(list(islice(forever, 1_000))) == 1_000


def test_a_zone_in_front_of_the_expression_counts() -> None:
    cron = cron_trigger("CRON_TZ=Asia/Tokyo 0 9 * * *", default_tz="Europe/Paris")
    assert (cron.tz, zone_of(Union((Every(60), cron)))) == ("Asia/Tokyo", "Asia/Tokyo")
    assert next_after(cron, NEW_YEAR) == NEW_YEAR + timedelta(days=1)
    assert cron_trigger("0 9 * * *", default_tz="Europe/Paris").tz == "Europe/Paris"


def test_two_different_zones_for_one_expression_are_refused() -> None:
    with pytest.raises(DefinitionError, match="keep one of them"):
        cron_trigger("CRON_TZ=Asia/Tokyo 0 9 * * *", tz="UTC")
    assert cron_trigger("CRON_TZ=Asia/Tokyo 0 9 * * *", tz="Asia/Tokyo").tz == "Asia/Tokyo"


@pytest.mark.parametrize(
    ("knob", "choices"),
    [("dst_gap", "'shift', 'skip'"), ("dst_overlap", "'first', 'last', 'both'")],
)
def test_a_knob_has_the_positions_that_its_message_names(knob: str, choices: str) -> None:
    with pytest.raises(DefinitionError, match=f"{knob} 'sideways': choose one of {choices}"):
        Cron("* * * * *", **{knob: "sideways"})  # type: ignore[arg-type]


def test_a_name_that_no_field_is_drawn_from_is_no_part_of_the_rule() -> None:
    assert Cron("0 0 * * *", hash_name="a") == Cron("0  0 * * *", hash_name="b")
    assert Cron("H 0 * * *", hash_name="a") != Cron("H 0 * * *", hash_name="b")


def test_a_stored_trigger_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DefinitionError, match="'moon' is not known to this release"):
        trigger_from_spec({"kind": "moon"})


def test_a_trigger_is_anything_with_the_three_methods() -> None:
    assert list(Union((_Noon(),)).between(NEW_YEAR, NEW_YEAR + timedelta(days=1))) == [
        NEW_YEAR.replace(hour=12)
    ]


@dataclass(frozen=True)
class _Noon:
    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        yield start.replace(hour=12)

    def spec(self) -> dict[str, object]:
        return {}

    def describe(self) -> str:
        return "noon"
