"""What has ended in a stretch of time is counted by queue and state, with waits and durations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cronqueue.database import Database
from cronqueue.ended import BOUNDS, ended_between
from job_rows import add, at, opened


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


def end(database: Database, seconds: float, **values: object) -> None:
    """A job that ended so long after NOW; due at NOW, and run for two seconds after a wait."""
    ran = {"run_at": at(0), "started_at": at(seconds - 2), "state": "succeeded"}
    add(database, **{**ran, "finished_at": at(seconds), **values})


def test_jobs_count_from_after_one_moment_to_the_other(database: Database) -> None:
    for seconds in (10, 10.000001, 20, 20.000001):
        end(database, seconds)
    (found,) = ended_between(database, at(10), at(20))
    assert (found.queue, found.state, found.jobs) == ("default", "succeeded", 2)


def test_queues_and_states_are_told_apart(database: Database) -> None:
    end(database, 10, queue="mail")
    end(database, 11, state="failed")
    end(database, 12, state="skipped", started_at=None)
    found = {
        (each.queue, each.state): (each.jobs, each.run.count)
        for each in ended_between(database, at(0), at(60))
    }
    assert found == {
        ("mail", "succeeded"): (1, 1),
        ("default", "failed"): (1, 1),
        ("default", "skipped"): (1, 0),
    }


def test_waits_and_durations_are_summed_and_sorted_into_bounds(database: Database) -> None:
    end(database, 5)
    end(database, 65.5)
    (found,) = ended_between(database, at(0), at(100))
    assert found.run.count == 2
    assert found.run.seconds == pytest.approx(4, abs=0.001)
    assert found.wait.seconds == pytest.approx(3 + 63.5, abs=0.001)
    assert dict(zip(BOUNDS, found.wait.within, strict=True)) == {
        0.1: 0, 0.5: 0, 1: 0, 5: 1, 15: 1, 60: 1, 300: 2, 900: 2, 3600: 2,
    }  # fmt: skip


def test_a_clock_that_went_back_makes_no_time_that_is_negative(database: Database) -> None:
    end(database, 10, run_at=at(30))
    (found,) = ended_between(database, at(0), at(60))
    assert (found.wait.seconds, found.wait.within[0]) == (0, 1)
