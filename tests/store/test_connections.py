"""How databases are connected to."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from cronqueue import Job, enqueue, job, schema
from cronqueue.database import Database
from cronqueue.testing import SchedQueue
from cronqueue.wakeup import notify
from job_rows import configured, execute, query


def test_the_name_in_the_url_is_the_one_that_the_server_shows(postgres_url: str) -> None:
    for url, name in (
        (make_url(postgres_url), "sched"),
        (make_url(postgres_url).update_query_dict({"application_name": "shop"}), "shop"),
    ):
        database = Database(url)
        assert query(database, "SELECT current_setting('application_name')") == [(name,)]
        database.dispose()


def test_a_new_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "sched.db"
    before = os.umask(0)
    try:
        database = Database(f"sqlite:///{path}")
        schema.upgrade(database)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        database.dispose()
    finally:
        os.umask(before)
    assert modes == {"sched.db": 0o600, "sched.db-wal": 0o600, "sched.db-shm": 0o600}


def test_a_new_sqlite_file_may_be_written_to_while_it_is_opened_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sched.db"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE already (here INTEGER)")
        other.execute("BEGIN IMMEDIATE")  # before there is a write-ahead log
        database = Database(f"sqlite:///{path}")
        refused = threading.Event()

        def note(*_: float) -> float:
            refused.set()
            return 0.0

        monkeypatch.setattr("cronqueue.engines.random.uniform", note)
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(schema.require, database)
            refused.wait(10)
            other.execute("COMMIT")
            opening.result()
    assert schema.current(database).fit == "ok"
    database.dispose()


def test_a_file_that_replaces_the_own_is_gone_over_to_and_one_that_is_gone_is_not_left(
    sqlite_url: str,
) -> None:
    path = Path(str(make_url(sqlite_url).database))
    backup, aside = path.with_name("backup.db"), path.with_name("aside")
    shutil.copy(path, backup)
    aside.mkdir()
    database = Database(sqlite_url)
    execute(database, "INSERT INTO sched_queues (name, paused_at) VALUES ('new', '2026')")

    for each in path.parent.glob("sched.db*"):  # its log belongs to it
        each.rename(aside / each.name)
    assert query(database, "SELECT name FROM sched_queues") == [("new",)]
    backup.rename(path)
    assert query(database, "SELECT name FROM sched_queues") == []
    database.dispose()


def test_an_sqlite_file_that_is_there_keeps_its_permissions(sqlite_url: str) -> None:
    path = Path(str(make_url(sqlite_url).database))
    path.chmod(0o660)
    database = Database(sqlite_url)
    schema.require(database)
    database.dispose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_session_has_limits_of_time_so_that_who_is_cut_off_keeps_no_locks(
    postgres_url: str,
) -> None:
    database = Database(postgres_url)
    limits = {
        "statement_timeout": "30s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "1min",
    }
    for name, limit in limits.items():
        assert query(database, f"SELECT current_setting('{name}')") == [(limit,)]
    database.dispose()


def test_a_servers_own_defaults_change_neither_what_is_read_nor_how_it_is_isolated(
    postgres_url: str,
) -> None:
    database = Database(postgres_url)
    name = database.url.database
    for setting in (
        "datestyle = 'German, DMY'",
        "timezone = 'Asia/Kathmandu'",
        "default_transaction_isolation = 'serializable'",
    ):
        execute(database, f'ALTER DATABASE "{name}" SET {setting}')
    database.dispose()

    with configured(database):
        sent = enqueue("mail.welcome", run_at=datetime(2026, 3, 1, 12, tzinfo=UTC))
        found = Job.get(sent.id)
    assert found is not None
    assert found.run_at == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert query(database, "SHOW transaction_isolation") == [("read committed",)]
    database.dispose()


def test_an_error_of_the_database_does_not_tell_what_was_sent(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught:
        execute(database, "INSERT INTO nowhere (args) VALUES (:args)", args="canary")
    assert "canary" not in str(caught.value)


def test_no_log_line_has_an_argument_in_it(
    sched_queue: SchedQueue, caplog: pytest.LogCaptureFixture
) -> None:
    @job(name="quiet", max_attempts=2)
    def quiet(what: str, *, fails: bool) -> None:
        if fails:
            raise ValueError

    caplog.set_level(logging.DEBUG)
    quiet.enqueue("canary", fails=False)
    quiet.enqueue("canary", fails=True)
    sched_queue.drain()
    assert caplog.records != []
    assert "canary" not in caplog.text


def test_a_hint_that_no_thread_can_be_had_for_fails_nobody(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    database = Database(postgres_url)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        notify(database)
    notify(database)
    database.dispose()
