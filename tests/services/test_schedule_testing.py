"""`sched_simulate`: what a program's own tests see of its schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cronqueue.errors import RunAtError
from cronsched.testing import simulate_files

START = datetime(2026, 3, 29, tzinfo=UTC)
FILES = """
from cronsched import cron, daily

@cron("*/10 * * * *", name="poll")
def poll(): ...

@daily(at="01:30", tz="Europe/London", name="report")
def report(): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A schedules folder in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "schedules"
    folder.mkdir()
    (folder / "a.py").write_text(FILES)
    return folder


def test_the_files_of_the_project_are_played() -> None:
    found = simulate_files(START, "2d", durations={"poll": "15m"})
    assert found.of("poll").skipped == {"skipped:overlap": 144}
    assert found.of("report").ran == 2, "once each day, the one without the hour included"
    assert found.worst_lateness == timedelta(0)
    with pytest.raises(LookupError, match="no schedule 'nope'"):
        found.of("nope")


def test_one_place_makes_jobs_late() -> None:
    hour_of_the_report = START + timedelta(hours=1)
    found = simulate_files(hour_of_the_report, "1h", places=1, durations={"report": "1h"})
    assert found.of("poll").skipped == {"coalesced": 4}
    assert found.worst_lateness > timedelta(minutes=10)
    found = simulate_files(hour_of_the_report, "1h", places=2, durations={"report": "1h"})
    assert found.worst_lateness == timedelta(0)


def test_what_makes_no_sense_is_an_error_of_the_test(folder: Path) -> None:
    with pytest.raises(AssertionError, match="no schedule runs nope"):
        simulate_files(START, durations={"nope": 1})
    with pytest.raises(RunAtError, match="no time zone"):
        simulate_files(START.replace(tzinfo=None))
    (folder / "b.py").write_text("1 / 0")
    with pytest.raises(AssertionError, match="division by zero"):
        simulate_files(START)
    with pytest.raises(AssertionError, match="missing"):
        simulate_files(START, folder="elsewhere")


def test_the_fixture_is_there_where_cronqueue_is_installed(pytester: pytest.Pytester) -> None:
    pytester.mkdir("schedules").joinpath("a.py").write_text(FILES)
    pytester.makepyfile("""
        from datetime import datetime, timezone

        def test_the_day_of_the_clock_change(sched_simulate):
            found = sched_simulate(datetime(2026, 3, 29, tzinfo=timezone.utc), "1d")
            assert found.of("report").ran == 1
    """)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
