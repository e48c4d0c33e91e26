"""10,000 schedules: loading, passes, starts and the gate, beside plain SQL and APScheduler.

    python -m benchmarks.schedules [--rounds 3] [--schedules 10000] [--database postgresql]

Each round measures everything once on each database, one after the other, so that what else the machine
does falls on all alike. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from benchmarks.by_hand import write_due
from benchmarks.databases import KINDS, fresh, server_settings
from benchmarks.peers import (
    let_through,
    loaded_apscheduler,
    process_due,
    write_same_rows,
)
from sqlalchemy import text

from cronqueue.admission import admit
from cronqueue.clock import ManualClock
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.manifest import Manifest, SourceFile, make_manifest
from cronsched.materializer import top_up
from cronsched.reconcile import apply
from cronsched.triggers import Cron

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SETTINGS = Settings()
# Of a hundred schedules: what people have, mostly hourly and daily.
MIX = (
    (1, "{m}-59/5 * * * *", 5),
    (4, "{m}-59/15 * * * *", 15),
    (25, "{m} * * * *", 60),
    (50, "{m} 3 * * *", 60),
    (20, "{m} 3 * * 1", 60),
)
LATE = 60

# What was measured, by what it is called.
Figures = dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--database", choices=KINDS, action="append")
    options = parser.parse_args()
    kinds = tuple(options.database or KINDS)
    rounds: dict[str, list[Figures]] = {kind: [] for kind in kinds}
    loads = [os.getloadavg()[0]]
    for number in range(options.rounds):
        for kind in kinds:
            rounds[kind].append(_round(kind, options.schedules, show=number == 0))
            loads.append(os.getloadavg()[0])
    for kind in kinds:
        _print(kind, rounds[kind])
    print(f"\n{os.cpu_count()} CPUs, load {min(loads):.1f} to {max(loads):.1f} meanwhile")


def mixed(count: int) -> Manifest:
    """Schedules of mixed periods, spread over the minutes."""
    patterns = [(rule, span) for share, rule, span in MIX for _ in range(share)]
    made = []
    for number in range(count):
        rule, span = patterns[number % len(patterns)]
        trigger = Cron(rule.format(m=number // len(patterns) % span))
        made.append(Definition(f"s{number:05}", "t", trigger, source="a.py", line=1))
    return make_manifest(made, (), [SourceFile("a.py", "a.py", "hash")])


def _round(kind: str, count: int, *, show: bool) -> Figures:
    figures: Figures = {}
    with fresh(kind, ManualClock(NOW)) as database:
        if show:
            print(f"{kind}: {server_settings(database)}", flush=True)
        _measure_passes(database, count, figures)
    with fresh(kind, ManualClock(NOW)) as database:
        _measure_gate(database, count, figures)
    with fresh(kind) as database, loaded_apscheduler(database, count) as scheduler:
        figures["APScheduler: all due, s"] = process_due(scheduler)
    by_hand = figures["pass, all due, rows/s"] / figures["by hand, all due, rows/s"]
    figures["rows/s of a pass / by hand"] = by_hand
    pass_, aps = figures["pass, all due, s"], figures["APScheduler: all due, s"]
    figures["pass, all due / plain SQL"] = pass_ / figures["plain SQL, same rows, s"]
    for name in [name for name in figures if name.startswith("admission")]:
        plain = name.replace("admission", "plain SQL")
        figures[f"{name.removesuffix(', s')} / plain SQL"] = figures[name] / figures[plain]
    figures["schedules/s of a pass / jobs/s of APScheduler"] = aps / pass_
    figures["rows/s of a pass / jobs/s of APScheduler"] = (
        figures["pass, all due, rows/s"] * aps / count
    )
    return figures


def _measure_passes(database: Database, count: int, figures: Figures) -> None:
    manifest = mixed(count)
    with _seconds(figures, "full load, s"):
        apply(database, manifest, SETTINGS)
    figures["full load, rows"] = rows = _rows(database)
    figures["full load, rows/s"] = rows / figures["full load, s"]
    with _seconds(figures, "start, nothing changed, s"):
        apply(database, manifest, SETTINGS)
    figures["pass, nothing due, ms"] = 1000 * _median(partial(top_up, database, SETTINGS))
    _make_due(database, 10)
    with _seconds(figures, "pass, 10 due, ms"):
        top_up(database, SETTINGS)
    figures["pass, 10 due, ms"] *= 1000
    now = _a_day_later(database, count)
    rows = _rows(database)
    figures["by hand, all due, s"] = seconds = write_due(database, now, SETTINGS.horizon)
    figures["by hand, all due, rows/s"] = (_rows(database) - rows) / seconds
    _a_day_later(database, count)
    rows = _rows(database)
    with _seconds(figures, "pass, all due, s"):
        top_up(database, SETTINGS)
    written = _rows(database) - rows
    figures["pass, all due, rows"] = written
    figures["pass, all due, rows/s"] = written / figures["pass, all due, s"]
    figures["plain SQL, same rows, s"] = write_same_rows(database, rows)


def _a_day_later(database: Database, count: int) -> datetime:
    """A day without a daemon: every schedule is due."""
    assert isinstance(database.clock, ManualClock)
    database.clock.time += timedelta(days=1)
    _make_due(database, count)
    return database.clock.time


def _measure_gate(database: Database, count: int, figures: Figures) -> None:
    """All due at once; then what an hour without workers leaves of every-minute schedules."""
    apply(database, mixed(count), Settings(horizon=timedelta(0)))
    _clear(database)
    for what, guards, each in (("due at once", count, 1), ("late rows", count * 6 // LATE, LATE)):
        for plain in (False, True):
            _put_due(database, guards, each)
            name = f"{'plain SQL' if plain else 'admission'}, {guards * each} {what}, s"
            with _seconds(figures, name):
                let_through(database) if plain else _admit_all(database)
            _clear(database)


def _admit_all(database: Database) -> None:
    while admit(database).more:
        pass


def _put_due(database: Database, guards: int, each: int) -> None:
    """One due job for each of so many guards, or many of them, a minute apart."""
    rows = [
        {
            "name": f"s{guard:05}",
            "at": database.moment(NOW - timedelta(minutes=late, microseconds=guard)),
        }
        for late in range(1, each + 1)
        for guard in range(guards)
    ]
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO sched_jobs (task, schedule, guard, gated, planned_for, run_at, origin)"
                " VALUES ('t', :name, :name, true, :at, :at, 'schedule')"
            ),
            rows,
        )
        connection.execute(
            text(
                "INSERT INTO sched_occurrences (schedule, planned_for, job_id)"
                " SELECT schedule, planned_for, id FROM sched_jobs"
            )
        )
    _analyze(database)


def _clear(database: Database) -> None:
    with database.begin() as connection:
        for table in ("sched_jobs", "sched_occurrences"):
            connection.execute(text(f"DELETE FROM {table}"))
    _analyze(database)


def _analyze(database: Database) -> None:
    """As autovacuum does between two such days."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE" if database.is_postgresql else "ANALYZE")


def _make_due(database: Database, count: int) -> None:
    statement = text("UPDATE sched_schedules SET refill_at = :at WHERE name < :name")
    with database.begin() as connection:
        at = database.moment(NOW)
        connection.execute(statement, {"at": at, "name": f"s{count:05}"})
    _analyze(database)


def _rows(database: Database) -> int:
    with database.snapshot() as connection:
        found: int = connection.execute(text("SELECT COUNT(*) FROM sched_jobs")).scalar_one()
    return found


def _median(work: Callable[[], object]) -> float:
    times = []
    for _ in range(20):
        began = time.monotonic()
        work()
        times.append(time.monotonic() - began)
    return statistics.median(times)


@contextmanager
def _seconds(figures: Figures, name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    figures[name] = time.monotonic() - began


def _print(kind: str, rounds: list[Figures]) -> None:
    print(f"\n{kind}, median of {len(rounds)} rounds [least to most]")
    for name in rounds[0]:
        values = sorted(figures[name] for figures in rounds)
        middle = statistics.median(values)
        print(f"  {name:46} {middle:10,.2f}  [{values[0]:,.2f} to {values[-1]:,.2f}]")


if __name__ == "__main__":
    main()
