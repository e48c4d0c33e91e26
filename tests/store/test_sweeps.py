"""What every worker does for schedules every few seconds: one look where there is nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event

from cronqueue.database import Database
from cronqueue.plugins import installed
from cronqueue.prune import expire
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.pausing import pause
from cronsched.reconcile import apply
from cronsched.schedule_queries import find_standing
from cronsched.sweeps import sweep_schedules
from cronsched.triggers import After, Cron
from job_rows import at, configured, execute, opened, pass_time, query

HOURLY = Definition(name="h", task="t", trigger=Cron("5 * * * *"), source="a.py")
HOUR = 3600.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    for database in opened(database_url):
        with configured(database):
            yield database


def declare(database: Database, made: Definition) -> None:
    apply(database, make_manifest([made]), Settings())


def test_every_worker_sweeps() -> None:
    assert sweep_schedules in installed("cronqueue.sweep")


def test_a_chain_goes_on(database: Database) -> None:
    declare(database, replace(HOURLY, trigger=After(300)))
    sweep_schedules(database)
    assert query(database, "SELECT state FROM sched_jobs") == [("queued",)]


def test_a_schedule_that_fails_is_paused(database: Database) -> None:
    declare(database, replace(HOURLY, pause_after_failures=1))
    pass_time(database, HOUR)
    execute(
        database,
        "UPDATE sched_jobs SET state = 'failed', finished_at = :now, gated = :no"
        " WHERE id = (SELECT MIN(id) FROM sched_jobs)",
        now=database.moment(database.server_now()),
        no=False,
    )
    sweep_schedules(database)
    assert find_standing(database, "h").paused_by == "pause_after_failures"


def test_what_was_missed_is_told(database: Database) -> None:
    declare(database, replace(HOURLY, on_missed="alert", start_within=timedelta(minutes=1)))
    pass_time(database, HOUR)
    expire(database)
    sweep_schedules(database)
    assert query(database, "SELECT task FROM sched_jobs WHERE schedule IS NULL") == [("alert",)]


def test_a_pause_ends(database: Database) -> None:
    declare(database, HOURLY)
    pause(database, "h", actor="ann", until=at(HOUR))
    pass_time(database, HOUR)
    sweep_schedules(database)
    assert find_standing(database, "h").paused_at is None


def test_ordinary_schedules_cost_one_look(database: Database) -> None:
    declare(database, HOURLY)
    begun: list[object] = []
    event.listen(database.engine, "begin", begun.append)
    sweep_schedules(database)
    assert len(begun) == 1
