"""Reconcile: what becomes of rows when the declarations change, and when others are at the same rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from cronqueue.database import Database
from cronqueue.imports import Fault
from cronqueue.settings import Settings
from cronsched import applying, reconcile
from cronsched.almanac import Almanac, OwnTrigger
from cronsched.applying import Applying
from cronsched.definition import Definition
from cronsched.ledger_changes import read_written
from cronsched.manifest import Manifest, SourceFile, make_manifest
from cronsched.materializer import top_up
from cronsched.plans import Plan
from cronsched.reconcile import apply, plan
from cronsched.schedule_queries import list_schedules
from cronsched.triggers import Cron, Every
from job_rows import NOW, execute, opened, pass_time, query

SETTINGS = Settings()
HOUR = timedelta(hours=1)
HOURLY = Definition(name="h", task="work", trigger=Cron("5 * * * *"), source="a.py", line=3)
OTHER = replace(HOURLY, name="other", source="b.py")
HALF_PAST = replace(HOURLY, trigger=Cron("35 * * * *"))
# Of a file that was loaded long ago: its answers do not reach to now.
OPAQUE = OwnTrigger("app.Tides", "", (), Almanac(NOW - 9 * HOUR, NOW - 8 * HOUR, ()))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    yield from opened(database_url)


def manifest(*made: Definition, faults: tuple[Fault, ...] = ()) -> Manifest:
    sources = [SourceFile(f"{stem}.py", f"files/{stem}.py", "hash") for stem in "ab"]
    return make_manifest(made, faults, sources)


def declare(database: Database, *made: Definition) -> Plan:
    return apply(database, manifest(*made), SETTINGS)


def states(database: Database, schedule: str = "h") -> dict[tuple[str, str | None], int]:
    statement = "SELECT state, reason, COUNT(*) FROM sched_jobs WHERE schedule = :name GROUP BY state, reason"
    rows = query(database, statement, name=schedule)
    return {(state, reason): count for state, reason, count in rows}


def ids(database: Database, condition: str = "true") -> list[int]:
    statement = f"SELECT id FROM sched_jobs WHERE {condition} ORDER BY planned_for, id"
    return [row[0] for row in query(database, statement)]


def instants(database: Database, condition: str = "true", **values: Any) -> list[datetime]:
    statement = text(f"SELECT planned_for FROM sched_jobs WHERE {condition} ORDER BY planned_for")
    with database.snapshot() as connection:
        found = connection.execute(statement, values).scalars().all()
    return [datetime.fromisoformat(each) if isinstance(each, str) else each for each in found]


def rule(definition: Definition, start: datetime, end: datetime) -> list[datetime]:
    return list(definition.occurrences(start, end))


# What was promised stays promised.


@pytest.mark.parametrize("edited", [replace(HOURLY, priority=9), replace(HALF_PAST, priority=9)])
def test_an_edit_after_a_long_outage_loses_nothing_of_the_old_rule(
    database: Database, edited: Definition
) -> None:
    declare(database, HOURLY)
    pass_time(database, 40 * 3600)
    now = database.clock.now()
    declare(database, edited)
    past = instants(database, "planned_for <= :now", now=database.moment(now))
    assert past == rule(HOURLY, NOW, now)
    to_come = instants(database, "planned_for > :now", now=database.moment(now))
    assert to_come == rule(edited, now, now + 24 * HOUR)
    assert query(database, "SELECT DISTINCT priority FROM sched_jobs ORDER BY 1") == [(0,), (9,)]
    assert declare(database, edited).is_empty
    assert top_up(database, SETTINGS).jobs == 0


def test_topping_up_goes_on_after_an_edit_without_a_hole(database: Database) -> None:
    declare(database, HOURLY)
    pass_time(database, 5 * 3600)
    declare(database, replace(HOURLY, priority=4))
    pass_time(database, 5 * 3600)
    top_up(database, SETTINGS)
    now = database.clock.now()
    assert instants(database) == rule(HOURLY, NOW, now + 24 * HOUR)
    assert query(database, "SELECT revision FROM sched_schedules") == [(1,)]


def test_a_change_of_priority_alone_keeps_the_revision_and_since_when_it_holds(
    database: Database,
) -> None:
    declare(database, HOURLY)
    valid_from = query(database, "SELECT valid_from FROM sched_schedules")
    pass_time(database, 3600)
    declare(database, replace(HOURLY, priority=4, tags=(("team", "billing"),)))
    assert query(database, "SELECT valid_from FROM sched_schedules") == valid_from
    ((tags, count),) = query(
        database,
        "SELECT CAST(tags AS text), COUNT(*) FROM sched_jobs WHERE priority = 4 GROUP BY CAST(tags AS text)",
    )
    assert ("billing" in tags, count) == (True, 24)
    assert states(database) == {("queued", None): 25}


def test_time_and_priority_may_change_together(database: Database) -> None:
    declare(database, HOURLY)
    kept = ids(database)[1::2]
    declare(database, replace(HOURLY, trigger=Cron("5 */2 * * *"), priority=4))
    assert ids(database, "state = 'queued'") in (kept, ids(database)[::2])
    assert query(database, "SELECT DISTINCT priority FROM sched_jobs WHERE state = 'queued'") == [
        (4,)
    ]
    revisions = "SELECT verdict, revision FROM sched_occurrences GROUP BY verdict, revision"
    assert set(query(database, revisions)) == {(None, 2), ("superseded", 1)}


@pytest.mark.parametrize(
    "idle",
    [
        replace(HOURLY, enabled=False),
        replace(HOURLY, end=NOW - HOUR),
        replace(HOURLY, start=NOW - 9 * HOUR, end=NOW - HOUR),
    ],
)
def test_a_schedule_with_nothing_to_come_is_kept_and_may_be_enabled_again(
    database: Database, idle: Definition
) -> None:
    declare(database, idle, OTHER)
    assert states(database) == {}
    declare(database, HOURLY, OTHER)
    before = ids(database)
    declare(database, idle, OTHER)
    assert states(database) == {("cancelled", "superseded"): 24}
    declare(database, HOURLY, OTHER)
    assert ids(database) == before
    assert states(database) == {("queued", None): 24}


def test_a_schedule_that_moves_to_another_file_keeps_its_rows(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    before = ids(database)
    (effect,) = declare(database, replace(HOURLY, source="b.py"), OTHER).effects
    assert (effect.kind, effect.added, effect.cancelled) == ("change", 0, 0)
    assert ids(database, "state = 'queued'") == before
    assert query(database, "SELECT DISTINCT source FROM sched_schedules") == [("b.py",)]


def test_a_new_name_takes_the_old_rows_back_and_writes_new_ones(database: Database) -> None:
    declare(database, HOURLY)
    declare(database, replace(HOURLY, name="new"))
    assert states(database) == {("cancelled", "removed"): 24}
    assert states(database, "new") == {("queued", None): 24}


# Removal.


def make_rows_of_all_kinds(database: Database) -> dict[str, int]:
    """Of the first rows one each: due, a waiting retry, running, pinned."""
    due, retry, running, pinned = ids(database, "schedule = 'h'")[:4]
    execute(database, "UPDATE sched_jobs SET attempts = 1 WHERE id = :id", id=retry)
    running_now = "state = 'running', lock_token = 't', attempts = 1, locked_until = run_at"
    execute(database, f"UPDATE sched_jobs SET {running_now} WHERE id = :id", id=running)
    execute(database, "UPDATE sched_jobs SET pinned = :yes WHERE id = :id", id=pinned, yes=True)
    pass_time(database, 3600)
    return {"due": due, "retry": retry, "running": running, "pinned": pinned}


def state_of(database: Database, job_id: int) -> str:
    ((state,),) = query(database, "SELECT state FROM sched_jobs WHERE id = :id", id=job_id)
    return str(state)


def test_with_a_schedule_all_goes_that_does_not_run(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    rows = make_rows_of_all_kinds(database)
    declare(database, OTHER)
    assert {kind: state_of(database, job_id) for kind, job_id in rows.items()} == {
        "due": "cancelled",
        "retry": "cancelled",
        "running": "running",
        "pinned": "cancelled",
    }


def test_a_schedule_that_drains_lets_run_what_is_due_or_was_tried(database: Database) -> None:
    draining = replace(HOURLY, on_remove="drain")
    declare(database, draining, OTHER)
    rows = make_rows_of_all_kinds(database)
    declare(database, OTHER)
    assert {kind: state_of(database, job_id) for kind, job_id in rows.items()} == {
        "due": "queued",
        "retry": "queued",
        "running": "running",
        "pinned": "cancelled",
    }
    assert states(database)["cancelled", "removed"] == 21


def test_a_retired_schedule_keeps_its_pause_and_history(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    execute(database, "UPDATE sched_schedules SET paused_at = :at", at=database.moment(NOW))
    declare(database, OTHER)
    assert query(
        database, "SELECT state, retired_at IS NULL FROM sched_schedules ORDER BY name"
    ) in ([("retired", 0), ("active", 1)], [("retired", False), ("active", True)])
    declare(database, HOURLY, OTHER)
    assert states(database) == {("held", None): 24}
    assert query(database, "SELECT revision FROM sched_schedules WHERE name = 'h'") == [(2,)]


def test_what_the_api_made_is_neither_removed_nor_taken_over(database: Database) -> None:
    declare(database, HOURLY, OTHER)
    execute(database, "UPDATE sched_schedules SET source = 'api' WHERE name = 'h'")
    declare(database, OTHER)
    done = declare(database, HALF_PAST, OTHER)
    assert states(database) == {("queued", None): 24}
    assert ["files/a.py:3" in str(fault) for fault in done.refused] == [True]
    ((fault,),) = query(database, "SELECT fault FROM sched_sources WHERE name = 'a.py'")
    assert "was made through the API" in fault


# One bad thing stops nothing else.


def test_times_that_cannot_be_computed_are_refused_and_the_others_applied(
    database: Database,
) -> None:
    odd = replace(HOURLY, name="odd", trigger=OPAQUE)
    for found in (plan(database, manifest(odd, HOURLY), SETTINGS), declare(database, odd, HOURLY)):
        assert [effect.name for effect in found.effects] == ["h"]
        assert [str(fault).partition(" after")[0] for fault in found.refused] == [
            "files/a.py:3: schedule 'odd' has times that cannot be computed: the times of a app.Tides"
        ]
    assert states(database) == {("queued", None): 24}


@pytest.mark.parametrize("stored", ["{", "[]", "7", '{"name": 1}', '{"newer": 1}', ""])
def test_a_stored_definition_that_nobody_can_read_is_replaced(
    database: Database, stored: str
) -> None:
    declare(database, HOURLY, OTHER)
    execute(
        database,
        "UPDATE sched_schedules SET definition = :text, refill_at = :at WHERE name = 'h'",
        text=stored,
        at=database.moment(NOW),
    )
    pass_time(database, 3 * 3600)
    assert [fault.split()[1] for fault in top_up(database, SETTINGS).faults] == ["h"]
    assert [row.name for row in list_schedules(database)] == ["h", "other"]
    assert [row.task for row in list_schedules(database)] == ["?", "work"]
    assert [effect.name for effect in declare(database, HOURLY, OTHER).effects] == ["h"]
    assert declare(database, HOURLY, OTHER).is_empty
    assert states(database) == {("queued", None): 24 + 3}
    assert [row.task for row in list_schedules(database)] == ["work", "work"]


def test_a_file_that_the_database_refuses_does_not_stop_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Applying._row

    def refusing(self: Any, definition: Definition, revision: int) -> dict[str, Any]:
        if definition.name == "h":
            self.connection.execute(text("SELECT no_such_column FROM sched_schedules"))
        return row(self, definition, revision)

    monkeypatch.setattr(Applying, "_row", refusing)
    done = declare(database, HOURLY, OTHER)
    assert [effect.name for effect in done.effects] == ["other"]
    assert [fault.file for fault in done.refused] == ["a.py"]
    assert states(database, "other") == {("queued", None): 24}


def test_a_fault_is_forgotten_with_the_file_it_lay_in(database: Database) -> None:
    faults = (Fault("files/a.py", 1, "SyntaxError"), Fault("files", None, "ended by SIGSEGV"))
    apply(database, manifest(OTHER, faults=faults), SETTINGS)
    faulty = "SELECT name FROM sched_sources WHERE fault IS NOT NULL ORDER BY name"
    assert query(database, faulty) == [("a.py",), ("files",)]
    apply(database, make_manifest([OTHER], (), [SourceFile("b.py", "files/b.py", "h")]), SETTINGS)
    assert query(database, faulty) == []


# Others at the same rows. SQLite has one writer: nobody else is at a row meanwhile.


@pytest.fixture
def postgresql(postgres_url: str) -> Iterator[Database]:
    yield from opened(postgres_url)


def test_a_row_that_somebody_is_changing_is_dealt_with_the_next_time(postgresql: Database) -> None:
    declare(postgresql, HOURLY)
    with postgresql.engine.connect() as somebody, somebody.begin():
        somebody.execute(text("SELECT id FROM sched_jobs ORDER BY id LIMIT 2 FOR UPDATE"))
        done = declare(postgresql, replace(HALF_PAST, priority=3))
        assert done.is_unfinished
        assert states(postgresql) == {("queued", None): 26, ("cancelled", "superseded"): 22}
    again = declare(postgresql, replace(HALF_PAST, priority=3))
    assert not again.is_unfinished
    assert states(postgresql) == {("queued", None): 24, ("cancelled", "superseded"): 24}
    assert query(postgresql, "SELECT revision FROM sched_schedules") == [(2,)]
    assert declare(postgresql, replace(HALF_PAST, priority=3)).is_empty


def test_a_row_that_is_claimed_at_this_moment_runs_and_is_not_taken_back(
    postgresql: Database,
) -> None:
    declare(postgresql, HOURLY, OTHER)
    claim = text(
        "UPDATE sched_jobs SET state = 'running', lock_token = 't', attempts = 1, locked_until = run_at"
        " WHERE id = :id"
    )
    (first, *_) = ids(postgresql, "schedule = 'h'")
    with postgresql.engine.connect() as worker, worker.begin():
        worker.execute(claim, {"id": first})
        assert declare(postgresql, OTHER).is_unfinished
        ((state,),) = query(postgresql, "SELECT state FROM sched_schedules WHERE name = 'h'")
        assert state == "active"
    assert not declare(postgresql, OTHER).is_unfinished
    assert states(postgresql) == {("running", None): 1, ("cancelled", "removed"): 23}
    assert query(postgresql, "SELECT state FROM sched_schedules WHERE name = 'h'") == [("retired",)]


def test_two_daemons_that_apply_the_same_change_at_once_do_it_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(database, HOURLY)
    first_reads, second_waits = threading.Event(), threading.Event()
    read, apply_source = read_written, reconcile._Run._apply_source
    entered = []

    def stopping(*args: Any, **options: Any) -> Any:
        found = read(*args, **options)
        if not first_reads.is_set():
            first_reads.set()
            assert second_waits.wait(60)
        return found

    def entering(*args: Any) -> Any:
        entered.append(1)
        if database.is_postgresql and len(entered) == 2:
            second_waits.set()
        return apply_source(*args)

    monkeypatch.setattr(applying, "read_written", stopping)
    monkeypatch.setattr(reconcile._Run, "_apply_source", entering)
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(declare, database, HALF_PAST)
        assert first_reads.wait(60)
        other = threads.submit(declare, database, HALF_PAST)
        if not database.is_postgresql:
            second_waits.set()  # there the second one does not even begin
        effects = (*one.result(60).effects, *other.result(60).effects)
    assert [effect.name for effect in effects] == ["h"]
    assert states(database) == {("queued", None): 24, ("cancelled", "superseded"): 24}
    assert query(database, "SELECT revision FROM sched_schedules") == [(2,)]


def test_a_schedule_that_is_being_changed_is_not_topped_up_meanwhile(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(postgresql, replace(HOURLY, trigger=Every(60)), OTHER)
    pass_time(postgresql, 3 * 3600)
    reads, goes_on = threading.Event(), threading.Event()
    read = read_written

    def stopping(*args: Any, **options: Any) -> Any:
        reads.set()
        assert goes_on.wait(60)
        return read(*args, **options)

    monkeypatch.setattr(applying, "read_written", stopping)
    with ThreadPoolExecutor(1) as threads:
        changing = threads.submit(declare, postgresql, HALF_PAST, OTHER)
        assert reads.wait(60)
        assert top_up(postgresql, SETTINGS).schedules == 1
        goes_on.set()
        changing.result(60)
    now = postgresql.clock.now()
    waiting = instants(postgresql, "schedule = 'h' AND state = 'queued'")
    assert waiting == [
        *rule(replace(HOURLY, trigger=Every(60)), NOW, now),
        *rule(HALF_PAST, now, now + 24 * HOUR),
    ]
