"""From the commit to the function's first line, and how late delayed jobs are, in an idle worker.

    python -m benchmarks.latency [--rounds 3] [--jobs 200] [--database postgresql]

By hand is a process that sleeps in LISTEN (on SQLite it polls every 5 ms) and claims one job. Each job comes
a moment after the one before has begun, so that the worker is idle.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import jobs
from benchmarks.databases import KINDS, fresh, server_settings
from benchmarks.measuring import Contender, Figures, in_turns, percentiles, print_table
from benchmarks.rawsql import RawQueue
from benchmarks.workers import worker

from cronqueue import configuration
from cronqueue.database import Database

BY_HAND = "by hand"
# Longer than a worker stays awake after a job.
PAUSE = 0.05
# Delays, in seconds: from below to beyond how often an idle worker looks anyway.
DELAYS = (0.2, 3.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--database", choices=KINDS, action="append")
    options = parser.parse_args()
    for kind in options.database or KINDS:
        with fresh(kind) as database, _starts() as starts:
            configuration.use_database(database)
            print(f"\n{kind}: {server_settings(database)}")
            contenders: dict[str, Contender] = {
                BY_HAND: partial(_by_hand, database, options.jobs, starts),
                "cronqueue": partial(_pick_up, database, options.jobs, starts),
            }
            found = in_turns(contenders, options.rounds)
            print_table(found, "p50 ms", BY_HAND)
            delayed = {"delayed": partial(_delayed, database, options.jobs, starts)}
            print_table(in_turns(delayed, options.rounds), "p50 ms", "delayed")


def _pick_up(database: Database, count: int, starts: _Starts) -> Figures:
    with _warm_worker(database, starts):
        return percentiles(
            [
                starts.after(number, partial(jobs.tell_start.enqueue, number))
                for number in range(count)
            ]
        )


@contextmanager
def _warm_worker(database: Database, starts: _Starts) -> Iterator[None]:
    """A worker that has imported the task's module and made its connections."""
    with worker(database):
        for number in range(-3, 0):
            starts.after(number, partial(jobs.tell_start.enqueue, number))
        yield


def _by_hand(database: Database, count: int, starts: _Starts) -> Figures:
    url = database.url.render_as_string(hide_password=False)
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, "serve", url], cwd=Path(__file__).parent.parent
    )
    raw = RawQueue(database)

    def insert(number: int) -> None:
        raw.insert(f"raw:{number}")
        if raw.is_postgresql:
            raw.connection.execute("NOTIFY sched_jobs")

    try:
        for number in range(-3, 0):
            starts.after(number, partial(insert, number))
        return percentiles([starts.after(each, partial(insert, each)) for each in range(count)])
    finally:
        process.terminate()
        process.wait()
        raw.close()


def serve(url: str) -> None:
    """Claim and finish one job at a time, and say when each began."""
    database = Database(url)
    raw, listener = RawQueue(database), RawQueue(database)
    if raw.is_postgresql:
        listener.connection.execute("LISTEN sched_jobs")
    while True:
        done, token = raw.exchange([], "", 1)
        if done:
            task = raw.one(f"SELECT task FROM sched_jobs WHERE id = {done[0]}")
            jobs.tell_start(int(task.removeprefix("raw:")))
            raw.exchange(done, token, 0)
        elif raw.is_postgresql:
            next(listener.connection.notifies(timeout=60, stop_after=1), None)
        else:
            time.sleep(0.005)


def _delayed(database: Database, count: int, starts: _Starts) -> Figures:
    """How late each began; below zero it would be too early."""
    with _warm_worker(database, starts), ThreadPoolExecutor(1) as hearing:
        # Heard meanwhile: the kernel keeps a handful, and a job that nobody hears keeps its place.
        heard = hearing.submit(lambda: dict(starts.next() for _ in range(count)))
        due = {}
        for number in range(count):
            options = jobs.tell_start.options(delay=random.uniform(*DELAYS))
            due[number] = options.enqueue(number).run_at.timestamp()
            time.sleep(0.01)
        began = heard.result()
    return percentiles([began[number] - due[number] for number in range(count)])


class _Starts:
    """Hears when jobs began."""

    def __init__(self, heard: socket.socket) -> None:
        self._heard = heard
        heard.settimeout(30)

    def after(self, number: int, enqueue: Callable[[], object]) -> float:
        """Seconds from when `enqueue` returned to the start of that job."""
        time.sleep(PAUSE * random.uniform(0.8, 1.2))
        enqueue()
        committed = time.time()
        while True:
            started, began = self.next()
            if started == number:
                return began - committed

    def next(self) -> tuple[int, float]:
        """The number of the next one, and when."""
        number, began = self._heard.recv(100).split()
        return int(number), float(began)


@contextmanager
def _starts() -> Iterator[_Starts]:
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard,
    ):
        os.environ["BENCH_SOCKET"] = f"{folder}/starts"
        heard.bind(os.environ["BENCH_SOCKET"])
        yield _Starts(heard)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["serve"] else main()
