"""`sched daemon` as a process: applies what is saved, ends cleanly, is not needed for what is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cronqueue.database import Database
from job_rows import WAITS_HERE, query

# Everything waited for comes within seconds; a machine under load may need many.
PATIENCE = 60.0
HOURLY = "from cronsched import hourly\n@hourly(minute={minute}, name='h')\ndef tick(): ...\n"
SECONDLY = """
from pathlib import Path
from cronsched import every
@every("1s", name="beat")
def beat():
    with Path({trace!r}).open("a") as trace:
        trace.write("beat\\n")
"""
HANGING = "import threading\nthreading.Event().wait()\n"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "schedules"
    made.mkdir()
    made.chmod(0o755)
    return made


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    """Start a command of `sched` on a database; whatever still runs at the end is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def run(command: str, url: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "cronsched.cli", command, "--schedules", str(folder)],
            cwd=folder.parent,
            env=os.environ | {"SCHED_DATABASE_URL": url},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def save(folder: Path, text: str) -> None:
    path = folder / "a.py"
    path.write_text(text)
    path.chmod(0o644)


def wait_for(database: Database, statement: str, wanted: object) -> None:
    """Until the statement returns what is wanted."""
    deadline = time.monotonic() + PATIENCE
    while (found := query(database, statement)) != wanted:
        assert time.monotonic() < deadline, f"{statement}: {found}, not {wanted}"
        time.sleep(0.02)


def test_a_saved_file_is_applied_and_the_daemon_ends_cleanly(
    database: Database, database_url: str, folder: Path, start: Start
) -> None:
    save(folder, HOURLY.format(minute=5))
    daemon = start("daemon", database_url)
    counts = "SELECT verdict, COUNT(*) FROM sched_ledger GROUP BY verdict ORDER BY verdict"
    wait_for(database, counts, [("queued", 24)])
    save(folder, HOURLY.format(minute=35) + "# longer\n")
    wait_for(database, counts, [("queued", 24), ("superseded", 24)])
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE) == 0
    assert query(database, "SELECT kind FROM sched_workers") == []


def test_hup_loads_again(database: Database, database_url: str, folder: Path, start: Start) -> None:
    save(folder, HOURLY.format(minute=5))
    daemon = start("daemon", database_url)
    applied = "SELECT COUNT(*) FROM sched_sources WHERE applied_at IS NOT NULL"
    wait_for(database, applied, [(1,)])
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE sched_sources SET applied_at = NULL")
    daemon.send_signal(signal.SIGHUP)
    wait_for(database, applied, [(1,)])


def test_a_daemon_that_loads_a_file_which_hangs_ends_at_once_when_told(
    database: Database, database_url: str, folder: Path, start: Start
) -> None:
    save(folder, HANGING)
    daemon = start("daemon", database_url)
    wait_for(database, "SELECT kind FROM sched_workers", [("daemon",)])
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0  # loading alone may take twice that long


def test_with_the_daemon_dead_what_is_written_runs(
    database: Database, database_url: str, folder: Path, start: Start, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    save(folder, SECONDLY.format(trace=str(trace)))
    daemon = start("daemon", database_url)
    wait_for(database, "SELECT COUNT(*) > 500 FROM sched_jobs", [(True,)])
    daemon.kill()
    daemon.wait()
    start("worker", database_url)
    wait_for(database, "SELECT COUNT(*) >= 3 FROM sched_jobs WHERE state = 'succeeded'", [(True,)])
    late = "SELECT COUNT(*) FROM sched_jobs WHERE state = 'succeeded' AND started_at < planned_for"
    assert query(database, late) == [(0,)]
    assert len(trace.read_text().splitlines()) >= 3


def test_a_second_signal_ends_a_daemon_that_waits_for_the_database(
    postgres_url: str, folder: Path, start: Start
) -> None:
    database = Database(postgres_url)
    save(folder, HOURLY.format(minute=5))
    # Nobody can say that he is there, or that he leaves.
    with database.begin() as holder:
        holder.exec_driver_sql("LOCK TABLE sched_workers IN ACCESS EXCLUSIVE MODE")
        daemon = start("daemon", postgres_url)
        wait_for(database, f"SELECT COUNT(*) {WAITS_HERE}", [(1,)])
        deadline = time.monotonic() + PATIENCE
        while daemon.poll() is None and time.monotonic() < deadline:
            daemon.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert daemon.returncode == -signal.SIGTERM
    database.dispose()
