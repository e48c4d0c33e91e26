"""The line to the database: every statement passes here, and may be late, cut off, or the last one.

It is a connection of the standard library's SQLite driver, so SQLAlchemy and all of the core above it are the
real ones. The file lies in memory (/dev/shm) and in WAL mode, as in production: a database without a file
cannot give several connections the snapshots that WAL gives.

Whoever wants to write while another does waits here, in virtual time, and not inside SQLite.
A commit whose reply is lost ends as on PostgreSQL, in OutcomeUnknown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import event, text

from cronqueue import schema
from cronqueue.clock import SystemClock
from cronqueue.columns import to_text
from cronqueue.database import Database
from cronqueue.engines import SQLITE_BUSY_SECONDS
from cronqueue.errors import OutcomeUnknown
from simulation.history import (
    Change,
    Event,
    JobRow,
    LedgerChange,
    OccurrenceRow,
    QueueChange,
    QueueRow,
)
from simulation.world import Process, World, me, park, sleep, wake

# Seconds that a statement takes on its way, and now and then.
QUICK, SLOW = (0.0002, 0.003), (0.02, 0.1)
SLOW_SHARE = 0.02
# A cut line is not always noticed at once.
_HANGS = (0.0, 0.0, 0.5, 3.0)


class VirtualClock(SystemClock):
    """The database's clock. A real one to whoever watches it: when it leaps, it is not believed at once."""

    def __init__(self, world: World) -> None:
        self._world = world

    def sql(self, dialect: str) -> str:
        return ":now"

    def now(self) -> Any:
        return self._world.clock()


class SimulatedDatabase(Database):
    """A process's database, over lines of that process."""

    def __init__(self, process: Process, path: str) -> None:
        super().__init__(f"sqlite:///{path}", clock=VirtualClock(process.world))
        self.process = process
        process.database = self

        @event.listens_for(self.engine, "do_connect")
        def connect(dialect: object, record: object, args: Any, options: Any) -> Line:
            line: Line = sqlite3.connect(
                path, timeout=0.0, check_same_thread=False, factory=Line, cached_statements=512
            )
            line.begin_service(process)
            return line


