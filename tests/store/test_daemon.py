"""The daemon, cranked by hand: what it reads, when, and what it leaves alone."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from cronqueue import registry, schema
from cronqueue.database import Database, is_outage
from cronqueue.errors import CronqueueError, DatabaseUnreachable
from cronqueue.imports import Fault
from cronqueue.settings import Settings
from cronsched import daemon as daemons
from cronsched.daemon import (
    HEARTBEAT_PERIOD,
    LOOK_PERIOD,
    PASS_PERIOD,
    PRUNE_PERIOD,
    SETTLE,
    Daemon,
    DaemonOptions,
)
from cronsched.loader import load
from cronsched.manifest import Manifest
from cronsched.manifests import bring, place_of
from cronsched.pausing import pause
from cronsched.reconcile import apply
from job_rows import execute, query
from postgres_server import PostgresServer

SETTINGS = Settings()
HOURLY = "from cronsched import hourly\n@hourly(minute={minute}, name='h')\ndef tick(): ...\n"

TIDES = """
from datetime import datetime, timedelta, UTC
from apscheduler.triggers.base import BaseTrigger
from cronqueue import job
from cronsched import on, schedule

class Tides(BaseTrigger):
    def get_next_fire_time(self, previous, now):
        return now.replace(second=0, microsecond=0) + timedelta(minutes=1)

@job
def tick(): ...

