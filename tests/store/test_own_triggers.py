"""Schedules by a trigger class of the user's own: written on from what it answered, asked again in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from apscheduler.triggers.base import BaseTrigger

from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.apscheduler_triggers import adopt
from cronsched.calendars import Calendar
from cronsched.definition import Definition
from cronsched.exclusions import Excluding
from cronsched.health import find_problems
from cronsched.ledger_audit import audit
from cronsched.manifest import Manifest, make_manifest
from cronsched.materializer import top_up
from cronsched.plans import Plan
from cronsched.reconcile import apply, plan
from cronsched.renewing import renew_almanacs, renewal_due
from cronsched.schedule_queries import all_definitions
from cronsched.triggers import EPOCH
from job_rows import NOW, execute, opened, pass_time, query

SETTINGS = Settings()
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class Tides(BaseTrigger):  # type: ignore[misc]
    """Every so many minutes; from a date on otherwise, which nothing about the object tells."""

    otherwise: datetime | None = None

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        period = timedelta(minutes=self.minutes)
        answer = EPOCH + ((now - EPOCH) // period + 1) * period
        late = self.otherwise is not None and answer >= self.otherwise
        return answer + timedelta(seconds=7) if late else answer


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    yield from opened(database_url)


def loaded(database: Database, minutes: int = 60) -> Manifest:
    """What a process that has asked the trigger just now hands over."""
    trigger = adopt(Tides(minutes), database.server_now())
    made = Definition("tides", "t", trigger, source="a.py", line=3)
    return Manifest.from_json(make_manifest([made]).to_json())


def declare(database: Database, minutes: int = 60) -> Plan:
    return apply(database, loaded(database, minutes), SETTINGS)


def planned(database: Database) -> list[datetime]:
    rows = query(
        database,
        "SELECT planned_for FROM sched_occurrences WHERE verdict IS NULL ORDER BY planned_for",
    )
    return [datetime.fromisoformat(str(row[0])) for row in rows]


def revisions(database: Database) -> list[tuple[int, str]]:
    rows = query(database, "SELECT revision, kind FROM sched_revisions ORDER BY revision")
    return [tuple(row) for row in rows]


def hours(first: datetime, count: int) -> list[datetime]:
    start = first.replace(minute=0, second=0, microsecond=0)
    return [start + number * HOUR for number in range(1, count + 1)]


def test_it_is_written_and_written_on_by_those_that_do_not_have_the_object(
    database: Database,
) -> None:
    assert declare(database).faults == ()
    assert planned(database) == hours(NOW, 24)
    pass_time(database, 3 * DAY.total_seconds())
    assert top_up(database, SETTINGS).faults == ()
    assert planned(database) == hours(NOW, 4 * 24)
    now = database.server_now()
    found = audit(database, NOW, now)
    assert (found.occurrences, found.findings, found.unknown) == (72, (), ())
    assert [each.kind for each in find_problems(database, SETTINGS)] == ["late", "daemon"]


def test_loaded_again_it_is_no_change_and_reaches_further(database: Database) -> None:
    first = loaded(database, 24 * 60)
    apply(database, first, SETTINGS)
    pass_time(database, 300 * DAY.total_seconds())
    again = loaded(database, 24 * 60)
    assert again.hash == first.hash
    assert plan(database, again, SETTINGS).effects == ()
    assert renew_almanacs(database, again) == 1
    assert renew_almanacs(database, again) == 0
    pass_time(database, 300 * DAY.total_seconds())
    while top_up(database, SETTINGS).jobs:
        pass_time(database, 1)
    assert revisions(database) == [(1, "added")]
    days = planned(database)
    assert {later - earlier for earlier, later in pairwise(days)} == {DAY}
    assert (days[0] - NOW, len(days)) < (DAY, 603)
    assert days[-1] > database.server_now() + DAY
    found = audit(database, NOW, database.server_now())
    assert (found.findings, found.unknown) == ((), ())


def test_when_it_is_not_asked_again_in_time_it_says_so_and_keeps_what_is_written(
    database: Database,
) -> None:
    declare(database, 1)
    written = 0
    while not (done := top_up(database, SETTINGS)).faults:
        written += done.jobs
        pass_time(database, HOUR.total_seconds())
    assert "cannot be computed here: only a process that loads its schedule file can" in str(
        done.faults
    )
    assert written > 4_000
    now = database.server_now()
    assert all_definitions(database, NOW, now + HOUR) != ([], ["tides"])
    assert all_definitions(database, now, now + 10 * DAY) == ([], ["tides"])


def test_other_answers_are_a_change_of_its_times_and_no_renewal(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(database)
    monkeypatch.setattr(Tides, "otherwise", NOW + 12 * HOUR)
    manifest = loaded(database)
    assert renew_almanacs(database, manifest) == 0
    (effect,) = apply(database, manifest, SETTINGS).effects
    assert (effect.kind, effect.added, effect.kept) == ("tzdata", 12, 12)
    assert "other answers by" in str(effect.because)
    assert revisions(database) == [(1, "added"), (2, "tzdata")]
    assert planned(database)[-1].second == 7
    assert apply(database, manifest, SETTINGS).effects == ()
    assert audit(database, NOW, NOW + DAY).findings == ()


def test_another_option_keeps_the_times_that_were_known(database: Database) -> None:
    declare(database)
    pass_time(database, 30 * DAY.total_seconds())
    while top_up(database, SETTINGS).jobs:
        pass_time(database, 1)
    (made,) = loaded(database).schedules
    apply(database, make_manifest([replace(made, priority=7)]), SETTINGS)
    assert revisions(database) == [(1, "added")]
    pass_time(database, HOUR.total_seconds())
    top_up(database, SETTINGS)
    found = audit(database, NOW, database.server_now())
    assert (found.findings, found.unknown) == ((), ())


def test_what_cannot_be_computed_is_named_by_the_audit_and_is_no_finding(
    database: Database,
) -> None:
    declare(database)
    stored = query(database, "SELECT definition FROM sched_schedules")[0][0]
    made: Any = Definition.from_json(stored).trigger
    almanac = replace(made.almanac, since=NOW + 3 * HOUR, times=hours(NOW, 48)[3:])
    short = replace(Definition.from_json(stored), trigger=replace(made, almanac=almanac)).to_json()
    execute(database, "UPDATE sched_revisions SET definition = :made", made=short)
    execute(database, "UPDATE sched_schedules SET definition = :made", made=short)
    found = audit(database, NOW, NOW + DAY)
    assert (found.occurrences, found.findings, found.unknown) == (24, (), ("tides",))
    assert [each.kind for each in find_problems(database, SETTINGS)] == ["daemon"]


def test_its_file_is_asked_again_when_half_of_what_is_known_is_used_up(database: Database) -> None:
    due = renewal_due(loaded(database, 1), NOW)
    assert due is not None
    assert timedelta(minutes=2_400) < due <= timedelta(minutes=2_501)
    assert renewal_due(make_manifest(()), NOW) is None


def test_times_that_move_out_of_what_is_known_are_named_by_the_audit_too(
    database: Database,
) -> None:
    (made,) = loaded(database).schedules
    closed = Calendar("closed", weekdays=("mon", "tue", "wed", "thu"))
    moved: Any = made.trigger
    since = moved.almanac.since
    short = replace(moved, almanac=replace(moved.almanac, since=NOW - HOUR, times=hours(NOW, 48)))
    assert since < NOW - DAY
    excluding = Excluding(short, (closed,), "UTC", "next_business")
    stored = replace(made, trigger=excluding).to_json()
    declare(database)
    execute(database, "UPDATE sched_revisions SET definition = :made", made=stored)
    execute(database, "UPDATE sched_schedules SET definition = :made", made=stored)
    found = audit(database, NOW, NOW + DAY)
    assert (found.findings, found.unknown) == ((), ("tides",))
    assert all_definitions(database, NOW, NOW + DAY) == ([], ["tides"])
