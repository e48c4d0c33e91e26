"""What is done for a schedule that fails again and again, or whose occurrences are missed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cronqueue.admission import admit
from cronqueue.database import Database
from cronqueue.errors import DefinitionError
from cronqueue.prune import expire
from cronqueue.registry import job
from cronqueue.settings import Settings
from cronsched import daily, hourly, schedule
from cronsched.collecting import collecting
from cronsched.definition import Definition
from cronsched.failures import pause_failing
from cronsched.health import find_problems
from cronsched.manifest import make_manifest
from cronsched.missed import MOST_NAMED, tell_missed
from cronsched.pausing import pause, resume
from cronsched.reconcile import apply
from cronsched.schedule_queries import find_standing
from cronsched.triggers import Cron, Every
from job_rows import NOW, configured, execute, opened, pass_time, query

SETTINGS = Settings()
HOURLY = Definition(name="h", task="t", trigger=Cron("5 * * * *"), source="a.py")
HOUR = timedelta(hours=1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    for database in opened(database_url):
        with configured(database):
            yield database


def declare(database: Database, **options: Any) -> None:
    apply(database, make_manifest([replace(HOURLY, **options)]), SETTINGS)


def end(database: Database, *states: str) -> None:
    """The next occurrences end like that, an hour after one another."""
    for state in states:
        pass_time(database, HOUR.total_seconds())
        execute(
            database,
            "UPDATE sched_jobs SET state = :state, finished_at = :now, started_at = :now, gated = :no"
            " WHERE id = (SELECT MIN(id) FROM sched_jobs WHERE state IN ('queued', 'held'))",
            state=state,
            now=database.moment(database.server_now()),
            no=False,
        )


def test_a_schedule_whose_last_runs_have_all_failed_is_paused(database: Database) -> None:
    declare(database, pause_after_failures=3)
    end(database, "failed", "failed", "succeeded", "failed", "skipped", "failed")
    assert pause_failing(database) == 0
    end(database, "failed")
    assert (pause_failing(database), pause_failing(database)) == (1, 0)
    standing = find_standing(database, "h")
    assert standing.paused_by == "pause_after_failures"
    assert standing.paused_reason == "the last 3 runs failed"
    told = {each.kind: each.message for each in find_problems(database, SETTINGS)}
    assert told["paused"] == "the last 3 runs failed: sched schedules resume h lets it go on"
    resume(database, "h", actor="me")
    assert "paused" not in {each.kind for each in find_problems(database, SETTINGS)}
    pause(database, "h", actor="me")
    assert "paused" not in {each.kind for each in find_problems(database, SETTINGS)}


def test_failures_before_a_resume_count_no_more(database: Database) -> None:
    declare(database, pause_after_failures=2)
    end(database, "failed", "failed")
    assert pause_failing(database) == 1
    resume(database, "h", actor="me")
    assert pause_failing(database) == 0
    end(database, "failed")
    assert pause_failing(database) == 0
    end(database, "failed")
    assert pause_failing(database) == 1


def test_runs_whose_jobs_are_deleted_count_by_their_verdicts(database: Database) -> None:
    declare(database, pause_after_failures=2)
    end(database, "failed", "failed")
    execute(
        database,
        "UPDATE sched_occurrences SET verdict = 'failed', decided_at = :now WHERE job_id IN"
        " (SELECT id FROM sched_jobs WHERE state = 'failed')",
        now=database.moment(database.server_now()),
    )
    execute(database, "DELETE FROM sched_jobs WHERE state = 'failed'")
    assert pause_failing(database) == 1


def test_who_does_not_ask_for_it_is_not_paused_and_a_pause_by_hand_stays(
    database: Database,
) -> None:
    declare(database)
    end(database, "failed", "failed", "failed")
    assert pause_failing(database) == 0
    declare(database, pause_after_failures=1)
    pause(database, "h", actor="me", reason="repairs")
    assert pause_failing(database) == 0
    assert find_standing(database, "h").paused_by == "me"


def missed(database: Database) -> list[tuple[str, str, dict[str, Any]]]:
    rows = query(
        database, "SELECT task, queue, args FROM sched_jobs WHERE schedule IS NULL ORDER BY id"
    )
    return [
        (task, queue, (args if isinstance(args, dict) else json.loads(args))["kwargs"])
        for task, queue, args in rows
    ]


def test_what_was_missed_is_told_once_to_the_task_that_the_schedule_names(
    database: Database,
) -> None:
    declare(database, on_missed="alert", on_missed_queue="alerts", start_within=HOUR)
    assert tell_missed(database) == 0
    pass_time(database, 1.5 * 3600)
    admit(database)
    expire(database)
    assert (tell_missed(database), tell_missed(database)) == (1, 0)
    ((task, queue, kwargs),) = missed(database)
    assert (task, queue, kwargs["schedule"], kwargs["count"]) == ("alert", "alerts", "h", 1)
    first = NOW.replace(minute=5, second=0, microsecond=0)
    assert kwargs["missed"] == [
        {"planned_for": f"{first:%Y-%m-%dT%H:%M:%SZ}", "verdict": "missed:deadline"}
    ]
    pass_time(database, 3600)
    expire(database)
    assert tell_missed(database) == 1


def test_a_flood_is_told_in_one_job_that_names_the_newest(database: Database) -> None:
    declare(database, on_missed="alert", trigger=Every(60), catch_up="all", catch_up_limit=5)
    pass_time(database, 3 * 3600)
    admit(database)
    assert tell_missed(database) == 1
    ((_, _, kwargs),) = missed(database)
    assert (kwargs["count"], len(kwargs["missed"])) == (175, MOST_NAMED)
    planned = [each["planned_for"] for each in kwargs["missed"]]
    assert planned == sorted(planned)
    assert planned[-1] == f"{NOW + timedelta(minutes=175):%Y-%m-%dT%H:%M:00Z}"


def test_what_was_missed_long_before_anybody_asked_is_not_told(database: Database) -> None:
    declare(database, catch_up="none")
    pass_time(database, 1800)
    admit(database)
    pass_time(database, 3700)
    declare(database, catch_up="none", on_missed="alert")
    assert tell_missed(database) == 0


def test_workers_that_look_at_the_same_time_tell_it_once(database: Database) -> None:
    declare(database, on_missed="alert", trigger=Every(60), catch_up="none")
    pass_time(database, 3 * 3600)
    admit(database)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: tell_missed(database), range(8)))
    told = [each["planned_for"] for _, _, kwargs in missed(database) for each in kwargs["missed"]]
    counts = sum(kwargs["count"] for _, _, kwargs in missed(database))
    assert len(set(told)) == len(told)
    assert (
        counts
        == query(database, "SELECT COUNT(*) FROM sched_occurrences WHERE verdict LIKE 'missed:%'")[
            0
        ][0]
    )


def test_the_options_are_checked_and_a_task_brings_its_queue() -> None:
    with collecting() as collector:

        @job(name="alerts.missed", queue="alerts")
        def tell(schedule: str, missed: list[dict[str, str]], count: int) -> None: ...

        @hourly(on_missed=tell, pause_after_failures=5, name="h")
        def tick() -> None: ...

        schedule(tick, daily(at="09:00"), name="named", on_missed="alerts.missed")

    made = collector.definitions["h"]
    assert (made.on_missed, made.on_missed_queue) == ("alerts.missed", "alerts")
    assert (made.pause_after_failures, made.is_watched) == (5, True)
    named = collector.definitions["named"]
    assert (named.on_missed, named.on_missed_queue) == ("alerts.missed", None)
    for option in ({"pause_after_failures": 0}, {"on_missed": 7}, {"on_missed": "no task"}):
        with pytest.raises(DefinitionError):
            schedule(tick, daily(at="09:00"), name="odd", **option)


def test_a_schedule_without_these_options_is_stored_as_before() -> None:
    assert "pause_after_failures" not in HOURLY.to_json()
    assert "on_missed" not in HOURLY.to_json()
