"""The midnight herd: occurrences of as many schedules due in one second, and two workers.

    python -m benchmarks.herd [--rounds 3] [--schedules 10000] [--database postgresql]

Each worker is a `sched worker` with its defaults, one process of 8 threads; the task does nothing. What is
told is how long after the second the last job had started, and had its end written.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from benchmarks.databases import KINDS, fresh, server_settings
from sqlalchemy import text

from cronqueue import job
from cronqueue.clock import utcnow
from cronqueue.columns import Instant
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.manifest import SourceFile, make_manifest
from cronsched.reconcile import apply
from cronsched.triggers import Once

WORKERS = 2
# Until the second comes: the workers have started and found nothing, and the rows are written.
LEAD = timedelta(seconds=10)
LOADING = timedelta(milliseconds=2)
PATIENCE = 120.0


@job(name="benchmark.nothing")
def nothing() -> None:
    """What the jobs do."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--database", choices=KINDS, action="append")
    options = parser.parse_args()
    for kind in options.database or KINDS:
        rounds = [_round(kind, options.schedules) for _ in range(options.rounds)]
        for what, seconds in zip(("started", "ended"), zip(*rounds, strict=True), strict=True):
            told = ", ".join(f"{each:.2f}" for each in sorted(seconds))
            middle = statistics.median(seconds)
            print(f"  all {options.schedules} {what} after {middle:.2f} s  [{told}]")
    print(f"\n{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")


def _round(kind: str, count: int) -> tuple[float, float]:
    with fresh(kind) as database, ExitStack() as stack:
        print(f"{kind}: {server_settings(database)}", flush=True)
        for _ in range(WORKERS):
            stack.enter_context(_worker(database))
        due = _write_ahead(database, count)
        _wait_for(database, "SELECT COUNT(*) FROM sched_workers", WORKERS)
        if utcnow() >= due:
            raise SystemExit("this machine is too busy to write the rows in time")
        _wait_for(database, "SELECT COUNT(*) FROM sched_jobs WHERE state = 'succeeded'", count)
        return _how_late(database, due)


def _write_ahead(database: Database, count: int) -> datetime:
    """Write a job for each of so many schedules, all for the same second, which is returned."""
    due = (utcnow() + LEAD + LOADING * count).replace(microsecond=0)
    made = [
        Definition(f"s{number:05}", nothing.name, Once((due,)), source="a.py", line=1)
        for number in range(count)
    ]
    source = SourceFile("a.py", "a.py", "hash")
    apply(database, make_manifest(made, (), [source]), Settings())
    return due


@contextmanager
def _worker(database: Database) -> Iterator[None]:
    """A worker with its defaults, ended when this ends."""
    environment = os.environ | {
        "SCHED_DATABASE_URL": database.url.render_as_string(hide_password=False),
        "SCHED_IMPORTS": "benchmarks.herd",
        "QUIET": "1",
    }
    command = [sys.executable, "-m", "cronsched.cli", "worker"]
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parent.parent)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for(database: Database, counting: str, wanted: int) -> None:
    """Look twice a second: more often would be in the way of what is measured."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with database.snapshot() as connection:
            if connection.execute(text(counting)).scalar_one() >= wanted:
                return
        time.sleep(0.5)
    raise SystemExit(f"not {wanted} within {PATIENCE:.0f} s: {counting}")


def _how_late(database: Database, due: datetime) -> tuple[float, float]:
    """Seconds from when they were due to the last claim, and to the last end."""
    statement = text("SELECT MAX(started_at) AS started, MAX(finished_at) AS ended FROM sched_jobs")
    with database.snapshot() as connection:
        row = connection.execute(statement.columns(started=Instant(), ended=Instant())).one()
    return (row.started - due).total_seconds(), (row.ended - due).total_seconds()


if __name__ == "__main__":
    main()
