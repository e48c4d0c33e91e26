"""Jobs that do nothing, from a full queue to an empty one, beside claim and finish by hand.

python -m benchmarks.drain [--rounds 5] [--jobs 20000] [--database postgresql]
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import datetime
from functools import partial

from benchmarks import jobs
from benchmarks.databases import KINDS, fresh, server_settings
from benchmarks.measuring import Contender, Figures, cpu_seconds, in_turns, print_table
from benchmarks.rawsql import NO_ARGS, RawQueue
from benchmarks.workers import wait_until, worker

from cronqueue.database import Database

BY_HAND = "by hand, batches of 100"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--database", choices=KINDS, action="append")
    options = parser.parse_args()
    for kind in options.database or KINDS:
        with fresh(kind) as database:
            print(f"\n{kind}: {server_settings(database)}")
            contenders: dict[str, Contender] = {
                BY_HAND: partial(by_hand, database, options.jobs),
                "cronqueue, as it comes": partial(drain, database, options.jobs),
            }
            print_table(in_turns(contenders, options.rounds), "jobs/s", BY_HAND)
            two: dict[str, Contender] = {
                f"{count} of 200 µs of CPU": partial(
                    drain, database, options.jobs // 4, jobs.spin.name, processes=count
                )
                for count in (1, 2)
            }
            print("\nexecutor processes")
            print_table(in_turns(two, options.rounds), "jobs/s", "1 of 200 µs of CPU")


def drain(
    database: Database, count: int, task: str = jobs.nothing.name, **settings: object
) -> Figures:
    """What a worker takes for so many jobs that become due at once while it waits."""
    raw = RawQueue(database)
    _clear(raw)
    with worker(database, **settings) as pid:
        before = cpu_seconds(pid), _sessions(raw)
        fill(raw, count, task)
        written = _written(raw)
        wait_until(lambda: _is_done(raw, count))
        used = cpu_seconds(pid) - before[0]
        figures = {"jobs/s": count / _seconds(raw), "worker CPU µs/job": 1e6 * used / count}
        if database.is_postgresql:
            spent = sum(cpu - before[1].get(each, 0) for each, cpu in _sessions(raw).items())
            figures["server CPU µs/job"] = 1e6 * spent / count
            figures |= _per_job(written, _written(raw), count)
    raw.close()
    return figures


def fill(raw: RawQueue, count: int, task: str = jobs.nothing.name) -> None:
    """Make so many jobs due in one transaction, and tell the workers."""
    raw.insert_many(task, [NO_ARGS] * count)
    if raw.is_postgresql:
        raw.connection.execute("NOTIFY sched_jobs")


def is_empty(raw: RawQueue) -> bool:
    """Whether nothing waits or runs."""
    left = "SELECT EXISTS (SELECT 1 FROM sched_jobs WHERE state = '{}')"
    return not any(raw.one(left.format(state)) for state in ("queued", "running"))


def settle(raw: RawQueue) -> None:
    """The table as autovacuum would have it, and no flush pending."""
    if raw.is_postgresql:
        raw.connection.execute("VACUUM ANALYZE sched_jobs")
        raw.connection.execute("CHECKPOINT")
    else:
        raw.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def elapsed(first: datetime | str, last: datetime | str) -> float:
    """Seconds between two times as the driver gives them."""
    started, ended = (
        datetime.fromisoformat(each) if isinstance(each, str) else each for each in (first, last)
    )
    return (ended - started).total_seconds()


def by_hand(database: Database, count: int) -> Figures:
    """What one connection takes for as many, batch by batch."""
    raw = RawQueue(database)
    _clear(raw)
    fill(raw, count)
    server = raw.connection.info.backend_pid if raw.is_postgresql else None
    written, cpu = _written(raw), cpu_seconds(os.getpid())
    spent = cpu_seconds(server) if server else 0.0
    began = time.monotonic()
    assert raw.drain() == count
    seconds = time.monotonic() - began
    figures = {
        "jobs/s": count / seconds,
        "worker CPU µs/job": 1e6 * (cpu_seconds(os.getpid()) - cpu) / count,
    }
    if server:
        figures["server CPU µs/job"] = 1e6 * (cpu_seconds(server) - spent) / count
        figures |= _per_job(written, _written(raw), count)
    raw.close()
    return figures


def _clear(raw: RawQueue) -> None:
    raw.connection.execute("TRUNCATE sched_jobs" if raw.is_postgresql else "DELETE FROM sched_jobs")
    settle(raw)


def _is_done(raw: RawQueue, count: int) -> bool:
    if not is_empty(raw):
        return False
    ended: int = raw.one(
        "SELECT COUNT(*) FROM sched_jobs WHERE state = 'succeeded' AND attempts = 1"
    )
    return ended >= count


def _seconds(raw: RawQueue) -> float:
    """From the first claim to the last finish."""
    first, last = (
        raw.one(f"SELECT {what} FROM sched_jobs WHERE started_at IS NOT NULL")
        for what in ("MIN(started_at)", "MAX(finished_at)")
    )
    return elapsed(first, last)


def _sessions(raw: RawQueue) -> dict[int, float]:
    """CPU seconds of the server's processes that work for us, by their ids."""
    if not raw.is_postgresql:
        return {}
    rows = raw.connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'sched%'"
    )
    return {pid: cpu_seconds(pid) for (pid,) in rows}


def _written(raw: RawQueue) -> tuple[float, float]:
    """Transactions and bytes of the log so far."""
    if not raw.is_postgresql:
        return 0.0, 0.0
    raw.connection.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
    commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    wal = "SELECT CAST(pg_current_wal_lsn() - '0/0' AS float8)"
    return raw.one(commits), raw.one(wal)


def _per_job(before: tuple[float, float], after: tuple[float, float], count: int) -> Figures:
    commits, wal = (later - earlier for earlier, later in zip(before, after, strict=True))
    return {"commits/job": commits / count, "WAL B/job": wal / count}


if __name__ == "__main__":
    main()
