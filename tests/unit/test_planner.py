"""Planner: what is written ahead, in whatever pieces, and what a changed definition does to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronsched.definition import Definition
from cronsched.planner import (
    LATE_PAUSE,
    LEAST_AHEAD,
    MOST_AHEAD,
    MOST_LATE,
    REMOVED,
    SUPERSEDED,
    Ahead,
    Extension,
    Planned,
    Written,
    extend,
    owed,
    revise,
    upcoming,
)
from cronsched.triggers import Cron, Every, Once, Trigger, Union

NOW = datetime(2026, 3, 28, 3, 4, 5, 678901, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (
    timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days")
)
HORIZON = DAY
HOURLY = Definition(name="h", task="work", trigger=Cron("5 * * * *"))


@dataclass
class Calendar:
    """A schedule's rows as the database would have them, with nothing but the planner behind."""

    definition: Definition
    cursor: datetime
    horizon: timedelta = HORIZON
    rows: dict[datetime, Planned] = field(default_factory=dict)
    refill_at: datetime = NOW
    doubled: int = 0

    def ahead(self, now: datetime) -> Ahead:
        waiting = sorted(each for each in self.rows if now < each <= self.cursor)
        return Ahead(len(waiting), tuple(reversed(waiting[-2:])))

    def top_up(self, now: datetime) -> Extension:
        extension = extend(self.definition, self.cursor, now, self.ahead(now), self.horizon)
        self.doubled += len(self.rows.keys() & {each.planned_for for each in extension.occurrences})
        self.rows |= {each.planned_for: each for each in extension.occurrences}
        self.cursor, self.refill_at = extension.materialized_until, extension.refill_at
        return extension

    def catch_up(self, now: datetime) -> datetime:
        """Passes until what an outage has left out is written; the time after the last of them."""
        while len(self.top_up(now).occurrences) == MOST_LATE and self.cursor <= now:
            now += LATE_PAUSE
        return now


def rule(definition: Definition, after: datetime, until: datetime) -> list[datetime]:
    """The instants in (after, until]."""
    return list(
        definition.occurrences(
            after.replace(microsecond=0) + SECOND, until + timedelta(microseconds=1)
        )
    )


triggers: st.SearchStrategy[Trigger] = st.one_of(
    st.builds(Every, st.sampled_from([1, 7, 60, 90, 3600, 86_399, 900_000])),
    st.sampled_from(
        [
            Cron("5 * * * *"),
            Cron("*/7 * * * *", "Europe/London"),
            Cron("30 1 * * *", "Europe/London"),
            Cron("0 0 1 * *"),
            Cron("0 0 29 2 *"),
            Union((Cron("0 3 * * *"), Cron("0 3,4 * * *"))),
            Once((NOW + HOUR, NOW + 2 * HOUR, NOW + 50 * DAY)),
            Once(()),
        ]
    ),
)
bounds = st.one_of(st.none(), st.integers(-3 * 86_400, 9 * 86_400))
gaps = st.lists(st.floats(0.0, 200_000.0), min_size=1, max_size=5)


@settings(max_examples=50)
@given(triggers, bounds, bounds, st.sampled_from([0, 30, 4000]), gaps)
def test_topped_up_in_any_pieces_the_rows_are_those_of_the_rule(
    trigger: Trigger, start: int | None, length: int | None, jitter: int, gaps: list[float]
) -> None:
    first = None if start is None else (NOW + timedelta(seconds=start)).replace(microsecond=0)
    last = None if length is None else (first or NOW) + timedelta(seconds=abs(length))
    made = replace(HOURLY, trigger=trigger, start=first, end=last, jitter=timedelta(seconds=jitter))
    calendar, now = Calendar(made, NOW), NOW
    # Every second over days is a million rows: such outages are shorter here.
    pace = 0.02 if isinstance(trigger, Every) and trigger.seconds < 60 else 1.0
    for gap in [0.0, *gaps]:
        now = calendar.catch_up(now + timedelta(seconds=gap * pace))
        ahead = calendar.ahead(now).count
        to_come = upcoming(made, now, LEAST_AHEAD)
        assert sorted(calendar.rows) == rule(made, NOW, min(calendar.cursor, now + 9 * 366 * DAY))
        assert {each.planned_for for each in to_come} <= calendar.rows.keys()
        assert ahead <= MOST_AHEAD
        assert calendar.cursor >= now + HORIZON or ahead == MOST_AHEAD
        assert calendar.refill_at > now
    assert calendar.doubled == 0
    instants = sorted(calendar.rows)
    for instant, following in pairwise(instants):
        assert calendar.rows[instant].run_at == made.run_at(instant, following)


