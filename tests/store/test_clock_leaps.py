"""What a wrong clock of the database must not do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cronqueue.admission import admit
from cronqueue.claim import Band
from cronqueue.clock import boottime
from cronqueue.clockwatch import ClockWatch
from cronqueue.database import Database
from cronqueue.errors import ClockLeapt
from cronqueue.housekeeping import FAILURE_PAUSE, Housekeeping
from cronqueue.settings import Settings
from cronqueue.upkeep import Upkeep
from cronsched import daemon as daemons
from cronsched.daemon import Daemon, DaemonOptions
from job_rows import add, add_occurrence, get, now, query

MINUTE = timedelta(minutes=1)


def leapt(database: Database, by: timedelta = timedelta(hours=1)) -> ClockWatch:
    """A watch that has seen the clock before it leapt."""
    watch = ClockWatch()
    watch.doubt(database.server_now() - by, boottime(), boottime())
    return watch


def states(database: Database) -> list[tuple[Any, ...]]:
    return [
        tuple(row) for row in query(database, "SELECT state, gated FROM sched_jobs ORDER BY id")
    ]


def test_no_occurrence_passes_the_gate(database: Database) -> None:
    add_occurrence(database, guard="g", gated=True, planned_for=now(), run_at=now() - MINUTE)
    with pytest.raises(ClockLeapt, match=r"leapt ahead by (1:00|0:59)"):
        admit(database, watch=leapt(database))
    assert states(database) == [("queued", True)]
    admit(database, watch=leapt(database, timedelta(0)))
    assert states(database) == [("queued", False)]


def test_nothing_is_ended_as_too_late(database: Database) -> None:
    add(database, run_at=now() - MINUTE, expires_at=now() - MINUTE)
    keeping, at = Housekeeping(database, Settings()), boottime()
    keeping._clock_watch = leapt(database)
    with pytest.raises(ClockLeapt):
        keeping.turn(at)
    assert states(database) == [("queued", False)]
    assert 0 < keeping.next_duty(at) <= FAILURE_PAUSE
    keeping._clock_watch = ClockWatch()
    keeping.turn(at + FAILURE_PAUSE)
    assert states(database)[0][0] == "skipped"


def test_no_lease_is_taken_for_lost(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = now() - MINUTE
    running = add(database, state="running", lock_token="t", attempts=1, locked_until=lost)
    monkeypatch.setattr("cronqueue.lease.Contact.unbroken_for", lambda self, at: 1e9)
    upkeep = Upkeep(database, Settings(), Band())
    upkeep._clock_watch = leapt(database, MINUTE)
    upkeep._clock_watch._limit = Settings().lease / 3
    upkeep._rescue(boottime())
    assert get(database, running).state == "running"


def test_the_daemon_writes_on_and_takes_over_nothing(
    database: Database, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(daemons, "top_up", lambda *args: done.append("top_up"))
    monkeypatch.setattr(daemons, "heartbeat", lambda *args: done.append("heartbeat"))
    daemon = Daemon(database, DaemonOptions(Settings(), tmp_path, "d"))
    daemon._clock_watch = leapt(database)
    with pytest.raises(ClockLeapt):
        daemon.turn(0.0)
    assert done == []
