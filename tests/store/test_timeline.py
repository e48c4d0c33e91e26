"""The timeline: what is read from the rows, what is computed beyond them, and what follows from both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cronqueue.database import Database
from cronqueue.operations import pause_queue
from cronqueue.overview import Percentiles
from cronqueue.settings import Settings
from cronsched import planner, timeline
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.pausing import pause
from cronsched.reconcile import apply
from cronsched.timeline import (
    Coming,
    Lane,
    Run,
    Timeline,
    herds_of,
    load_of,
    quiet_of,
    read_timeline,
)
from cronsched.triggers import cron_trigger
from job_rows import NOW, add, at, claim_one, opened

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


def declare(database: Database, cron: str, horizon: timedelta = 24 * HOUR) -> None:
    made = Definition("s", "t", cron_trigger(cron), source="a.py", horizon=horizon)
    apply(database, make_manifest([made], [], []), Settings())


def lane_of(timeline: Timeline, name: str) -> Lane:
    (lane,) = [each for each in timeline.lanes if each.name == name]
    return lane


def a_lane(*coming: datetime, takes: float = 60.0, **values: object) -> Lane:
    took = Percentiles(9, takes, takes, takes)
    rows = tuple(Coming(moment, 1, None, False) for moment in coming)
    lane = Lane("s", True, "default", "active", None, None, took, (), rows)
    return replace(lane, **values)  # type: ignore[arg-type]


def a_timeline(*lanes: Lane, places: int = 1) -> Timeline:
    return Timeline(NOW - HOUR, NOW, NOW + HOUR, lanes, places, False, NOW + HOUR)


def test_runs_of_the_past_stand_in_the_lanes_of_their_schedules_and_tasks(
    database: Database,
) -> None:
    declare(database, "5 * * * *")
    ended = {"started_at": at(-90), "finished_at": at(-60)}
    of_schedule = add(database, state="succeeded", schedule="s", planned_for=at(-95), **ended)
    own = add(database, state="failed", task="own", failed_at=at(-60), **ended)
    add(database, state="succeeded", task="own", started_at=at(-9000), finished_at=at(-8000))
    running = claim_one(database, task="own")
    found = read_timeline(database, HOUR, HOUR)
    assert [run.job_id for run in lane_of(found, "s").runs] == [of_schedule]
    assert [run.job_id for run in lane_of(found, "own").runs] == [own, running.id]
    assert not lane_of(found, "own").is_schedule


def test_beyond_what_is_written_occurrences_are_computed_and_none_is_there_twice(
    database: Database,
) -> None:
    declare(database, "*/10 * * * *", horizon=HOUR)
    coming = lane_of(read_timeline(database, HOUR, 3 * HOUR), "s").coming
    assert [each.run_at for each in coming] == [at(354.321099) + n * 10 * MINUTE for n in range(18)]
    written = [each.job_id is not None for each in coming]
    assert written == [True] * 6 + [False] * 12


def test_what_a_pause_holds_is_held_beyond_what_is_written_too(database: Database) -> None:
    declare(database, "*/10 * * * *", horizon=HOUR)
    pause(database, "s", actor="ann")
    found = read_timeline(database, HOUR, 2 * HOUR)
    assert {each.held_reason for each in lane_of(found, "s").coming} == {"paused"}
    assert all(each.wanted == 0 for each in load_of(found, MINUTE))


def test_nothing_is_expected_of_a_paused_queue(database: Database) -> None:
    declare(database, "*/10 * * * *", horizon=HOUR)
    pause_queue(database, "default", actor="ann")
    found = read_timeline(database, HOUR, 2 * HOUR)
    assert {each.held_reason for each in lane_of(found, "s").coming} == {"queue paused"}


def test_expected_times_come_from_the_runs_that_have_ended(database: Database) -> None:
    for seconds in (10, 20, 30):
        add(database, state="succeeded", started_at=at(-60), finished_at=at(-60 + seconds))
    lane = lane_of(read_timeline(database, HOUR, HOUR), "t")
    assert lane.expected == timedelta(seconds=20)


def test_the_load_is_the_places_that_are_wanted_on_average() -> None:
    found = load_of(a_timeline(a_lane(at(0), at(30), takes=60), places=4), MINUTE)
    assert [round(each.wanted, 2) for each in found[:3]] == [1.5, 0.5, 0.0]
    assert len(found) == 60
    assert not any(each.delay for each in found)


def test_work_for_which_places_are_missing_delays_what_comes_after_it() -> None:
    found = load_of(a_timeline(a_lane(at(0), at(0), at(0), takes=60), places=1), MINUTE)
    assert [each.delay / MINUTE for each in found[:4]] == [2, 1, 0, 0]


def test_a_job_that_runs_takes_its_place_to_its_likely_end() -> None:
    run = Run(1, "running", at(-30), at(-30), None, None)
    found = load_of(a_timeline(a_lane(takes=90, runs=(run,))), MINUTE)
    assert [each.wanted for each in found[:2]] == [1.0, 0.0]


def test_a_minute_is_crowded_when_more_jobs_come_due_than_there_are_places() -> None:
    lane = a_lane(*[at(60)] * 3, *[at(300)] * 4, at(600))
    herds = herds_of(a_timeline(lane, places=2))
    assert [(each.at, each.jobs) for each in herds] == [
        (at(300).replace(second=0, microsecond=0), 4),
        (at(60).replace(second=0, microsecond=0), 3),
    ]


def test_the_longest_stretches_without_a_run_are_quiet() -> None:
    found = quiet_of(a_timeline(a_lane(at(600), at(630), at(1800), takes=60)))
    spans = [((each.start - NOW) / MINUTE, (each.end - NOW) / MINUTE) for each in found]
    assert spans == [(31, 60), (11.5, 30), (0, 10)]


def test_what_is_too_much_is_not_taken_for_a_quiet_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MOST_BEYOND", 3)
    monkeypatch.setattr(planner, "MOST_AHEAD", 5)
    declare(database, "* * * * *")
    found = read_timeline(database, HOUR, 3 * HOUR)
    assert found.truncated
    assert found.now < found.whole_until < found.end
    assert quiet_of(found) == []
