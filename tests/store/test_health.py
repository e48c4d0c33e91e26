"""Health: each kind of problem is seen, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from cronqueue.database import Database
from cronqueue.operations import pause_queue
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.health import Problem, find_problems
from cronsched.manifest import make_manifest
from cronsched.materializer import top_up
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from job_rows import add, at, execute, opened, pass_time, recorded_statements

HOUR = 3600


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


def declare(database: Database, *names: str) -> None:
    made = [Definition(name, "t", cron_trigger("5 * * * *"), source="a.py") for name in names]
    apply(database, make_manifest(made), Settings())
    heard_of(database, "daemon", 0.0)


def heard_of(database: Database, kind: str, skew: float) -> None:
    """A sign of life at this moment."""
    execute(database, "DELETE FROM sched_workers WHERE kind = :kind", kind=kind)
    execute(
        database,
        "INSERT INTO sched_workers (id, kind, name, host, pid, version, state, clock_skew, started_at,"
        " heartbeat_at) VALUES (:kind, :kind, 'w', 'h', 7, '1', 'running', :skew, :now, :now)",
        kind=kind,
        skew=skew,
        now=database.moment(database.server_now()),
    )


def problems(database: Database, **options: timedelta) -> list[Problem]:
    return find_problems(database, Settings(), **options)


def kinds(database: Database, **options: timedelta) -> list[str]:
    return [each.kind for each in problems(database, **options)]


def test_nothing_is_wrong_with_an_empty_database_or_a_fresh_one(database: Database) -> None:
    assert problems(database) == []
    declare(database, "s")
    assert problems(database) == []


def test_a_due_job_that_nobody_claims_is_late_after_a_while(database: Database) -> None:
    add(database, queue="mail", run_at=at(-90))
    add(database, queue="mail", run_at=at(-59))
    add(database, queue="quiet", run_at=at(-59))
    add(database, queue="mail", run_at=at(-90), state="succeeded", finished_at=at(-80))
    (found,) = problems(database)
    assert (found.kind, found.subject, found.is_warning) == ("late", "queue mail", False)
    assert "1 due jobs are not claimed, the oldest for 1m 30s" in found.message
    assert kinds(database, late_after=timedelta(seconds=30)) == ["late", "late"]
    assert kinds(database, late_after=timedelta(minutes=5)) == []


def test_a_paused_queue_is_not_late(database: Database) -> None:
    add(database, queue="mail", run_at=at(-90))
    pause_queue(database, "mail", actor="ann", until=at(60))
    assert kinds(database) == []
    pass_time(database, 61)
    assert kinds(database) == ["late"]


def test_a_schedule_that_runs_dry_is_seen_before_it_has(database: Database) -> None:
    declare(database, "s", "t")
    execute(database, "DELETE FROM sched_jobs")
    pass_time(database, 17 * HOUR)
    heard_of(database, "daemon", 0.0)
    assert kinds(database) == []
    pass_time(database, 2 * HOUR)
    heard_of(database, "daemon", 0.0)
    assert [(each.kind, each.subject) for each in problems(database)] == [
        ("coverage", "schedule s"),
        ("coverage", "schedule t"),
    ]
    top_up(database, Settings())
    assert kinds(database) == []


def test_a_schedule_that_cannot_be_read_does_not_hide_the_others(database: Database) -> None:
    declare(database, "bad", "s")
    execute(database, "UPDATE sched_schedules SET definition = '{}' WHERE name = 'bad'")
    execute(database, "DELETE FROM sched_occurrences WHERE schedule = 's'")
    found = problems(database)
    assert [(each.kind, each.subject) for each in found] == [
        ("coverage", "schedule bad"),
        ("missing", "schedule s"),
    ]
    assert "cannot be computed" in found[0].message


@pytest.mark.parametrize("hours", [0, 5])
def test_an_occurrence_that_stands_nowhere_is_missed_before_and_after_its_time(
    database: Database, hours: int
) -> None:
    declare(database, "s")
    gone = at(0).replace(hour=5, minute=5, second=0, microsecond=0)
    execute(database, "DELETE FROM sched_jobs")
    moment = database.moment(gone)
    execute(database, "DELETE FROM sched_occurrences WHERE planned_for = :at", at=moment)
    pass_time(database, hours * HOUR)
    heard_of(database, "daemon", 0.0)
    (found,) = problems(database)
    assert (found.kind, found.subject) == ("missing", "schedule s")
    assert "1 occurrences stand nowhere, the first of 2026-01-02 05:05:00 UTC" in found.message


def test_of_a_dense_schedule_the_next_and_the_last_hour_are_compared(database: Database) -> None:
    made = Definition("s", "t", cron_trigger("* * * * *"), source="a.py")
    apply(database, make_manifest([made]), Settings())
    pass_time(database, 2 * HOUR)
    top_up(database, Settings())
    heard_of(database, "daemon", 0.0)
    execute(database, "DELETE FROM sched_jobs")
    assert problems(database) == []
    now = database.server_now().replace(second=0, microsecond=0)
    for minutes in (-50, 50, 150):
        moment = database.moment(now + timedelta(minutes=minutes))
        execute(database, "DELETE FROM sched_occurrences WHERE planned_for = :at", at=moment)
    (found,) = problems(database)
    assert "2 occurrences stand nowhere, the first of 2026-01-02 04:14:00 UTC" in found.message


def test_an_occurrence_too_many_does_not_hide_one_that_is_missing(database: Database) -> None:
    declare(database, "s")
    move = "UPDATE sched_occurrences SET planned_for = :to WHERE planned_for = :at"
    hour = at(0).replace(hour=6, second=0, microsecond=0)
    moments = {"at": hour.replace(minute=5), "to": hour.replace(minute=6)}
    execute(database, move, **{name: database.moment(each) for name, each in moments.items()})
    (found,) = problems(database)
    assert "1 occurrences stand nowhere, the first of 2026-01-02 06:05:00 UTC" in found.message


def test_schedules_are_compared_with_the_ledger_by_one_statement(database: Database) -> None:
    declare(database, *(f"s{number}" for number in range(30)))
    with recorded_statements(database) as seen:
        assert problems(database) == []
    assert sum("sched_occurrences" in statement for statement, _ in seen) == 1


def test_a_daemon_that_is_not_heard_of_is_missed_where_there_are_schedules(
    database: Database,
) -> None:
    declare(database, "s")
    pass_time(database, 30)
    assert kinds(database) == []
    pass_time(database, 1)
    assert kinds(database) == ["daemon"]
    execute(database, "UPDATE sched_schedules SET state = 'retired'")
    assert kinds(database) == []


@pytest.mark.parametrize(
    ("skew", "expected"),
    [(0.9, []), (-0.9, []), (1.5, [True]), (-1.5, [True]), (31.0, [False]), (-31.0, [False])],
)
def test_a_clock_that_is_away_is_a_warning_and_one_far_away_is_wrong(
    database: Database, skew: float, expected: list[bool]
) -> None:
    heard_of(database, "worker", skew)
    assert [each.is_warning for each in problems(database) if each.kind == "clock"] == expected
    pass_time(database, 31)
    assert kinds(database) == [], "one that is gone hurts nobody"


def test_a_file_with_a_fault_is_told_by_its_first_line(database: Database) -> None:
    execute(
        database,
        "INSERT INTO sched_sources (name, fault, fault_at) VALUES ('a.py', :fault, :at)",
        fault="a.py:3: no such zone\nmore",
        at=database.moment(at(0)),
    )
    assert problems(database) == [Problem("files", "a.py", "a.py:3: no such zone")]
