"""Whether a worker's memory grows with the jobs that it has done.

make bench-memory [ARGS='--jobs 1000000 --samples 20 --database postgresql']
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.databases import KINDS, fresh, server_settings
from benchmarks.drain import fill, is_empty
from benchmarks.measuring import foreign_load, memory_mb, process_tree
from benchmarks.rawsql import RawQueue
from benchmarks.workers import wait_until, worker

from cronqueue.database import Database

# Of the samples, those before which memory is still being filled for the first time.
_WARMING = 0.2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--database", choices=KINDS, action="append")
    options = parser.parse_args()
    for kind in options.database or KINDS:
        with fresh(kind) as database, foreign_load() as told:
            print(f"\n{kind}: {server_settings(database)}")
            print("\n| jobs done | supervisor and executor, MB |\n|---|---|")
            samples = _sample(database, options.jobs // options.samples, options.samples)
            print(f"\n{_in_words(samples)}; {told()}")


def _sample(database: Database, count: int, samples: int) -> list[tuple[int, float]]:
    """Jobs done and memory, before the first job and after each so many."""
    raw = RawQueue(database)
    taken = []
    with worker(database) as pid:
        for number in range(samples + 1):
            if number:
                fill(raw, count)
                wait_until(lambda: is_empty(raw))
            memory = sum(map(memory_mb, process_tree(pid)))
            print(f"| {number * count:,} | {memory:.1f} |", flush=True)
            taken.append((number * count, memory))
    raw.close()
    return taken


def _in_words(samples: list[tuple[int, float]]) -> str:
    warm = samples[int(len(samples) * _WARMING) :]
    slope, _ = statistics.linear_regression(*zip(*warm, strict=True))
    return f"{1e6 * slope:+.2f} MB per 1,000,000 jobs, the first {100 * _WARMING:.0f} % left out"


if __name__ == "__main__":
    main()
