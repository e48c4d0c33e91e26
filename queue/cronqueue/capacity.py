"""What a database can do for a queue: rows of jobs stored, claimed and finished, in a table of their own.

The table has the columns and indexes of `sched_jobs`, so each row costs what a job's does. No worker sees
it, and it is dropped at the end. Commits are as durable as the database is set to make them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import CheckConstraint, Connection, MetaData
from sqlalchemy.sql import quoted_name

from cronqueue.database import Database, prepared
from cronqueue.models import Job

TABLE = "sched_bench"
BATCH = 100
BULK = 1000

_COLUMNS = f"{TABLE} (task, run_at, created_at, updated_at)"
_INSERT = f"INSERT INTO {_COLUMNS} VALUES ('t', {{now}}, {{now}}, {{now}})"
_INSERT_BULK = f"INSERT INTO {_COLUMNS} SELECT 't', {{now}}, {{now}}, {{now}} FROM {{series}}"
_SERIES_POSTGRESQL = f"generate_series(1, {BULK})"
_SERIES_SQLITE = (
    f"(WITH RECURSIVE up(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < {BULK})"
    " SELECT n FROM up)"
)
_PICK = f"""
SELECT id FROM {TABLE} WHERE state = 'queued' AND NOT gated AND length(queue) > 0 AND priority = 0
ORDER BY run_at, id LIMIT :count"""
_CLAIM = f"""
UPDATE {TABLE} SET state = 'running', attempts = attempts + 1, claims = claims + 1, lock_token = 't',
    locked_at = {{now}}, locked_until = {{now}}, started_at = {{now}}, updated_at = {{now}}
WHERE id {{among}}"""
_FINISH = f"""
UPDATE {TABLE} SET state = 'succeeded', lock_token = NULL, locked_until = NULL, finished_at = {{now}},
    updated_at = {{now}}
WHERE lock_token = 't' AND id {{among}}"""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one connection does in a second, but for the first, in milliseconds."""

    round_trip_ms: float
    stored_one_by_one: float
    stored_in_bulk: float
    worked_one_by_one: float
    worked_in_batches: float


def measure(database: Database, seconds: float = 2.0) -> Capacity:
    """Spend about so long on each figure. Raises DBAPIError where no table may be made.

    The database must be one that was opened by its URL.
    """
    with _scratch(database) as scratch:
        assert scratch.direct is not None
        execute, worker = scratch.direct.execute, _Worker(scratch)
        now, series = _now(scratch), _SERIES_POSTGRESQL if scratch.is_postgresql else _SERIES_SQLITE
        return Capacity(
            1000 / _rate(seconds / 4, lambda: execute("SELECT 1")),
            _rate(seconds, lambda: execute(_INSERT.format(now=now))),
            # These leave enough for the claims after them.
            BULK * _rate(seconds, lambda: execute(_INSERT_BULK.format(now=now, series=series))),
            _rate(seconds, worker.work_one),
            _rate(seconds, worker.exchange),
        )


class _Worker:
    """Claims and finishes as a worker does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        now, among = _now(database), database.among("ids")
        self._claim, self._finish = (
            prepared(sql.format(now=now, among=among)) for sql in (_CLAIM, _FINISH)
        )
        self._pick = prepared(_PICK + (" FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""))
        self._held: list[int] = []

    def work_one(self) -> int:
        """A job claimed, then finished: two transactions."""
        with self._database.begin() as connection:
            self._take(connection, 1)
        with self._database.begin() as connection:
            return self._end(connection)

    def exchange(self) -> int:
        """A batch finished, and the next one claimed: one transaction."""
        with self._database.begin() as connection:
            ended = self._end(connection) if self._held else 0
            self._take(connection, BATCH)
            return ended

    def _take(self, connection: Connection, count: int) -> None:
        self._held = list(connection.execute(self._pick, {"count": count}).scalars())
        connection.execute(self._claim, {"ids": self._database.listed(self._held)})

    def _end(self, connection: Connection) -> int:
        connection.execute(self._finish, {"ids": self._database.listed(self._held)})
        return len(self._held)


@contextmanager
def _scratch(database: Database) -> Iterator[Database]:
    """The table: in the same database, on SQLite in a file beside it, since a file never shrinks."""
    if database.is_postgresql:
        with _table(database):
            yield database
        return
    folder = Path(database.url.database or "").absolute().parent
    with TemporaryDirectory(prefix=".sched-bench-", dir=folder) as scratch:
        beside = Database(f"sqlite:///{scratch}/bench.db")
        try:
            with _table(beside):
                yield beside
        finally:
            beside.dispose()


@contextmanager
def _table(database: Database) -> Iterator[None]:
    table = Job.metadata.tables["sched_jobs"].to_metadata(MetaData(), name=TABLE)
    # A copy has the checks of both databases, and the name of the key.
    table.primary_key.name = None
    table.constraints = {
        each for each in table.constraints if not isinstance(each, CheckConstraint)
    }
    for index in table.indexes:  # their names are unique in a schema
        index.name = quoted_name(f"bench_{index.name}", quote=None)
    with database.begin() as connection:
        table.drop(connection, checkfirst=True)  # of a run that was killed
        table.create(connection)
    try:
        yield
    finally:
        with database.begin() as connection:
            table.drop(connection)


def _now(database: Database) -> str:
    """In SQL, without a parameter."""
    if database.is_postgresql:
        return "statement_timestamp()"
    return f"'{database.moment(database.clock.now())}'"


def _rate(seconds: float, work: Callable[[], object]) -> float:
    """How often it goes in a second; where it returns a number, the sum of those."""
    work()
    began, done = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        made = work()
        done += made if isinstance(made, int) else 1
    return done / passed
