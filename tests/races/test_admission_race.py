"""Sixteen workers on fifty guards, some of them killed: no two runs of a guard overlap, and none is stuck."""

import random
import threading
import time
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Connection, text

from cronqueue.admission import admit
from cronqueue.claim import Band, Claimant, claim, find_lanes, new_token
from cronqueue.database import Database, is_transient
from cronqueue.finish import Finished, finish
from cronqueue.rescue import rescue
from cronqueue.retry import Verdict
from cronsched.options import Overlap
from job_rows import now, query

GUARDS = 50
WORKERS = 16
PATIENCE = 120.0
LEASE = timedelta(minutes=10)
DEFINITION = (
    '{{"overlap": "{overlap}", "catch_up": "all", "catch_up_window": null, "catch_up_limit": null,'
    ' "misfire_after": 60}}'
)
_SCHEDULE = text(
    "INSERT INTO sched_schedules (name, source, definition, fingerprint, timing_hash, payload_hash, tz,"
    " valid_from, materialized_until, refill_at, created_at, updated_at)"
    " VALUES (:name, 'a.py', :definition, '', '', '', 'UTC', :at, :at, :at, :at, :at)"
)
_JOB = text(
    "INSERT INTO sched_jobs (task, schedule, guard, gated, planned_for, run_at, origin)"
    " VALUES ('t', :name, :name, true, :at, :at, 'schedule')"
)


class Runs:
    """Which guards are inside a body at this moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: Counter[str] = Counter()
        self.overlaps = 0
        self.done = 0

    def enter(self, guard: str) -> None:
        with self._lock:
            self._inside[guard] += 1
            self.overlaps += self._inside[guard] > 1

    def leave(self, guard: str) -> None:
        with self._lock:
            self._inside[guard] -= 1
            self.done += 1


@pytest.mark.parametrize("overlap", ["queue_all", "skip"])
def test_sixteen_workers_on_fifty_guards_never_overlap(database_url: str, overlap: Overlap) -> None:
    # SQLite has one writer: as many rounds there would take a minute.
    each = 10 if database_url.startswith("postgresql") else 4
    database = Database(database_url, pool_size=WORKERS + 1)
    database.write(lambda connection: _write(connection, database, overlap, each))
    runs, stop = Runs(), threading.Event()
    threads = [
        threading.Thread(target=_work, args=(database, f"w{number}", runs, stop))
        for number in range(WORKERS)
    ]
    for thread in threads:
        thread.start()
    give_up_at = time.monotonic() + PATIENCE
    unfinished = "SELECT COUNT(*) FROM sched_jobs WHERE state IN ('queued', 'held', 'running')"
    while query(database, unfinished) != [(0,)] and time.monotonic() < give_up_at:
        rescue(database)
        stop.wait(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    left = query(database, "SELECT state, COUNT(*) FROM sched_jobs GROUP BY state")
    assert left == [("succeeded", GUARDS * each)]
    assert runs.overlaps == 0
    database.dispose()


def _write(connection: Connection, database: Database, overlap: Overlap, each: int) -> None:
    at = database.moment(now() - timedelta(hours=1))
    definition = DEFINITION.format(overlap=overlap)
    for number in range(GUARDS):
        names = {"name": f"s{number}", "definition": definition, "at": at}
        connection.execute(_SCHEDULE, names)
        for minute in range(each):
            moment = database.moment(now() - timedelta(minutes=each - minute))
            connection.execute(_JOB, {"name": f"s{number}", "at": moment})


def _work(database: Database, name: str, runs: Runs, stop: threading.Event) -> None:
    draw = random.Random(name)
    freed: set[str] = set()
    while not stop.is_set():
        try:
            freed = set(admit(database, freed).busy)
            freed |= _turn(database, name, runs, draw)
        except Exception as error:
            if not is_transient(error):
                raise


def _turn(database: Database, name: str, runs: Runs, draw: random.Random) -> set[str]:
    """Claim one job, run it, hand it in; now and then be killed within, with its lock left behind."""
    with database.begin() as connection:
        lanes = find_lanes(database, connection, Band())
        jobs = claim(database, connection, lanes, 1, Claimant(name, name, LEASE), new_token())
    for job in jobs:
        guard = str(job.guard)
        runs.enter(guard)
        time.sleep(0.002)  # the body
        killed = job.attempt == 1 and draw.random() < 0.05
        runs.leave(guard)
        if killed:
            _let_its_lease_run_out(database, job.id)
            return set()
        verdict = Verdict("succeeded")
        if draw.random() < 0.1:
            verdict = Verdict("queued", delay=0.01, error="boom", attempt_outcome="failed")
        done = [Finished(job.id, job.lock_token, job.attempt, verdict)]
        database.write(partial(finish, database, batch=done))
    return {str(job.guard) for job in jobs}


def _let_its_lease_run_out(database: Database, id: int) -> None:
    """At once: on a slow machine a short lease would take jobs from workers that live."""
    past = {"id": id, "at": database.moment(now() - timedelta(seconds=1))}
    lapse = text("UPDATE sched_jobs SET locked_until = :at WHERE id = :id")
    database.write(lambda connection: connection.execute(lapse, past))