@given(triggers, st.lists(st.integers(0, 200), min_size=1, max_size=6))
def test_a_pass_at_the_refill_time_comes_before_a_tenth_is_used_up(
    trigger: Trigger, late: list[int]
) -> None:
    calendar = Calendar(replace(HOURLY, trigger=trigger), NOW)
    now = NOW
    for seconds in late:
        calendar.top_up(now)
        reach = min(HORIZON, calendar.cursor - now)
        assert calendar.cursor - calendar.refill_at >= min(
            reach * 0.9 - timedelta(microseconds=2), reach - SECOND
        )
        now = calendar.refill_at + timedelta(seconds=seconds)
        if now > NOW + 40 * 366 * DAY:
            return


def test_the_horizon_is_the_outage_that_nobody_notices() -> None:
    calendar = Calendar(HOURLY, NOW)
    calendar.top_up(NOW)
    assert len(calendar.rows) == 24
    late = rule(HOURLY, NOW, NOW + 24 * HOUR)
    assert late == sorted(calendar.rows)


def test_after_a_longer_outage_all_of_it_is_written_late() -> None:
    calendar = Calendar(replace(HOURLY, trigger=Every(60)), NOW)
    calendar.top_up(NOW)
    back = NOW + 3 * DAY
    assert len(calendar.top_up(back).occurrences) == MOST_LATE
    assert calendar.refill_at == back + LATE_PAUSE
    assert calendar.catch_up(back + LATE_PAUSE) - back < MINUTE
    assert sorted(calendar.rows) == rule(calendar.definition, NOW, calendar.cursor)


def test_a_schedule_that_has_ended_is_left_in_peace() -> None:
    calendar = Calendar(replace(HOURLY, end=NOW + 3 * HOUR), NOW)
    calendar.top_up(NOW)
    assert len(calendar.rows) == 3
    assert calendar.refill_at > NOW + 365 * DAY
    assert calendar.top_up(NOW + 5 * HOUR).occurrences == ()


def test_a_schedule_that_begins_later_than_the_horizon_shows_its_first_two() -> None:
    start = (NOW + 90 * DAY).replace(microsecond=0)
    calendar = Calendar(replace(HOURLY, start=start), NOW)
    calendar.top_up(NOW)
    assert sorted(calendar.rows) == rule(calendar.definition, start - HOUR, start + 2 * HOUR)[:2]


def test_a_clock_that_jumps_back_doubles_nothing() -> None:
    calendar = Calendar(HOURLY, NOW)
    calendar.top_up(NOW)
    calendar.top_up(NOW - 3 * DAY)
    calendar.top_up(NOW + 3 * HOUR)
    assert calendar.doubled == 0
    assert sorted(calendar.rows) == rule(HOURLY, NOW, calendar.cursor)


def test_what_a_schedule_owes_is_what_lies_between_its_cursor_and_now() -> None:
    made = replace(HOURLY, jitter=10 * MINUTE)
    found = list(owed(made, NOW - 5 * HOUR, NOW))
    assert [each.planned_for for each in found] == rule(made, NOW - 5 * HOUR, NOW)
    assert found == [
        *upcoming(made, NOW - 5 * HOUR, len(found)),
    ]
    assert list(owed(made, NOW + HOUR, NOW)) == []
    assert list(owed(replace(made, end=NOW - DAY), NOW - 5 * HOUR, NOW)) == []


# What a changed definition does.


def as_written(planned: Planned, job_id: int = 1, **values: object) -> Written:
    plain = Written(planned.planned_for, None, job_id, "queued", 0, planned.run_at, pinned=False)
    return replace(plain, **values)  # type: ignore[arg-type]


def stored(definition: Definition = HOURLY, **values: object) -> list[Written]:
    rows = extend(definition, NOW, NOW, Ahead(), HORIZON).occurrences
    return [as_written(each, number, **values) for number, each in enumerate(rows)]


