"""Schedules that a program adds and removes while it runs, beside those of the files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from apscheduler.triggers.base import BaseTrigger

from cronqueue.database import Database
from cronqueue.errors import DefinitionError, StateError
from cronqueue.registry import job
from cronqueue.settings import Settings
from cronsched import (
    add_schedule,
    cron,
    daily,
    get_schedule,
    hourly,
    list_schedules,
    on,
    remove_schedule,
)
from cronsched.collecting import collecting
from cronsched.definition import Definition, DefinitionFaults
from cronsched.manifest import make_manifest
from cronsched.plans import Plan
from cronsched.reconcile import apply
from cronsched.triggers import Cron
from job_rows import all_jobs, configured, opened, pass_time, query

HOUR = timedelta(hours=1)
OF_A_FILE = Definition("s", "work", Cron("5 * * * *"), source="a.py")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    for database in opened(database_url):
        with configured(database):
            yield database


@pytest.fixture
def work() -> Any:
    @job(name="work", priority=3)
    def work(user: int) -> None: ...

    return work


def apply_files(database: Database, *made: Definition) -> Plan:
    return apply(database, make_manifest(made), Settings())


def states() -> dict[str, str]:
    return {each.name: each.source for each in list_schedules()}


def test_an_added_schedule_is_written_ahead_at_once(database: Database, work: Any) -> None:
    assert add_schedule(work.call(7), hourly(minute=5), name="s", queue="mail") == "new"
    jobs = all_jobs(database)
    assert len(jobs) == 24
    assert {(each.task, each.queue, each.priority, each.schedule) for each in jobs} == {
        ("work", "mail", 3, "s")
    }
    assert {each.args_json for each in jobs} == {'{"args":[7],"kwargs":{}}'}
    found = get_schedule("s")
    assert found is not None
    assert (found.state, found.source, found.next_run) == ("active", "api", jobs[0].run_at)


def test_adding_again_tells_whether_anything_has_changed(database: Database, work: Any) -> None:
    add_schedule(work.call(7), hourly(minute=5), name="s")
    before = [each.id for each in all_jobs(database)]
    assert add_schedule(work.call(7), hourly(minute=5), name="s") == "unchanged"
    assert add_schedule(work.call(8), hourly(minute=5), name="s", priority=9) == "changed"
    assert [each.id for each in all_jobs(database)] == before
    assert {each.priority for each in all_jobs(database)} == {9}
    assert add_schedule(work.call(8), hourly(minute=6), name="s", priority=9) == "changed"
    assert query(database, "SELECT revision FROM sched_schedules") == [(2,)]


def test_a_removed_schedule_takes_its_waiting_jobs_along_and_may_come_back(
    database: Database, work: Any
) -> None:
    add_schedule(work.call(7), hourly(), name="s")
    remove_schedule("s")
    assert {each.state for each in all_jobs(database)} == {"cancelled"}
    assert list_schedules() == []
    found = get_schedule("s")
    assert found is not None
    assert found.state == "retired"
    with pytest.raises(LookupError, match="no schedule 's'"):
        remove_schedule("s")
    assert add_schedule(work.call(7), hourly(), name="s") == "new"
    assert {each.state for each in all_jobs(database)} == {"queued"}


def test_files_and_the_api_leave_one_anothers_schedules_alone(
    database: Database, work: Any
) -> None:
    apply_files(database, OF_A_FILE)
    with pytest.raises(StateError, match=r"declared in a\.py, which owns it"):
        add_schedule(work.call(7), hourly(), name="s")
    with pytest.raises(StateError, match=r"declared in a\.py: remove it there"):
        remove_schedule("s")
    add_schedule(work.call(7), hourly(), name="dynamic")
    (fault,) = apply_files(database, OF_A_FILE, replace(OF_A_FILE, name="dynamic")).faults
    assert "made through the API" in fault.message
    assert states() == {"s": "a.py", "dynamic": "api"}
    apply_files(database)
    assert states() == {"dynamic": "api"}


def test_two_owners_who_make_the_same_name_at_once_do_not_take_it_from_each_other(
    database: Database, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cronsched import dynamic

    def and_then_the_file_comes(*arguments: Any) -> None:
        monkeypatch.undo()
        if database.is_postgresql:
            thread = threading.Thread(target=apply_files, args=(database, OF_A_FILE))
            thread.start()
            thread.join()

    if not database.is_postgresql:
        pytest.skip("one writer at a time: the second one sees what the first has made")
    monkeypatch.setattr(dynamic, "find_stored", and_then_the_file_comes)
    with pytest.raises(StateError):
        add_schedule(work.call(7), hourly(), name="s")
    assert states() == {"s": "a.py"}


def test_everything_that_is_wrong_is_said_at_once_and_nothing_is_written(
    database: Database, work: Any
) -> None:
    with pytest.raises(DefinitionFaults) as caught:
        add_schedule(work.call(7), daily(at="25:00"), name="s", priority="high", overlapp="skip")  # type: ignore[call-arg, arg-type]
    assert len(caught.value.messages) == 3
    with pytest.raises(DefinitionFaults, match="missing a required argument"):
        add_schedule(work, hourly(), name="s")
    with pytest.raises(DefinitionFaults, match="takes a task or a call"):
        add_schedule("work", hourly(), name="s")  # type: ignore[arg-type]
    with pytest.raises(DefinitionFaults, match="takes times such as"):
        add_schedule(work.call(7), "daily", name="s")  # type: ignore[arg-type]
    with pytest.raises(DefinitionError):
        add_schedule(work.call(7), cron("0 0 31 2 *"), name="s")
    assert query(database, "SELECT COUNT(*) FROM sched_schedules") == [(0,)]


class Ticks(BaseTrigger):  # type: ignore[misc]
    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def test_what_only_files_can_declare_is_refused(database: Database, work: Any) -> None:
    with pytest.raises(DefinitionFaults, match="a trigger class of your own"):
        add_schedule(work.call(7), on(Ticks()), name="own")
    with pytest.raises(DefinitionFaults, match="give it jitter= alone"):
        add_schedule(work.call(7), hourly(jitter="5m", splay="g"), name="shared")


def test_a_schedule_file_adds_nothing_by_being_loaded(database: Database, work: Any) -> None:
    with collecting(), pytest.raises(DefinitionError, match=r"write schedule\(\)"):
        add_schedule(work.call(7), hourly(), name="s")


def test_a_schedule_without_a_zone_has_the_one_of_the_settings(
    database: Database, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cronqueue import configuration

    configuration.use_settings(Settings(tz="Europe/London"))
    add_schedule(work.call(7), daily(at="09:00"), name="s")
    assert query(database, "SELECT tz FROM sched_schedules") == [("Europe/London",)]


def test_a_job_that_somebody_is_at_is_waited_for(database: Database, work: Any) -> None:
    if not database.is_postgresql:
        pytest.skip("one writer at a time: nobody can be at a job meanwhile")
    add_schedule(work.call(7), hourly(), name="s")
    (first, *_) = all_jobs(database)
    with database.begin() as connection:
        connection.exec_driver_sql(
            f"SELECT id FROM sched_jobs WHERE id = {first.id} FOR UPDATE"
        ).all()
        with pytest.raises(StateError, match="somebody else is at 1 of its jobs"):
            remove_schedule("s")
    remove_schedule("s")
    assert {each.state for each in all_jobs(database)} == {"cancelled"}


def test_what_was_due_stays_due_when_an_added_schedule_changes(
    database: Database, work: Any
) -> None:
    add_schedule(work.call(7), hourly(minute=5), name="s")
    pass_time(database, 3600)
    add_schedule(work.call(7), hourly(minute=50), name="s")
    waiting = [each for each in all_jobs(database) if each.state == "queued"]
    assert (waiting[0].planned_for.minute, len(waiting)) == (5, 25)  # type: ignore[union-attr]


def test_each_act_is_recorded(database: Database, work: Any) -> None:
    add_schedule(work.call(7), hourly(), name="s")
    remove_schedule("s")
    acts = query(database, "SELECT action, target FROM sched_audit ORDER BY id")
    assert acts == [("add", "schedule s"), ("remove", "schedule s")]
