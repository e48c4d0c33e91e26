"""Accepting jobs: one at a time, by many clients at once, in bulk, beside the drivers' own INSERT.

python -m benchmarks.enqueue [--rounds 5] [--jobs 2000] [--database postgresql]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.synchronize import Barrier
from typing import Any

from benchmarks import jobs
from benchmarks.databases import KINDS, fresh, server_settings
from benchmarks.measuring import Figures, in_turns, print_table
from benchmarks.rawsql import RawQueue

from cronqueue import configuration, enqueue_many, wakeup
from cronqueue.database import Database

BULK = 10_000
CLIENTS = 16
LISTENERS = 32


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--database", choices=KINDS, action="append")
    options = parser.parse_args()
    for kind in options.database or KINDS:
        with fresh(kind) as database:
            configuration.use_database(database)
            print(f"\n{kind}: {server_settings(database)}")
            _measure(database, options.jobs, options.rounds)


def _measure(database: Database, count: int, rounds: int) -> None:
    raw = RawQueue(database)
    task = jobs.nothing.name
    single = {
        "INSERT by hand": partial(_one_by_one, database, count, lambda: raw.insert(task)),
        "enqueue": partial(_one_by_one, database, count, jobs.nothing.enqueue),
        "enqueue, with a key": partial(_keyed, database, count),
    }
    print_table(in_turns(single, rounds), "jobs/s", "INSERT by hand")
    args = [f'{{"args":[{number}],"kwargs":{{}}}}' for number in range(BULK)]
    bulk = {
        "one statement by hand": partial(_bulk, database, lambda: raw.insert_many(task, args)),
        "enqueue_many": partial(
            _bulk, database, lambda: enqueue_many(jobs.nothing.call(n) for n in range(BULK))
        ),
    }
    print_table(in_turns(bulk, rounds), "jobs/s", "one statement by hand")
    raw.close()
    if database.is_postgresql:
        clients = {
            "without NOTIFY": partial(_clients, database, count, notify=False),
            "with NOTIFY": partial(_clients, database, count, notify=True),
        }
        print(f"\n{CLIENTS} clients at once, {LISTENERS} sessions that LISTEN")
        print_table(in_turns(clients, rounds), "jobs/s", "without NOTIFY")


def _one_by_one(database: Database, count: int, insert: Callable[[], object]) -> Figures:
    _clear(database)
    for _ in range(20):
        insert()
    began, cpu = time.monotonic(), time.process_time()
    for _ in range(count):
        insert()
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    return {"jobs/s": count / seconds, "client CPU µs/job": 1e6 * used / count}


def _keyed(database: Database, count: int) -> Figures:
    numbers = iter(range(count + 20))
    return _one_by_one(
        database, count, lambda: jobs.nothing.options(key=f"k{next(numbers)}").enqueue()
    )


def _bulk(database: Database, insert: Callable[[], object]) -> Figures:
    _clear(database)
    began, cpu = time.monotonic(), time.process_time()
    for _ in range(3):
        insert()
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    return {"jobs/s": 3 * BULK / seconds, "client CPU µs/job": 1e6 * used / 3 / BULK}


def _clients(database: Database, count: int, *, notify: bool) -> Figures:
    _clear(database)
    url = database.url.render_as_string(hide_password=False)
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(CLIENTS + 1)
    each = count // CLIENTS
    processes = [
        spawn.Process(target=_client, args=(url, each, notify, barrier)) for _ in range(CLIENTS)
    ]
    with _listening(database):
        for process in processes:
            process.start()
        barrier.wait()
        began = time.monotonic()
        barrier.wait()
        seconds = time.monotonic() - began
        for process in processes:
            process.join()
    return {"jobs/s": each * CLIENTS / seconds}


def _client(url: str, count: int, notify: bool, barrier: Barrier) -> None:
    """One process of those that enqueue at once."""
    configuration.use_database(Database(url))
    if not notify:
        wakeup.notify = lambda database: None
    jobs.nothing.enqueue()
    barrier.wait()
    for _ in range(count):
        jobs.nothing.enqueue()
    barrier.wait()


@contextmanager
def _listening(database: Database) -> Iterator[None]:
    """Sessions that hear every NOTIFY, as idle workers do."""
    listeners: list[Any] = [wakeup.PostgresListener(database) for _ in range(LISTENERS)]
    reader, writer = os.pipe()

    def hear() -> None:
        while True:
            ready = select.select([reader, *listeners], [], [])[0]
            if reader in ready:
                return
            for listener in ready:
                listener.drain()

    thread = threading.Thread(target=hear)
    thread.start()
    yield
    os.write(writer, b"x")
    thread.join()
    for listener in listeners:
        listener.close()


def _clear(database: Database) -> None:
    with database.autocommit() as connection:
        connection.exec_driver_sql(
            "TRUNCATE sched_jobs" if database.is_postgresql else "DELETE FROM sched_jobs"
        )


if __name__ == "__main__":
    main()
