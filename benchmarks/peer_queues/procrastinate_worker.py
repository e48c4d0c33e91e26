"""procrastinate: python -m benchmarks.peer_queues.procrastinate_worker fill|work URL COUNT."""

from __future__ import annotations

import asyncio
import logging
import sys
from importlib.metadata import version

from benchmarks.peer_queues.ticks import told
from procrastinate import App, PsycopgConnector

CONCURRENCY = 20


async def run(verb: str, url: str, count: int) -> None:
    """Its tables and so many jobs in them, or a worker until it is ended."""
    app = App(connector=PsycopgConnector(conninfo=url, min_size=4, max_size=CONCURRENCY))
    body = told(count)

    async def nothing() -> None:
        body()

    task = app.task(name="nothing")(nothing)
    async with app.open_async():
        if verb == "fill":
            await app.schema_manager.apply_schema_async()
            await task.batch_defer_async(*[{}] * count)
        else:
            await app.run_worker_async(concurrency=CONCURRENCY, delete_jobs="always")


if __name__ == "__main__":
    print(
        f"uses procrastinate {version('procrastinate')}, psycopg {version('psycopg')};"
        f" concurrency={CONCURRENCY}, delete_jobs=always",
        flush=True,
    )
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