schedule(tick, on(Tides()), name="tides")
"""


class Crank:
    """A daemon over a folder, whose time passes when it is told to. Files are loaded in this process."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.loads = 0
        self.daemon = Daemon(database, DaemonOptions(SETTINGS, folder, "d"))
        self.daemon.load = self._load  # type: ignore[method-assign]

    def _load(self) -> Manifest:
        self.loads += 1
        registry._tasks.clear()  # as in a fresh process
        return load(self.folder, missing_ok=True)

    def turn(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.daemon.turn(self.now)

    def settle(self) -> None:
        """Until a change has been seen and has been quiet for long enough."""
        self.turn(LOOK_PERIOD)
        self.turn(SETTLE)

    def write(self, minute: int, name: str = "a") -> None:
        path = self.folder / f"{name}.py"
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_text(HOURLY.format(minute=minute))
        path.chmod(0o644)
        # A file system may count in milliseconds; a person does not save twice in one.
        os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    made.chmod(0o755)
    return made


@pytest.fixture
def crank(database: Database, folder: Path) -> Crank:
    made = Crank(database, folder)
    made.write(5)
    return made


def minutes(database: Database) -> set[int]:
    """The minutes at which waiting jobs are planned."""
    rows = query(database, "SELECT planned_for FROM sched_jobs WHERE state = 'queued'")
    return {datetime.fromisoformat(str(row[0])).minute for row in rows}


def test_the_first_turn_loads_applies_and_says_that_it_is_there(
    database: Database, crank: Crank
) -> None:
    crank.turn()
    assert (crank.loads, minutes(database)) == (1, {5})
    assert query(database, "SELECT kind, name, pid, state FROM sched_workers") == [
        ("daemon", "d", os.getpid(), "running")
    ]


def test_files_that_do_not_change_are_loaded_once(crank: Crank) -> None:
    for _ in range(20):
        crank.turn(LOOK_PERIOD)
    assert crank.loads == 1


def test_a_changed_file_is_applied_once_it_has_been_quiet_for_a_while(
    database: Database, crank: Crank
) -> None:
    crank.turn()
    crank.write(35)
    crank.turn(LOOK_PERIOD)
    crank.turn(SETTLE - 0.5)
    crank.write(45)
    crank.turn(LOOK_PERIOD)
    crank.turn(SETTLE - 0.5)
    assert (crank.loads, minutes(database)) == (1, {5})
    crank.turn(LOOK_PERIOD)
    assert (crank.loads, minutes(database)) == (2, {45})


def test_a_file_that_comes_or_goes_is_noticed(database: Database, crank: Crank) -> None:
    crank.turn()
    (crank.folder / "a.py").rename(crank.folder / "b.py")
    crank.settle()
    assert (crank.loads, minutes(database)) == (2, {5})
    (crank.folder / "b.py").unlink()
    crank.settle()
    assert (crank.loads, minutes(database)) == (3, set())


def test_a_helper_that_files_import_is_watched_as_well(crank: Crank) -> None:
    helper = crank.folder / "_helper.py"
    helper.write_text("")
    crank.turn()
    helper.write_text("changed = 1\n")
    crank.settle()
    assert crank.loads == 2


def test_taking_away_a_permission_that_was_too_wide_is_noticed(
    database: Database, crank: Crank
) -> None:
    (crank.folder / "a.py").chmod(0o646)
    crank.turn()
    assert minutes(database) == set()
    (crank.folder / "a.py").chmod(0o644)
    crank.settle()
    assert minutes(database) == {5}


def test_files_with_a_trigger_class_of_their_own_are_asked_again_in_time(
    database: Database, crank: Crank
) -> None:
    (crank.folder / "a.py").write_text(TIDES)
    crank.turn()
    assert (crank.loads, query(database, "SELECT COUNT(*) FROM sched_jobs")) == (1, [(600,)])
    # Its answers of the next 5,000 minutes are known.
    crank.turn(2_400 * 60)
    assert crank.loads == 1
    crank.turn(101 * 60)
    assert crank.loads == 2
    crank.turn(2_400 * 60)
    assert crank.loads == 2


def test_a_reload_loads_files_that_have_not_changed(crank: Crank) -> None:
    crank.turn()
    crank.daemon.reload()
    crank.turn()
    assert crank.loads == 2


def test_a_reload_that_comes_while_files_are_loaded_is_not_lost(crank: Crank) -> None:
    loading = crank.daemon.load

    def reloading() -> Manifest:
        crank.daemon.load = loading  # type: ignore[method-assign]
        crank.daemon.reload()
        return loading()

    crank.daemon.load = reloading  # type: ignore[method-assign]
    crank.turn()
    crank.turn()
    assert crank.loads == 2


def test_the_heartbeat_goes_on(database: Database, crank: Crank) -> None:
    crank.turn()
    (first,) = query(database, "SELECT heartbeat_at FROM sched_workers")
    crank.turn(HEARTBEAT_PERIOD)
    (second,) = query(database, "SELECT heartbeat_at FROM sched_workers")
    assert second > first


def test_a_pass_writes_on_what_is_used_up(database: Database, crank: Crank) -> None:
    crank.turn()
    execute(database, "DELETE FROM sched_jobs")
    execute(database, "DELETE FROM sched_occurrences")
    past = database.moment(datetime.now(UTC) - timedelta(seconds=1))
    execute(
        database, "UPDATE sched_schedules SET materialized_until = :at, refill_at = :at", at=past
    )
    crank.turn(PASS_PERIOD)
    assert query(database, "SELECT COUNT(*) FROM sched_jobs") == [(24,)]


def test_a_pass_ends_a_pause_whose_time_has_come(database: Database, crank: Crank) -> None:
    crank.turn()
    pause(database, "h", actor="ann", until=datetime.now(UTC) + timedelta(hours=1))
    crank.turn(PASS_PERIOD)
    assert query(database, "SELECT DISTINCT state FROM sched_jobs") == [("held",)]
    past = database.moment(datetime.now(UTC) - timedelta(seconds=1))
    execute(database, "UPDATE sched_schedules SET paused_until = :at", at=past)
    crank.turn(PASS_PERIOD)
    assert query(database, "SELECT DISTINCT state FROM sched_jobs") == [("queued",)]


def test_files_that_cannot_be_loaded_do_not_keep_the_rest_waiting(
    database: Database, crank: Crank
) -> None:
    crank.turn()
    execute(database, "DELETE FROM sched_workers")
    past = database.moment(datetime.now(UTC) - timedelta(hours=2))
    execute(database, "UPDATE sched_schedules SET refill_at = :at", at=past)

    def failing() -> Manifest:
        raise OSError("no process can be started")

    crank.daemon.load = failing  # type: ignore[method-assign]
    crank.daemon.reload()
    with pytest.raises(OSError, match="no process"):
        crank.turn(PASS_PERIOD)
    refilled = "SELECT COUNT(*) FROM sched_schedules WHERE refill_at > :at"
    assert query(database, refilled, at=past) == [(1,)]
    assert query(database, "SELECT kind FROM sched_workers") == [("daemon",)]


def test_a_change_that_met_the_database_away_is_applied_when_it_is_back(
    database: Database, crank: Crank, monkeypatch: pytest.MonkeyPatch
) -> None:
    crank.turn()
    crank.write(35)
    crank.turn(LOOK_PERIOD)

    def away(*args: Any, **options: Any) -> Any:
        raise DatabaseUnreachable("nobody answers")

    with monkeypatch.context() as patched:
        patched.setattr(daemons, "apply", away)
        with pytest.raises(DatabaseUnreachable):
            crank.turn(SETTLE)
    assert minutes(database) == {5}
    crank.turn(1.0)
    assert minutes(database) == {35}


def test_a_database_that_was_away_is_used_again_when_it_is_back(
    own_postgres_server: PostgresServer, folder: Path
) -> None:
    database = Database(own_postgres_server.url())
    schema.upgrade(database)
    crank = Crank(database, folder)
    crank.write(5)
    crank.turn()
    own_postgres_server.stop("immediate")
    crank.write(35)
    with pytest.raises((DBAPIError, CronqueueError)) as away:
        crank.turn(HEARTBEAT_PERIOD)
    assert is_outage(away.value)
    own_postgres_server.start()
    while minutes(database) != {35}:
        crank.turn(SETTLE)
    database.dispose()


def test_a_turn_that_fails_is_tried_again_after_growing_pauses(
    crank: Crank, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outage = OperationalError(
        "SELECT 1", {}, Exception("server closed"), connection_invalidated=True
    )

    def away(*args: Any) -> Any:
        raise outage

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(daemons, "heartbeat", away)
        pauses = [crank.daemon._turn_safely() for _ in range(8)]
    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert pauses[-1] == 10.0
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    crank.daemon._turn_safely()
    assert crank.loads == 1


def test_rows_that_somebody_was_changing_are_dealt_with_soon(
    database: Database, crank: Crank, monkeypatch: pytest.MonkeyPatch
) -> None:
    crank.turn()
    applying, unfinished = apply, [True, False]

    class Unfinished:
        def __init__(self, plan: Any) -> None:
            self._plan = plan

        is_unfinished = True

        def __getattr__(self, name: str) -> Any:
            return getattr(self._plan, name)

    def first_unfinished(*args: Any, **options: Any) -> Any:
        plan = applying(*args, **options)
        return Unfinished(plan) if unfinished.pop(0) else plan

    monkeypatch.setattr(daemons, "apply", first_unfinished)
    crank.daemon.reload()
    crank.turn()
    crank.turn(SETTLE)
    assert crank.loads == 3
    crank.turn(10 * SETTLE)
    assert crank.loads == 3


def test_what_is_wrong_with_files_is_said_and_run_once_says_it_with_its_exit_code(
    database: Database, crank: Crank, caplog: pytest.LogCaptureFixture
) -> None:
    assert crank.daemon.run_once() == 0
    assert minutes(database) == {5}
    (crank.folder / "b.py").write_text("def f(:\n")
    (crank.folder / "b.py").chmod(0o644)
    assert crank.daemon.run_once() == 1
    assert f"{crank.folder}/b.py:1: SyntaxError: invalid syntax" in caplog.text
    assert "what the faulty files declare stays as it was; nothing is removed" in caplog.text


def test_a_daemon_with_older_files_follows_and_says_so(
    database: Database, crank: Crank, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newer_folder = tmp_path / "newer"
    newer_folder.mkdir(mode=0o755)
    newer = Crank(database, newer_folder)
    newer.write(35)
    crank.turn()
    newer.turn()
    assert minutes(database) == {35}
    crank.daemon.reload()
    crank.turn()
    assert minutes(database) == {35}
    assert f"other schedule files are in force, from {place_of(newer_folder)}: this" in caplog.text


def test_an_edit_may_be_undone_after_a_restart(database: Database, crank: Crank) -> None:
    crank.turn()
    crank.write(35)
    crank.settle()
    assert minutes(database) == {35}
    crank.daemon._leave()
    crank.write(5)
    Crank(database, crank.folder).turn()
    assert minutes(database) == {5}


def test_a_daemon_that_stops_signs_off(database: Database, crank: Crank) -> None:
    crank.turn()
    crank.daemon.stop()
    crank.daemon._leave()
    assert query(database, "SELECT kind FROM sched_workers") == []


def test_a_daemon_that_is_told_to_stop_while_it_loads_applies_nothing(
    database: Database, crank: Crank
) -> None:
    def stopped() -> Manifest:
        crank.daemon.stop()
        return Manifest((), (Fault("files", None, "broken off"),), ())

    crank.turn()
    crank.daemon.load = stopped  # type: ignore[method-assign]
    crank.daemon.reload()
    crank.turn()
    assert query(database, "SELECT fault FROM sched_sources WHERE fault IS NOT NULL") == []


def test_daemons_that_see_a_change_at_the_same_moment_apply_it_once(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cranks = [Crank(database, folder) for _ in range(3)]
    cranks[0].write(5)
    cranks[0].turn()
    cranks[0].write(35)
    loaded = load(folder)
    together = threading.Barrier(3)

    def arriving(*args: Any, **options: Any) -> Any:
        decision = bring(*args, **options)
        together.wait(60)
        return decision

    monkeypatch.setattr(daemons, "bring", arriving)
    for crank in cranks:
        crank.daemon.load = lambda: loaded  # type: ignore[method-assign]
        crank.daemon.reload()
    with ThreadPoolExecutor(3) as threads:
        turns: list[Callable[[], None]] = [crank.turn for crank in cranks]
        for done in [threads.submit(turn) for turn in turns]:
            done.result(60)
    counts = "SELECT verdict, COUNT(*) FROM sched_ledger GROUP BY verdict ORDER BY verdict"
    assert query(database, counts) == [("queued", 24), ("superseded", 24)]
    assert query(database, "SELECT COUNT(*) FROM sched_jobs") == [(48,)]
    assert query(database, "SELECT revision FROM sched_schedules") == [(2,)]
    hashes = "SELECT COUNT(*) FROM sched_manifests WHERE in_force_until IS NULL"
    assert query(database, hashes) == [(1,)]


def test_a_pass_continues_the_chains(crank: Crank, database: Database) -> None:
    path = crank.folder / "a.py"
    path.write_text("from cronsched import after\n@after('5m', name='c')\ndef tick(): ...\n")
    path.chmod(0o644)
    crank.turn()
    crank.turn(PASS_PERIOD)
    statement = "SELECT state FROM sched_jobs WHERE schedule = 'c'"
    assert query(database, statement) == [("queued",)]
    execute(
        database,
        "UPDATE sched_jobs SET state = 'cancelled', finished_at = run_at WHERE schedule = 'c'",
    )
    crank.turn(PASS_PERIOD)
    assert query(database, f"{statement} ORDER BY planned_for") == [("cancelled",), ("queued",)]


def test_the_ledger_is_pruned_once_a_minute(crank: Crank, database: Database) -> None:
    crank.write(5)
    crank.turn()
    old = {"old": database.moment(datetime.now(UTC) - timedelta(days=99))}
    insert = "INSERT INTO sched_occurrences (schedule, planned_for, verdict) VALUES ('h', :old, 'succeeded')"
    count = "SELECT COUNT(*) FROM sched_occurrence_ranges"
    execute(database, insert, **old)
    crank.turn(PRUNE_PERIOD - 1)
    assert query(database, count) == [(0,)]
    crank.turn(1)
    assert query(database, count) == [(1,)]
    assert query(database, "SELECT 1 FROM sched_occurrences WHERE planned_for = :old", **old) == []