class Line(sqlite3.Connection):
    """A connection of one process."""

    process: Process

    def begin_service(self, process: Process) -> None:
        self.process = process
        self.world = process.world
        self.pending: list[Event] = []
        self.savepoints: list[int] = []
        self.clock_before = ""
        process.lines.append(self)
        self.create_function("simulated_job", -1, self._job_changed)
        self.create_function("simulated_occurrence", -1, self._occurrence_changed)
        self.create_function("simulated_queue", -1, self._queue_changed)

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(SimulatedCursor)

    def commit(self) -> None:
        """Commit; anything may happen before, between, and after."""
        if not self.in_transaction:
            return
        self.travel("COMMIT")
        super().commit()
        self._committed()
        self.travel("the reply to COMMIT")

    def rollback(self) -> None:
        """A dead process's transaction was rolled back when it died."""
        if self.process.is_alive:
            self._roll_back()

    def close(self) -> None:
        if self.process.is_alive:
            self.abandon()

    def abandon(self) -> None:
        """The server finds that nobody is there any more."""
        if self in self.process.lines:
            self.process.lines.remove(self)
            self._roll_back()
            super().close()

    # What a statement meets on its way.

    def travel(self, what: str) -> None:
        """The way to the database, or back."""
        process, world = self.process, self.world
        draw = process.random
        low, high = SLOW if draw.random() < SLOW_SHARE else QUICK
        self.clock_before = to_text(world.clock())
        sleep(draw.uniform(low, high))
        world.statements += 1
        fault = world.faults.strike(process, what) if world.faults is not None else None
        if fault == "kill":
            process.kill(f"killed at {what[:60]!r}")
        if fault in ("stop", "suspend"):
            sleep(0.0)  # it goes on when its process does
        if fault == "cut" or world.now < process.machine.cut_until:
            self._fail(what, draw.choice(_HANGS))
        if world.now < world.away_until:
            self._fail(what, 0.0)

    def _fail(self, what: str, seconds: float) -> None:
        self._roll_back()
        sleep(seconds)
        if "COMMIT" in what:
            raise OutcomeUnknown("the line was cut during COMMIT")
        raise sqlite3.OperationalError("disk I/O error: the line is cut")

    def wait_for_turn(self) -> None:
        """BEGIN IMMEDIATE: one writer at a time, and ten seconds of patience, as SQLite has them."""
        world, until = self.world, self.world.now + SQLITE_BUSY_SECONDS
        while world.writer is not None:
            if world.now >= until:
                raise sqlite3.OperationalError("database is locked")
            actor = me()
            world.waiting_writers.append(actor)
            try:
                park(until - world.now)
            finally:
                world.waiting_writers.remove(actor)
            sleep(self.process.random.uniform(0.0, 0.002))  # whoever looks first is next
        world.writer = self

    def _let_others_write(self) -> None:
        if self.world.writer is self:
            self.world.writer = None
            for actor in self.world.waiting_writers:
                wake(actor)

    def _roll_back(self) -> None:
        super().rollback()
        self.pending.clear()
        self.savepoints.clear()
        self._let_others_write()

    # What triggers tell.

    def _job_changed(self, kind: str, *values: Any) -> None:
        width = len(JobRow._fields)
        before = JobRow(*values[:width]) if kind != "insert" else None
        after = JobRow(*values[-width:]) if kind != "delete" else None
        clock = max(self.clock_before, to_text(self.world.clock()))
        self.pending.append(Change(self.world.now, self.process.name, clock, before, after))

    def _occurrence_changed(self, kind: str, *values: Any) -> None:
        width = len(OccurrenceRow._fields)
        before = OccurrenceRow(*values[:width]) if kind != "insert" else None
        after = OccurrenceRow(*values[-width:]) if kind != "delete" else None
        self.pending.append(LedgerChange(self.world.now, self.process.name, before, after))

    def _queue_changed(self, kind: str, *values: Any) -> None:
        row = QueueRow(*values[-len(QueueRow._fields) :])
        self.pending.append(QueueChange(self.world.now, self.process.name, row))

    def _committed(self) -> None:
        self.world.history.events += self.pending
        self.pending.clear()
        self.savepoints.clear()
        self._let_others_write()

    def savepoint(self, sql: str) -> None:
        """Savepoints are released or rolled back from the innermost out."""
        if sql.startswith("SAVEPOINT"):
            self.savepoints.append(len(self.pending))
        elif sql.startswith("ROLLBACK TO"):
            del self.pending[self.savepoints.pop() :]
        elif sql.startswith("RELEASE"):
            self.savepoints.pop()


class SimulatedCursor(sqlite3.Cursor):
    """Statements on their way."""

    connection: Line

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        if sql == "COMMIT":  # as a statement
            self.connection.commit()
            return self
        self._travel(sql)
        result = super().execute(sql, parameters)
        self.connection.savepoint(sql)
        return result

    def executemany(self, sql: str, parameters: Any) -> Any:
        self._travel(sql)
        return super().executemany(sql, parameters)

    def _travel(self, sql: str) -> None:
        if sql.startswith("PRAGMA"):
            return
        self.connection.travel(" ".join(sql.split()))
        if sql == "BEGIN IMMEDIATE":
            self.connection.wait_for_turn()


def make_template(path: str) -> None:
    """A database with our schema, whose triggers tell of every change."""
    database = Database(f"sqlite:///{path}")
    schema.upgrade(database)
    with database.begin() as connection:
        for table, row in (("job", JobRow), ("occurrence", OccurrenceRow), ("queue", QueueRow)):
            for statement in _triggers(table, row):
                connection.execute(text(statement))
    database.dispose()


def _triggers(name: str, row: Any) -> Iterator[str]:
    old = ", ".join(f"OLD.{column}" for column in row._fields)
    new = ", ".join(f"NEW.{column}" for column in row._fields)
    for kind, values in (("insert", new), ("update", f"{old}, {new}"), ("delete", old)):
        yield (
            f"CREATE TRIGGER simulated_{name}_{kind} AFTER {kind} ON sched_{name}s"
            f" BEGIN SELECT simulated_{name}('{kind}', {values}); END"
        )
