"""What a worker costs that has nothing to do: CPU, transactions, memory.

python -m benchmarks.idle [--seconds 30] [--database postgresql]
"""

from __future__ import annotations

import argparse
import time

from benchmarks.databases import KINDS, fresh, server_settings
from benchmarks.measuring import cpu_seconds, memory_mb, process_tree
from benchmarks.rawsql import RawQueue
from benchmarks.workers import worker

from cronqueue.database import Database

# What a worker does in its first seconds; a session tells of it up to ten seconds late.
SETTLING = 12.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--database", choices=KINDS, action="append")
    options = parser.parse_args()
    for kind in options.database or KINDS:
        with fresh(kind) as database:
            print(f"\n{kind}: {server_settings(database)}")
            one = _measure(database, options.seconds, processes=1)
            two = _measure(database, options.seconds, processes=2)
            print(
                f"  supervisor and one executor {one:.0f} MB, each further one {two - one:.0f} MB"
            )


def _measure(database: Database, seconds: float, processes: int) -> float:
    """Prints CPU and transactions; returns the memory in MB."""
    raw = RawQueue(database)
    with worker(database, processes=processes) as pid:
        time.sleep(SETTLING)
        cpu, commits, began = cpu_seconds(pid), _transactions(raw), time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        cpu, commits = cpu_seconds(pid) - cpu, _transactions(raw) - commits
        memory = sum(memory_mb(each) for each in process_tree(pid))
    raw.close()
    told = f", {commits / passed:.1f} transactions/s" if database.is_postgresql else ""
    print(f"  {processes} executors: {100 * cpu / passed:.2f} % of one CPU{told}")
    return memory


def _transactions(raw: RawQueue) -> int:
    if not raw.is_postgresql:
        return 0
    raw.connection.execute("SELECT pg_stat_clear_snapshot()")
    ended: int = raw.one(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    )
    return ended


if __name__ == "__main__":
    main()
