"""A `sched worker` beside us, on the database that is measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measuring import children

from cronqueue.database import Database

PATIENCE = 120.0
# What a worker does in its first moments is not what is measured.
_SETTLING = 3.0


@contextmanager
def worker(database: Database, **settings: object) -> Iterator[int]:
    """A worker that waits for jobs, by its process id; settings by name."""
    environment = os.environ | {
        "SCHED_DATABASE_URL": database.url.render_as_string(hide_password=False),
        "SCHED_IMPORTS": "benchmarks.jobs",
        "QUIET": "1",
        **{f"SCHED_{name.upper()}": str(value) for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "cronsched.cli", "worker"]
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parent.parent)
    try:
        wait_until(lambda: len(children(process.pid)) > 0)
        time.sleep(_SETTLING)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Look a few times a second: more often would be in the way of what is measured."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing came of it within {PATIENCE:.0f} s")
        time.sleep(0.2)
