"""Revisions, renames and changed clocks: what is kept of a schedule's times, and what moves them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cronqueue.database import Database
from cronqueue.imports import Fault
from cronqueue.settings import Settings
from cronsched import computed_with, overrides
from cronsched.definition import Definition
from cronsched.ledger_audit import audit
from cronsched.manifest import Manifest, SourceFile, make_manifest
from cronsched.plans import Plan
from cronsched.reconcile import apply, plan
from cronsched.revisions import list_revisions
from cronsched.timezones import offsets_fingerprint
from cronsched.triggers import Cron, Every
from job_rows import NOW, claim_due, execute, opened, pass_time, query

SETTINGS = Settings()
HOUR = timedelta(hours=1)
HOURLY = Definition(name="h", task="work", trigger=Cron("5 * * * *"), source="a.py", line=3)
OTHER = replace(HOURLY, name="other", source="b.py")
HALF_PAST = replace(HOURLY, trigger=Cron("35 * * * *"))
RENAMED = replace(HOURLY, name="new", renamed_from="h")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    yield from opened(database_url)


def manifest(*made: Definition, faults: tuple[Fault, ...] = ()) -> Manifest:
    sources = [SourceFile(f"{stem}.py", f"files/{stem}.py", "hash") for stem in "ab"]
    return make_manifest(made, faults, sources)


def declare(database: Database, *made: Definition) -> Plan:
    return apply(database, manifest(*made), SETTINGS, actor="me")


def told(database: Database, name: str = "h") -> list[tuple[int, str, Any, Any]]:
    """Number, kind, and from when until when, in seconds after NOW; the oldest first."""
    return [
        (
            each.revision,
            each.kind,
            round((each.valid_from - NOW).total_seconds()),
            None if each.valid_until is None else round((each.valid_until - NOW).total_seconds()),
        )
        for each in reversed(list_revisions(database, name))
    ]


def findings(database: Database) -> list[str]:
    found = audit(database, NOW - 100 * HOUR, NOW + 10_000 * HOUR).findings
    return [f"{each.kind} {each.schedule} {each.planned_for}" for each in found]


def test_each_change_of_times_is_a_revision_from_one_moment_to_the_next(
    database: Database,
) -> None:
    declare(database, HOURLY, OTHER)
    pass_time(database, 3600)
    declare(database, HALF_PAST, OTHER)
    pass_time(database, 3600)
    declare(database, OTHER)
    assert told(database)[-1] == (2, "changed", 3600, 7200)
    pass_time(database, 3600)
    declare(database, HALF_PAST, OTHER)
    assert told(database) == [
        (1, "added", 0, 3600),
        (2, "changed", 3600, 7200),
        (3, "revived", 10800, None),
    ]
    assert findings(database) == []


def test_a_change_of_anything_else_is_written_into_the_revision_in_force(
    database: Database,
) -> None:
    declare(database, HOURLY)
    pass_time(database, 3600)
    declare(database, replace(HOURLY, priority=7))
    assert told(database) == [(1, "added", 0, None)]
    ((stored,),) = query(database, "SELECT definition FROM sched_revisions")
    assert json.loads(stored)["priority"] == 7


def test_who_applied_what_stands_in_the_audit(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    declare(database, HALF_PAST, OTHER)
    declare(database, OTHER)
    acts = query(
        database,
        "SELECT actor, action FROM sched_audit WHERE target = 'schedule h' ORDER BY id",
    )
    assert acts == [("me", "add"), ("me", "change"), ("me", "remove")]


def test_what_a_removed_schedule_owed_is_counted_and_not_missing(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    pass_time(database, 40 * 3600)
    declare(database, OTHER)
    pass_time(database, 3600)
    declare(database, HOURLY, OTHER)
    assert query(database, "SELECT verdict, count FROM sched_occurrence_ranges") == [
        ("removed", 16)
    ]
    assert findings(database) == []


def test_what_a_draining_schedule_owed_when_it_was_removed_runs(database: Database) -> None:
    draining = replace(HOURLY, on_remove="drain")
    declare(database, draining, OTHER)
    pass_time(database, 40 * 3600)
    (effect,) = declare(database, OTHER).effects
    assert (effect.added, effect.cancelled) == (16, 0)
    waiting = "SELECT COUNT(*) FROM sched_jobs WHERE schedule = 'h' AND state = 'queued'"
    assert query(database, waiting) == [(40,)]
    assert findings(database) == []


def test_a_shorter_horizon_leaves_what_is_written_and_no_hole(database: Database) -> None:
    declare(database, replace(HOURLY, horizon=72 * HOUR))
    declare(database, replace(HOURLY, horizon=6 * HOUR))
    assert findings(database) == []
    declare(database, replace(HALF_PAST, horizon=6 * HOUR))
    assert findings(database) == []


# Renames.


def test_a_rename_moves_history_jobs_and_decisions(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    first = HOURLY.trigger.between(NOW, NOW + HOUR)
    overrides.skip(database, "h", next(iter(first)), actor="me")
    jobs = query(database, "SELECT id, state FROM sched_jobs WHERE schedule = 'h' ORDER BY id")
    pass_time(database, 2 * 3600)
    (effect,) = declare(database, RENAMED, OTHER).effects
    assert (effect.kind, effect.name, effect.renamed_from) == ("rename", "new", "h")
    assert effect.cancelled == 0
    assert (
        query(
            database,
            "SELECT id, state FROM sched_jobs WHERE schedule = 'new' ORDER BY id LIMIT :n",
            n=len(jobs),
        )
        == jobs
    )
    for table in ("jobs", "occurrences", "overrides", "revisions"):
        names = f"SELECT DISTINCT schedule FROM sched_{table} WHERE schedule <> 'other'"
        assert query(database, names) == [("new",)], table
    assert query(database, "SELECT DISTINCT guard FROM sched_jobs ORDER BY guard") == [
        ("new",),
        ("other",),
    ]
    assert told(database, "new") == [(1, "added", 0, None)]
    assert declare(database, RENAMED, OTHER).is_empty
    assert findings(database) == []


def test_a_run_goes_on_through_a_rename_and_holds_the_new_name_for_itself(
    database: Database,
) -> None:
    declare(database, HOURLY, OTHER)
    execute(database, "UPDATE sched_jobs SET gated = :no, slot = 0 WHERE id = 1", no=False)
    execute(database, "UPDATE sched_jobs SET run_at = :at WHERE id = 1", at=database.moment(NOW))
    (job,) = claim_due(database)
    declare(database, RENAMED, OTHER)
    ((schedule, guard, slot, state),) = query(
        database, "SELECT schedule, guard, slot, state FROM sched_jobs WHERE id = :id", id=job.id
    )
    assert (schedule, guard, slot, state) == ("new", "new", 0, "running")


@pytest.mark.parametrize("edited", [RENAMED, replace(RENAMED, trigger=Every(1800))])
def test_times_may_change_together_with_the_name(database: Database, edited: Definition) -> None:
    declare(database, HOURLY, OTHER)
    pass_time(database, 40 * 3600)
    announced = plan(database, manifest(edited, OTHER), SETTINGS)
    done = declare(database, edited, OTHER)
    assert done.effects == announced.effects
    assert findings(database) == []


def test_a_rename_is_refused_while_the_old_name_may_be_declared_still(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    both = declare(database, HOURLY, RENAMED, OTHER)
    assert ["is declared still" in str(fault) for fault in both.refused] == [True]
    broken = manifest(RENAMED, faults=(Fault("files/b.py", 1, "SyntaxError"),))
    (fault,) = apply(database, broken, SETTINGS).refused
    assert "mend that first" in str(fault)
    assert query(database, "SELECT name FROM sched_schedules ORDER BY name") == [
        ("h",),
        ("other",),
    ]


def test_a_rename_that_is_done_may_stay_in_the_file(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    declare(database, RENAMED, OTHER)
    done = declare(database, RENAMED, HOURLY, OTHER)
    assert [(effect.kind, effect.name) for effect in done.effects] == [("add", "h")]
    assert not done.refused


def test_what_looks_like_a_rename_is_said(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    found = plan(database, manifest(replace(HOURLY, name="new"), OTHER), SETTINGS)
    assert [(each.schedule, each.message) for each in found.lints] == [
        ("new", "looks like a rename of h: add renamed_from='h' and its history stays")
    ]
    two = [replace(HOURLY, name=name) for name in ("new", "newer")]
    assert plan(database, manifest(*two, OTHER), SETTINGS).lints == ()


# What computes the times.


def test_a_clock_that_tzdata_has_moved_is_a_revision_of_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    berlin = replace(HOURLY, trigger=Cron("0 6 * * *", tz="Europe/Berlin"), tz="Europe/Berlin")
    declare(database, berlin, OTHER)
    computed_with._mark.cache_clear()
    fingerprint = offsets_fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(
            computed_with,
            "offsets_fingerprint",
            lambda tz, *range: "moved" if tz == "Europe/Berlin" else fingerprint(tz, *range),
        )
        found = plan(database, manifest(berlin, OTHER), SETTINGS)
        assert [each.because for each in found.effects] == [
            "tzdata: another clock in Europe/Berlin"
        ]
        assert "its stored times were computed by" in found.lints[0].message
        pass_time(database, 60)
        assert [each.kind for each in declare(database, berlin, OTHER).effects] == ["tzdata"]
        assert declare(database, berlin, OTHER).is_empty
    computed_with._mark.cache_clear()
    assert told(database) == [(1, "added", 0, 60), (2, "tzdata", 60, None)]


def test_another_croniter_computes_cron_expressions_again_and_nothing_else(
    database: Database,
) -> None:
    every = replace(OTHER, trigger=Every(3600))
    declare(database, HOURLY, every)
    execute(database, "UPDATE sched_schedules SET croniter_major = 1")
    done = declare(database, HOURLY, every)
    assert [(each.kind, each.name) for each in done.effects] == [("tzdata", "h")]
    assert (done.effects[0].because or "").startswith("croniter 1 -> ")


def test_what_the_api_made_is_computed_again_as_well(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    execute(database, "UPDATE sched_schedules SET source = 'api' WHERE name = 'h'")
    execute(database, "UPDATE sched_schedules SET tz_fingerprint = '2026 UTC 00' WHERE name = 'h'")
    assert [each.kind for each in declare(database, OTHER).effects] == ["tzdata"]
    assert query(database, "SELECT source FROM sched_schedules WHERE name = 'h'") == [("api",)]


def test_marks_that_are_missing_or_old_are_renewed_without_a_change(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    marks = "SELECT DISTINCT tz_fingerprint FROM sched_schedules"
    ((mark,),) = query(database, marks)
    for stale in (None, computed_with._mark("UTC", 2025)):
        execute(database, "UPDATE sched_schedules SET tz_fingerprint = :mark", mark=stale)
        assert declare(database, HOURLY, OTHER).is_empty
        assert query(database, marks) == [(mark,)]


# What a plan says is what is done.


@pytest.mark.parametrize("hours", [0, 40])
def test_a_plan_tells_each_row_that_applying_writes_moves_keeps_or_cancels(
    database: Database, hours: int
) -> None:
    declare(database, HOURLY, OTHER)
    pass_time(database, hours * 3600)
    twice = replace(HOURLY, trigger=Cron("5,35 * * * *"), jitter=timedelta(minutes=3))
    rarely = replace(OTHER, trigger=Cron("5 */2 * * *"))
    for files in (manifest(twice, rarely), manifest(twice)):
        announced = plan(database, files, SETTINGS)
        assert apply(database, files, SETTINGS).effects == announced.effects
    assert findings(database) == []


def test_a_row_that_moves_is_told_with_both_its_times(database: Database) -> None:
    declare(database, HOURLY)
    late = replace(HOURLY, jitter=timedelta(minutes=3))
    (effect,) = plan(database, manifest(late), SETTINGS).effects
    assert (effect.added, effect.moved, effect.kept, effect.cancelled) == (0, 24, 24, 0)
    for row in effect.rows:
        assert row.was == row.planned_for
        assert row.run_at is not None
        assert row.planned_for < row.run_at < row.planned_for + timedelta(minutes=3)


def test_a_decision_of_an_operator_is_part_of_the_plan(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    instant = next(iter(HOURLY.occurrences(NOW + 40 * HOUR, NOW + 42 * HOUR)))
    overrides.move(database, "h", instant, instant + HOUR, actor="me")
    overrides.skip(database, "h", instant + HOUR, actor="me")
    longer = replace(HOURLY, horizon=48 * HOUR)
    (effect,) = plan(database, manifest(longer, OTHER), SETTINGS).effects
    rows = {row.planned_for: row.run_at for row in effect.rows if row.action == "add"}
    assert rows[instant] == instant + HOUR
    assert instant + HOUR not in rows
    assert declare(database, longer, OTHER).effects == (effect,)
