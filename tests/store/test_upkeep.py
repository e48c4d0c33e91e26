"""Upkeep: what a supervisor asks the database for, and what it need not ask."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from cronqueue import upkeep as duties
from cronqueue.claim import Band
from cronqueue.clock import boottime
from cronqueue.database import Database
from cronqueue.registration import ask_to_drain
from cronqueue.settings import Settings
from cronqueue.upkeep import LONGEST_SILENCE, LOOK_PERIOD, Upkeep
from job_rows import add, execute, get, now, query, recorded_statements


def test_a_supervisor_that_has_just_looked_for_work_does_not_ask_whether_the_database_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep, began = Upkeep(database, Settings(), Band()), boottime()
    upkeep.turn(began, [], False)
    monkeypatch.setattr(duties, "boottime", lambda: began + LOOK_PERIOD)
    upkeep.probe([])

    with recorded_statements(database) as asked:
        upkeep._renew(began + LOOK_PERIOD, [])
    assert asked == []
    with recorded_statements(database) as asked:
        upkeep._renew(began + LOOK_PERIOD + LONGEST_SILENCE, [])
    assert bool(asked) is database.is_postgresql  # SQLite's clock is the machine's
    assert upkeep._contact.silent_for(began + LOOK_PERIOD + LONGEST_SILENCE) == 0


def test_an_idle_supervisor_sees_by_its_look_that_no_lease_has_run_out(database: Database) -> None:
    upkeep = Upkeep(database, Settings(), Band())
    upkeep._contact.touched(boottime() - 1e-3)
    upkeep._contact._since = boottime() - 3600
    upkeep._rescue_at = boottime()
    upkeep.probe([])
    with recorded_statements(database) as asked:
        upkeep._rescue(boottime())
    assert asked == []

    lost = now() - timedelta(minutes=1)
    job = add(database, state="running", lock_token="t", attempts=1, locked_until=lost)
    upkeep._rescue_at = boottime()
    upkeep.probe([])
    upkeep._rescue(boottime())
    assert get(database, job).state == "queued"


def test_with_nothing_to_renew_the_look_for_work_stands_for_a_renewal(database: Database) -> None:
    upkeep, child = Upkeep(database, Settings(), Band()), Idle()
    upkeep._contact.touched(at := boottime())
    with recorded_statements(database) as asked:
        upkeep._renew(at + 1, [child])  # type: ignore[list-item]
    assert asked == []
    assert child.board.renewed_at == at
    upkeep._renew_at = 0.0
    upkeep._renew(at + LONGEST_SILENCE, [child])  # type: ignore[list-item]
    assert child.board.renewed_at == at + LONGEST_SILENCE


def test_a_heartbeat_that_is_due_soon_goes_with_the_look(database: Database) -> None:
    upkeep, child = Upkeep(database, Settings(), Band()), Idle()
    upkeep._heartbeat_at = boottime() + LOOK_PERIOD / 2
    upkeep.probe([child])  # type: ignore[list-item]
    assert query(database, "SELECT id, state FROM sched_workers") == [("idle", "running")]
    assert upkeep._heartbeat_at > boottime() + LOOK_PERIOD
    execute(database, "DELETE FROM sched_workers")
    upkeep.probe([child])  # type: ignore[list-item]
    assert query(database, "SELECT id FROM sched_workers") == []


def test_a_worker_hears_with_its_look_that_it_is_asked_to_drain(database: Database) -> None:
    upkeep, child = Upkeep(database, Settings(), Band()), Idle()
    upkeep.probe([child])  # type: ignore[list-item]
    with recorded_statements(database) as asked:
        upkeep._heartbeat_at = 0.0
        upkeep.probe([child])  # type: ignore[list-item]
    before = upkeep.drain_asked
    assert ask_to_drain(database, "idle", actor="ann") == "idle"
    upkeep._heartbeat_at = 0.0
    with recorded_statements(database) as asked_then:
        upkeep.probe([child])  # type: ignore[list-item]
    assert (before, upkeep.drain_asked) == (False, True)
    assert len(asked_then) == len(asked)


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_worker_at_work_hears_it_too_though_the_executor_that_was_asked_may_have_ended(
    database: Database, has_ended: bool
) -> None:
    upkeep, child = Upkeep(database, Settings(), Band()), Idle()
    upkeep._heartbeat(boottime(), [child])  # type: ignore[list-item]
    ask_to_drain(database, "idle", actor="ann")
    if has_ended:
        upkeep.left("idle")
    upkeep._heartbeat_at = 0.0
    upkeep._heartbeat(boottime(), [] if has_ended else [child])  # type: ignore[list-item]
    assert upkeep.drain_asked


class Idle:
    """An executor that holds nothing."""

    worker_id, pid, running, tasks = "idle", 1, 0, ()
    is_ready, is_idle, is_retiring = True, True, False
    spec = SimpleNamespace(settings=Settings(), band=Band(), name="idle")

    def __init__(self) -> None:
        self.board = SimpleNamespace(renewed_at=0.0)

    def held_tokens(self) -> set[str]:
        return set()
