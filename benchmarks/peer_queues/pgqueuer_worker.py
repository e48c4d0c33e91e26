"""pgqueuer: python -m benchmarks.peer_queues.pgqueuer_worker fill|work URL COUNT."""

from __future__ import annotations

import sys
from importlib.metadata import version

import asyncpg
import uvloop
from benchmarks.peer_queues.ticks import told
from pgqueuer import AsyncpgDriver, QueueManager
from pgqueuer.queries import Queries

# It gathers its finishes in batches of the same size.
BATCH = 500


async def fill(url: str, count: int) -> None:
    """Its tables, and so many jobs in them."""
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    await queries.install()
    await queries.enqueue(["nothing"] * count, [None] * count, [0] * count)


async def work(url: str, count: int) -> None:
    """Until ended."""
    manager = QueueManager(Queries(AsyncpgDriver(await asyncpg.connect(url))))
    body = told(count)

    async def nothing(job: object) -> None:
        body()

    manager.entrypoint("nothing")(nothing)
    await manager.run(batch_size=BATCH)


if __name__ == "__main__":
    print(
        f"uses pgqueuer {version('pgqueuer')}, asyncpg {version('asyncpg')}, uvloop; batch_size={BATCH}",
        flush=True,
    )
    verb = {"fill": fill, "work": work}[sys.argv[1]]
    uvloop.run(verb(sys.argv[2], int(sys.argv[3])))
