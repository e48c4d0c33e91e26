"""Two transactions of the core at once, switched at a statement: the schedule of a race, played by hand.

    first:   statement 1 · ... · statement k ─ stops ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ goes on ─ end
    second:                                    all of it, or until it waits for a lock

The stops are events of SQLAlchemy on the first one's engine; the core knows nothing of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import URL, Connection, Engine, event, make_url, text
from sqlalchemy.engine import ExceptionContext

from cronqueue.clock import ManualClock
from cronqueue.database import Database, is_transient
from cronqueue.errors import CronqueueError

FIRST, SECOND = "interleaving-first", "interleaving-second"
# A lock that is never given back would be a bug; long before this the server calls it a deadlock.
PATIENCE = 60.0
LOOK_EVERY = 0.003
_WAITS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND wait_event_type = 'Lock'"
    " AND datname = current_database()"
)
_WAITS_FOR = text(
    "SELECT count(*) FROM pg_stat_activity AS second JOIN pg_stat_activity AS first"
    " ON first.pid = ANY(pg_blocking_pids(second.pid))"
    " WHERE second.application_name = :second AND first.application_name = :first"
    " AND second.datname = current_database() AND first.datname = current_database()"
)


class Gate:
    """Where one thread stops: before its statement, or its commit, of a number counted from 0."""

    def __init__(self, engine: Engine) -> None:
        self._thread: int | None = None
        self._stop_at: int | None = None
        self._passed = 0
        self.stopped = threading.Event()
        self._go_on = threading.Event()
        event.listen(engine, "before_cursor_execute", self._before_statement)
        event.listen(engine, "commit", self._before_commit)

    def begin(self, stop_at: int | None) -> None:
        """From now on this thread is counted."""
        self._thread, self._stop_at, self._passed = threading.get_ident(), stop_at, 0

    def reset(self) -> None:
        self._thread = None
        self.stopped.clear()
        self._go_on.clear()

    def open(self) -> None:
        self._stop_at = None
        self._go_on.set()

    @property
    def passed(self) -> int:
        """Statements and commits so far."""
        return self._passed

    def _before_statement(self, *args: Any) -> None:
        self._pass()

    def _before_commit(self, connection: Connection) -> None:
        self._pass()

    def _pass(self) -> None:
        if threading.get_ident() != self._thread:
            return
        if self._passed == self._stop_at:
            self.stopped.set()
            assert self._go_on.wait(PATIENCE), "nobody let the first one go on"
        self._passed += 1


@dataclass
class Side:
    """One of the two, and what came of it."""

    database: Database
    deadlocks: list[str] = field(default_factory=list)
    answer: Any = None
    refusal: Exception | None = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        event.listen(self.database.engine, "handle_error", self._count)

    def run(self, work: Callable[[Database], Any]) -> None:
        """Refusals are answers; what the database raises is not."""
        self.deadlocks.clear()
        self.answer = self.refusal = self.error = None
        try:
            self.answer = work(self.database)
        except (CronqueueError, LookupError) as refusal:
            self.refusal = refusal
        except BaseException as error:
            self.error = error

    def _count(self, context: ExceptionContext) -> None:
        """Those that the core repeats are no error to the caller, and yet nothing to be proud of."""
        if context.sqlalchemy_exception is not None and is_transient(context.sqlalchemy_exception):
            self.deadlocks.append(str(context.sqlalchemy_exception.orig))


class Stage:
    """Two connections to one database, and a third that looks whether the second one waits."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        self.first = Side(Database(_named(url, FIRST), clock=clock))
        self.second = Side(Database(_named(url, SECOND), clock=clock))
        self._gate = Gate(self.first.database.engine)
        self._watch = Database(url, clock=clock)
        #: Whether the second one waited for a lock that the first one had when it was stopped.
        self.second_waited = False

    def count(self, work: Callable[[Database], Any]) -> int:
        """How many statements and commits it has when nobody else is there."""
        self._gate.begin(None)
        self.first.run(work)
        self._gate.reset()
        return self._gate.passed

    def play(
        self, first: Callable[[Database], Any], second: Callable[[Database], Any], stop_at: int
    ) -> None:
        """Switch once: from the first to the second before that statement, and back when it ends or waits."""
        self._gate.reset()

        def run_first() -> None:
            self._gate.begin(stop_at)
            self.first.run(first)
            self._gate.stopped.set()  # it may have ended before

        threads = [
            threading.Thread(target=run_first, daemon=True),
            threading.Thread(target=self.second.run, args=(second,), daemon=True),
        ]
        threads[0].start()
        assert self._gate.stopped.wait(PATIENCE), "the first one neither stopped nor ended"
        threads[1].start()
        with self._watch.autocommit() as connection:
            while not _ended(threads[1]) and not self._waits(connection):
                pass
            names = {"first": FIRST, "second": SECOND}
            self.second_waited = bool(connection.execute(_WAITS_FOR, names).scalar_one())
        self._gate.open()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "stuck"

    def _waits(self, connection: Connection) -> bool:
        return bool(connection.execute(_WAITS, {"name": SECOND}).scalar_one())

    def dispose(self) -> None:
        for database in (self.first.database, self.second.database, self._watch):
            database.dispose()


def _named(url: str, name: str) -> URL:
    """A circle of waits is to be noticed at once: in production the server looks after a second."""
    query = {"application_name": name, "options": "-c deadlock_timeout=20ms"}
    return make_url(url).update_query_dict(query)


def _ended(thread: threading.Thread) -> bool:
    thread.join(LOOK_EVERY)
    return not thread.is_alive()


@contextmanager
def staged(url: str, clock: ManualClock) -> Iterator[Stage]:
    """A stage that is cleared at the end."""
    stage = Stage(url, clock)
    try:
        yield stage
    finally:
        stage.dispose()
