"""A day of schedules in a moment: load, lateness and what does not run."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cronsched.definition import Definition
from cronsched.simulation import Simulation, simulate
from cronsched.triggers import cron_trigger

START = datetime(2026, 1, 2, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def declared(name: str, cron: str = "0 * * * *", **options: Any) -> Definition:
    return Definition(name, f"task.{name}", cron_trigger(cron, hash_name=name), **options)


def run(*definitions: Definition, places: int = 8, **durations: timedelta) -> Simulation:
    by_task = {f"task.{name}": duration for name, duration in durations.items()}
    return simulate(definitions, START, START + 24 * HOUR, places, by_task)


def test_every_occurrence_runs_once_where_there_is_room() -> None:
    found = run(declared("a"), declared("b", "30 2 * * *"))
    assert [(each.name, each.occurrences, each.ran) for each in found.schedules] == [
        ("a", 24, 24),
        ("b", 1, 1),
    ]
    assert found.worst_lateness == timedelta(0)
    assert sum(each.due for each in found.minutes) == 25
    assert not found.truncated


def test_too_few_places_make_jobs_late_the_higher_priority_last() -> None:
    low = [declared(f"low{number}", "0 3 * * *") for number in range(4)]
    found = run(*low, declared("high", "0 3 * * *", priority=5), places=1)
    late = {each.name: each.worst_lateness for each in found.schedules}
    assert late["high"] == timedelta(0)
    assert max(late.values()) == timedelta(seconds=4)
    assert found.deepest == 4


def test_what_would_overlap_is_skipped_as_the_gate_would() -> None:
    found = run(declared("slow", "*/10 * * * *"), slow=timedelta(minutes=25))
    (slow,) = found.schedules
    assert slow.skipped["skipped:overlap"] + slow.ran == slow.occurrences == 144
    assert slow.ran == 48


def test_queue_one_and_allow_are_told_apart() -> None:
    waits = declared("waits", "*/10 * * * *", overlap="queue_one")
    (found,) = run(waits, waits=timedelta(minutes=25)).schedules
    assert found.skipped["coalesced"] > 0
    assert found.worst_lateness > timedelta(0)
    freely = declared("freely", "*/10 * * * *", overlap="allow")
    (found,) = run(freely, freely=timedelta(minutes=25)).schedules
    assert (found.ran, dict(found.skipped)) == (144, {})


def test_more_than_can_be_simulated_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cronsched.simulation.MOST_OCCURRENCES", 10)
    found = run(declared("a"))
    assert found.truncated
    assert [each.ran for each in found.schedules] == [10]
