"""`sched doctor`: each thing that an installation rests on, when it is in order and when it is not."""

from __future__ import annotations

import shutil
from collections import namedtuple
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from command import Project
from cronqueue.database import Database
from cronsched import doctor
from cronsched.doctor import Finding, examine
from job_rows import add, execute, now


def found(database: Database, subject: str) -> Finding:
    (finding,) = [each for each in examine(database) if each.subject == subject]
    return finding


def a_worker(database: Database, version: str = "other", **limits: Any) -> None:
    at = {"now": database.moment(now())}
    values = {"queues": None, "min_priority": None, "max_priority": None} | limits
    execute(
        database,
        "INSERT INTO sched_workers (id, kind, name, host, pid, version, state, queues, min_priority,"
        " max_priority, started_at, heartbeat_at) VALUES"
        " ('w', 'worker', 'w', 'h', 7, :version, 'running', :queues, :min_priority, :max_priority,"
        " :now, :now)",
        version=version,
        **values,
        **at,
    )


def test_of_a_sound_database_nothing_is_wrong(project: Project, database: Database) -> None:
    document = project.data("doctor")
    assert document["ok"]
    assert {each["verdict"] for each in document["findings"]} <= {"ok", "warning"}
    assert [each["subject"] for each in document["findings"]][:3] == ["database", "schema", "clock"]
    assert "REMEDY" in project.run("doctor").stdout


def test_a_file_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new.db")
    assert [each.verdict for each in examine(database)] == ["ok", "ok"]
    database.dispose()


def test_a_server_that_may_lose_accepted_jobs_is_told_of(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.snapshot() as connection:
        fsync = connection.execute(text("SHOW fsync")).scalar()
    finding = found(database, "database")
    assert (finding.verdict == "warning") == (fsync == "off")
    assert ("fsync" in finding.message) == (fsync == "off")
    database.dispose()


def test_a_schema_of_another_release_is_wrong_and_nothing_more_is_looked_at(
    project: Project, database: Database
) -> None:
    execute(database, "UPDATE sched_schema_version SET version_num = '9999'")
    findings = project.data("doctor", code=4)["findings"]
    assert findings[-1]["subject"] == "schema"
    assert findings[-1]["verdict"] == "wrong"


@pytest.mark.parametrize(("away", "verdict"), [(0, "ok"), (5, "warning"), (60, "wrong")])
def test_a_clock_away_from_the_databases_is_told_of(
    database: Database, monkeypatch: pytest.MonkeyPatch, away: int, verdict: str
) -> None:
    answer = database.server_now
    monkeypatch.setattr(database, "server_now", lambda: answer() - timedelta(seconds=away))
    assert found(database, "clock").verdict == verdict


def test_workers_of_another_release_are_named(database: Database) -> None:
    assert found(database, "versions").verdict == "ok"
    a_worker(database, version="0.0.1")
    assert "worker w has 0.0.1" in found(database, "versions").message


@pytest.mark.parametrize(
    "limits", [{"queues": "mail"}, {"min_priority": 6}, {"max_priority": 4}, {"queues": "a,b"}]
)
def test_jobs_that_no_worker_takes_are_counted(database: Database, limits: dict[str, Any]) -> None:
    a_worker(database, **limits)
    assert found(database, "coverage").verdict == "ok"
    add(database, queue="slow", priority=5)
    finding = found(database, "coverage")
    assert finding.verdict == "wrong"
    assert "1 of queue slow with priority 5" in finding.message


def test_a_transaction_that_stays_open_is_told_of(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres_url)
    assert found(database, "log").verdict == "ok"
    monkeypatch.setattr(doctor, "LONG_TRANSACTION", timedelta(0))
    with database.begin() as connection:
        connection.execute(text("SELECT 1"))
        assert "has kept a transaction open" in found(database, "log").message
    database.dispose()


def test_a_full_disk_is_told_of(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(sqlite_url)
    usage = namedtuple("usage", ("total", "used", "free"))
    for free, verdict in ((2**40, "ok"), (2**29, "warning"), (2**20, "wrong")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(0, 0, free))
        assert found(database, "disk").verdict == verdict
    database.dispose()


def test_a_journal_that_is_no_write_ahead_log_is_wrong(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(sqlite_url)
    assert found(database, "log").verdict == "ok"
    monkeypatch.setattr(doctor, "LARGE_WAL", -1)
    assert found(database, "log").verdict == "warning"
    database.dispose()