HALF_PAST = replace(HOURLY, trigger=Cron("35 * * * *"))
EVEN = replace(HOURLY, trigger=Cron("5 */2 * * *"))


def test_an_instant_that_both_have_keeps_its_row() -> None:
    found = revise(EVEN, stored(), NOW, HORIZON)
    assert found.add == ()
    assert len(found.keep) == len(found.cancel) == 12
    assert all(before.planned_for == after.planned_for for before, after in found.keep)


def test_a_row_of_a_longer_range_stays_if_the_new_rule_has_it() -> None:
    minutely = replace(HOURLY, trigger=Every(60))
    found = revise(minutely, stored(), NOW, HORIZON)
    assert len(found.add) == MOST_AHEAD - 10
    assert len(found.keep) == 24
    assert found.cancel == ()
    assert revise(replace(EVEN, horizon=HOUR), stored(), NOW, HOUR).cancel == tuple(
        each for each in stored() if each.planned_for.hour % 2
    )


def test_a_new_jitter_moves_run_at_and_keeps_the_row() -> None:
    found = revise(replace(HOURLY, jitter=10 * MINUTE), stored(), NOW, HORIZON)
    assert (found.add, found.cancel) == ((), ())
    assert any(before.run_at != after.run_at for before, after in found.keep)


@pytest.mark.parametrize(
    "values",
    [
        {"attempts": 1},
        {"job_state": "running", "attempts": 1},
        {"job_state": "succeeded", "attempts": 1},
        {"job_state": "cancelled", "verdict": "cancelled"},
        {"job_state": None},
        {"pinned": True},
        {"busy": True},
    ],
)
def test_what_started_or_was_decided_stays_and_gets_no_second_row(
    values: dict[str, Any],
) -> None:
    for changed in (HALF_PAST, HOURLY):
        found = revise(changed, stored(**values), NOW, HORIZON)
        assert (found.keep, found.cancel) == ((), ())
        assert len(found.add) == (24 if changed is HALF_PAST else 0)


@pytest.mark.parametrize("verdict", [SUPERSEDED, REMOVED])
@pytest.mark.parametrize("job_state", ["cancelled", None])
def test_what_a_plan_took_back_may_come_again(verdict: str, job_state: str | None) -> None:
    before = stored(verdict=verdict, job_state=job_state)
    assert len(revise(HOURLY, before, NOW, HORIZON).add) == 24


def test_a_disabled_schedule_has_nothing_ahead_and_is_written_anew_when_enabled() -> None:
    off = revise(replace(HOURLY, enabled=False), stored(), NOW, HORIZON)
    assert (off.add, off.keep, len(off.cancel)) == ((), (), 24)
    assert off.refill_at > NOW + 365 * DAY
    on = revise(HOURLY, stored(verdict=SUPERSEDED, job_state="cancelled"), NOW, HORIZON)
    assert len(on.add) == 24
    assert on.refill_at < NOW + HORIZON


@given(triggers, triggers, st.integers(0, 90_000))
def test_after_an_edit_the_rows_are_those_of_the_new_rule(
    first: Trigger, second: Trigger, later: int
) -> None:
    old, new = replace(HOURLY, trigger=first), replace(HOURLY, trigger=second)
    calendar = Calendar(old, NOW)
    calendar.top_up(NOW)
    now = calendar.catch_up(NOW + timedelta(seconds=later if calendar.cursor > NOW + DAY else 0))
    rows = [as_written(each) for at, each in sorted(calendar.rows.items()) if at > now]
    found = revise(new, rows, now, HORIZON)
    left = {each.planned_for for each in rows} - {each.planned_for for each in found.cancel}
    left |= {each.planned_for for each in found.add}
    assert rule(new, now, found.materialized_until) == sorted(
        each for each in left if each <= found.materialized_until
    )
    beyond = sorted(each for each in left if each > found.materialized_until)
    assert all(rule(new, each - SECOND, each) == [each] for each in beyond)
    # From there on it is topped up like any other.
    after = Calendar(
        new, found.materialized_until, rows={each: Planned(each, each, 0) for each in left}
    )
    end = after.catch_up(now + HOUR)
    written = {each for each in after.rows if each <= after.cursor}
    assert written == set(rule(new, now, min(after.cursor, end + 9 * 366 * DAY)))
