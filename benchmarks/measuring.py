"""Rounds in which each contender has its turn, CPU and memory of processes, and how figures are printed."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cronqueue.database import Database

# What was measured, by what it is called.
Figures = dict[str, float]
Contender = Callable[[], Figures]

_TICKS = os.sysconf("SC_CLK_TCK")


def in_turns(contenders: Mapping[str, Contender], rounds: int) -> dict[str, list[Figures]]:
    """What each measured in each round; one after the other, so that other load falls on all alike."""
    found: dict[str, list[Figures]] = {name: [] for name in contenders}
    with foreign_load() as told:
        for number in range(rounds):
            for name, measure in contenders.items():
                print(f"round {number + 1} of {rounds}: {name}          ", end="\r", flush=True)
                found[name].append(measure())
    print(f"{os.cpu_count()} CPUs, {told()}, {rounds} rounds")
    return found


def print_table(found: Mapping[str, list[Figures]], by: str, yardstick: str) -> None:
    """Medians of each, and `by` as a ratio to the yardstick of the same round [least to most]."""
    names = list(
        dict.fromkeys(name for rounds in found.values() for each in rounds for name in each)
    )
    print(f"\n| | {' | '.join(names)} | / {yardstick} |\n|---|{'---|' * (len(names) + 1)}")
    for contender, rounds in found.items():
        cells = [_median(rounds, name) for name in names]
        print(f"| {contender} | {' | '.join(cells)} | {_ratio(rounds, found[yardstick], by)} |")


def print_leads(found: Mapping[str, list[Figures]], by: str, ours: str) -> None:
    """`by` of ours as a ratio to that of each other contender of the same round [least to most]."""
    print(f"\n| {ours} / | {by} |\n|---|---|")
    for contender, rounds in found.items():
        if contender != ours:
            print(f"| {contender} | {_ratio(found[ours], rounds, by)} |")


def percentiles(seconds: list[float]) -> Figures:
    """In milliseconds."""
    ordered = sorted(1000 * each for each in seconds)
    return {
        "least ms": ordered[0],
        "p50 ms": statistics.median(ordered),
        "p99 ms": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)],
        "most ms": ordered[-1],
    }


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of all that descend from it, ended ones included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS + sum(map(cpu_seconds, children(pid)))


def children(pid: int) -> list[int]:
    """The processes that one has started and that still run."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def process_tree(pid: int) -> list[int]:
    """A process and all that descend from it and still run."""
    return [pid, *(each for child in children(pid) for each in process_tree(child))]


def server_pid(database: Database) -> int | None:
    """PostgreSQL's own process; all its sessions descend from it."""
    if not database.is_postgresql:
        return None
    with database.autocommit() as connection:
        backend = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    return int(Path(f"/proc/{backend}/stat").read_text().rsplit(")", 1)[1].split()[1])


def memory_mb(pid: int) -> float:
    """Memory of one process, what it shares counted in proportion (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def foreign_load() -> Iterator[Callable[[], str]]:
    """Says afterwards how much of the machine others used meanwhile."""
    before = _busy_seconds(), cpu_seconds(os.getpid()), os.times().elapsed

    def told() -> str:
        busy = _busy_seconds() - before[0] - (cpu_seconds(os.getpid()) - before[1])
        return f"others used {100 * busy / (os.times().elapsed - before[2]):.0f} % of one"

    yield told


def _busy_seconds() -> float:
    user, nice, system, _idle, _iowait, irq, soft = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + irq + soft) / _TICKS


def _ratio(ours: list[Figures], theirs: list[Figures], by: str) -> str:
    ratios = [one[by] / other[by] for one, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f} to {max(ratios):.2f}]"


def _median(rounds: list[Figures], name: str) -> str:
    values = [each[name] for each in rounds if name in each]
    if not values:
        return "-"
    middle = statistics.median(values)
    return f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}"
