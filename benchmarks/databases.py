"""Databases to measure on: a fresh SQLite file, and a PostgreSQL of our own with its durability left on."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cronqueue import schema
from cronqueue.clock import Clock
from cronqueue.database import Database

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from postgres_server import Keeper, PostgresServer, find_binaries

KINDS = ("sqlite", "postgresql")


@contextmanager
def fresh(kind: str, clock: Clock | None = None) -> Iterator[Database]:
    """An empty database with our tables. PostgreSQL runs with the settings that it comes with."""
    with tempfile.TemporaryDirectory(prefix="sched-bench-") as folder:
        if kind == "sqlite":
            yield from _opened(f"sqlite:///{folder}/sched.db", clock)
            return
        binaries = find_binaries()
        if binaries is None:
            raise SystemExit("no PostgreSQL here: `make test` brings one along")
        keeper = Keeper(binaries, durable=True)
        try:
            yield from _opened(PostgresServer.started(keeper.control, "bench").url(), clock)
        finally:
            keeper.close()


def server_settings(database: Database) -> str:
    """What the server's durability and memory are set to."""
    if not database.is_postgresql:
        return "SQLite, WAL, synchronous=FULL"
    names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")
    with database.snapshot() as connection:
        shown = [f"{name}={connection.exec_driver_sql(f'SHOW {name}').scalar()}" for name in names]
        version = connection.exec_driver_sql("SHOW server_version").scalar()
    return f"PostgreSQL {version}, {', '.join(shown)}"


def _opened(url: str, clock: Clock | None) -> Iterator[Database]:
    database = Database(url, clock=clock)
    schema.upgrade(database)
    try:
        yield database
    finally:
        database.dispose()
