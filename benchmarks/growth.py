"""What a table full of other rows, or a transaction left open, does to the rate of a drain.

make bench-growth [ARGS='--rounds 3 --rows 1000000 --jobs 20000 --seconds 120 --database postgresql']
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks import jobs
from benchmarks.databases import KINDS, fresh, server_settings
from benchmarks.drain import elapsed, fill, settle
from benchmarks.measuring import Contender, Figures, in_turns, print_table
from benchmarks.rawsql import RawQueue
from benchmarks.workers import wait_until, worker

EMPTY = "an empty table"
# Yesterday, second by second: before whatever is measured.
_PAST = "number % 80000 - 86400"
_FUTURE = "number % 80000 + 86400"
_COUNTED = "n(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n)"
# After the transaction's end; housekeeping looks twice in it.
_RECOVERY = 5.0


@dataclass(frozen=True)
class Standing:
    """Rows that nobody takes now: their columns in SQL, and the settings of the worker beside them."""

    seconds: str = _PAST  # from now to `run_at`
    columns: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


DUE = Standing()
PAUSED = Standing(columns={"queue": "'paused'"})
CASES = {
    "future, same priority": Standing(_FUTURE),
    "future, higher priority": Standing(_FUTURE, {"priority": "10"}),
    "finished": Standing(columns={"state": "'succeeded'", "finished_at": "{now}"}),
    "held": Standing(columns={"state": "'held'", "held_reason": "'paused'"}),
    "of unknown tasks": Standing(
        columns={"state": "'held'", "held_reason": "'unknown_task'", "task": "'unknown'"}
    ),
    "of a paused queue": PAUSED,
    "of other queues": Standing(columns={"queue": "'other'"}, settings={"queues": "default"}),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=120, help="of the open transaction")
    parser.add_argument("--database", choices=KINDS, action="append")
    options = parser.parse_args()
    for kind in options.database or KINDS:
        with fresh(kind) as database:
            print(f"\n{kind}: {server_settings(database)}; {options.rows:,} rows")
        contenders: dict[str, Contender] = {
            EMPTY: partial(_behind, kind, options.jobs, 0, DUE),
            "due": partial(_of_many, kind, options.jobs, options.rows),
            **{
                name: partial(_behind, kind, options.jobs, options.rows, standing)
                for name, standing in CASES.items()
            },
            f"a transaction open for {options.seconds:.0f} s": partial(
                _beside_transaction, kind, options.jobs, options.seconds
            ),
        }
        contenders[EMPTY]()  # the first in a run is slower: its files come from the disk
        print_table(in_turns(contenders, options.rounds), "jobs/s", EMPTY)


def _behind(kind: str, count: int, rows: int, standing: Standing) -> Figures:
    """The rate of so many jobs that come after the rows."""
    with fresh(kind) as database:
        raw = RawQueue(database)
        _stand(raw, rows, standing)
        with worker(database, **standing.settings):
            rate = _rate(raw, count)
        raw.close()
    return {"jobs/s": rate}


def _of_many(kind: str, count: int, rows: int) -> Figures:
    """The rate of the first jobs of a backlog."""
    with fresh(kind) as database:
        raw = RawQueue(database)
        _stand(raw, rows, DUE)
        with worker(database):
            rate = _rate_of(raw, 0, min(count, rows))
        raw.close()
    return {"jobs/s": rate}


def _beside_transaction(kind: str, count: int, seconds: float) -> Figures:
    """The rate of the last jobs of those that a worker does while another transaction stays open."""
    with fresh(kind) as database:
        raw, other = RawQueue(database), RawQueue(database)
        level = " ISOLATION LEVEL REPEATABLE READ" if raw.is_postgresql else ""
        with worker(database):
            other.connection.execute(f"BEGIN{level}")
            other.one("SELECT COUNT(*) FROM sched_jobs")
            ends = time.monotonic() + seconds
            while (rate := _rate(raw, count)) and time.monotonic() < ends:
                pass
            other.connection.execute("COMMIT")
            time.sleep(_RECOVERY)
            figures = {"jobs/s": rate, f"{_RECOVERY:.0f} s after, jobs/s": _rate(raw, count)}
        raw.close()
        other.close()
    return figures


def _stand(raw: RawQueue, rows: int, standing: Standing) -> None:
    """Put the rows there by one statement."""
    names = {"task": f"'{jobs.nothing.name}'", **standing.columns}
    now, run_at = _at(raw, "0"), _at(raw, standing.seconds)
    values = ", ".join(value.format(now=now) for value in names.values())
    numbers = f"generate_series(1, {rows}) AS n(number)"
    if not raw.is_postgresql:
        numbers = f"(WITH RECURSIVE {_COUNTED} SELECT number FROM n LIMIT {rows})"
    raw.connection.execute(
        f"INSERT INTO sched_jobs ({', '.join(names)}, run_at, created_at, updated_at)"
        f" SELECT {values}, {run_at}, {now}, {now} FROM {numbers}"
    )
    if standing is PAUSED:
        raw.connection.execute(
            f"INSERT INTO sched_queues (name, paused_at) VALUES ('paused', {now})"
        )
    settle(raw)


def _at(raw: RawQueue, seconds: str) -> str:
    """So many seconds from now, in SQL."""
    if raw.is_postgresql:
        return f"now() + ({seconds}) * interval '1 second'"
    return f"strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', ({seconds}) || ' seconds')"


def _rate(raw: RawQueue, count: int) -> float:
    """Jobs per second of so many that become due at once."""
    newest: int = raw.one("SELECT COALESCE(MAX(id), 0) FROM sched_jobs")
    fill(raw, count)
    return _rate_of(raw, newest, count)


def _rate_of(raw: RawQueue, newest: int, count: int) -> float:
    """Jobs per second, from the first start to the finish by which so many after that id have ended."""
    done = f"FROM sched_jobs WHERE id > {newest} AND state = 'succeeded'"
    wait_until(lambda: raw.one(f"SELECT COUNT(*) {done}") >= count)
    first = raw.one(f"SELECT MIN(started_at) {done}")
    last = raw.one(f"SELECT finished_at {done} ORDER BY finished_at LIMIT 1 OFFSET {count - 1}")
    return count / elapsed(first, last)


if __name__ == "__main__":
    main()
