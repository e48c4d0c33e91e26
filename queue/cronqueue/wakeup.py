"""Wake-up: hints that there may be work. Polling is the truth; everything works without a hint.

PostgreSQL: NOTIFY, sent after the commit on a connection of its own. Inside the enqueueing transaction it
would serialise all commits of the database (11,500 enqueues a second become 1,300 with 32 listeners).
SQLite: the kernel tells when the write-ahead log changes, and `PRAGMA data_version` whether it mattered.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Engine, event, text
from sqlalchemy.orm import Session

from cronqueue.database import Database
from cronqueue.engines import POSTGRESQL_CONNECT
from cronqueue.models import Job

CHANNEL = "sched_jobs"
# At most one NOTIFY in this time from one process: a burst of enqueues needs only one to be noticed.
NOTIFY_PERIOD = 0.01
_NOTIFY = f"NOTIFY {CHANNEL}"
# In a burst a process asks for one more rarely: workers that have just had a job look again by themselves.
BURST_PERIOD = 0.05
# The processes then share one NOTIFY in this time: each wakes every session that listens. Whoever does not
# get the lock has committed its jobs before the holder's NOTIFY is delivered, which is at its commit: that
# one will do for both.
TOGETHER_PERIOD = 0.02
_NOTIFY_TOGETHER = f"""
SELECT CASE WHEN pg_try_advisory_xact_lock(hashtext('{CHANNEL}'))
    THEN (SELECT pg_notify('{CHANNEL}', '') FROM pg_sleep({TOGETHER_PERIOD})) END
"""
_FLUSH_AT_EXIT_SECONDS = 1.0


def notify(database: Database) -> None:
    """Tell the workers that jobs were written and committed; never blocks, never fails."""
    if database.is_postgresql:
        with suppress(RuntimeError):  # no thread can be had; the workers poll
            _notifier(database).notify()
    for heard in _heard_here:
        heard()


@contextmanager
def heard_here(heard: Callable[[], object]) -> Iterator[None]:
    """Call a function in this process too, after each commit that `notify` is told of."""
    _heard_here.append(heard)
    try:
        yield
    finally:
        _heard_here.remove(heard)


_heard_here: list[Callable[[], object]] = []


def notify_after_commit(database: Database, session: Session | Connection) -> None:
    """The same once the caller's transaction has committed. A bare Connection cannot tell us when."""
    if not isinstance(session, Session) or not (database.is_postgresql or _heard_here):
        return
    if isinstance(session.get_bind(Job), Connection):  # the outer transaction is somebody else's
        return
    if _PENDING not in session.info:  # listeners are never removed: one for all of its transactions
        event.listen(session, "after_commit", _committed)
        event.listen(session, "after_rollback", _rolled_back)
    session.info[_PENDING] = database


_PENDING = "cronqueue: notify this database"


def _committed(session: Session) -> None:
    # Also called when a savepoint is released; then the transaction still goes on.
    if not session.in_nested_transaction():
        database, session.info[_PENDING] = session.info[_PENDING], None
        if database is not None:
            notify(database)


def _rolled_back(session: Session) -> None:
    if not session.in_nested_transaction():
        session.info[_PENDING] = None


class Notifier:
    """Sends NOTIFY from a thread of its own, gathered, with a trailing one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._pid = os.getpid()
        threading.Thread(target=self._run, name="sched-notify", daemon=True).start()
        atexit.register(self.flush)

    def notify(self) -> None:
        # What is pending is sent after this, and for this as well: in a burst there is nothing else to do.
        if not self._pending.is_set():
            self._idle.clear()
            self._pending.set()

    def is_usable(self) -> bool:
        """A thread does not survive a fork."""
        return self._pid == os.getpid()

    def flush(self) -> None:
        """Wait until what is pending was sent."""
        if self.is_usable():
            self._idle.wait(_FLUSH_AT_EXIT_SECONDS)

    def _run(self) -> None:
        statement = _NOTIFY
        while self._pending.wait():
            self._pending.clear()
            # It is only a hint; the workers poll.
            with suppress(Exception):
                self._send(statement)
            if not self._pending.is_set():
                self._idle.set()
                if self._pending.is_set():  # asked for just now
                    self._idle.clear()
            time.sleep(NOTIFY_PERIOD if statement is _NOTIFY else BURST_PERIOD)
            statement = _NOTIFY_TOGETHER if self._pending.is_set() else _NOTIFY

    def _send(self, statement: str) -> None:
        if self._database.direct is not None:
            self._database.direct.execute(statement)
            return
        with self._database.autocommit() as connection:
            connection.execute(text(statement))


class Listener(Protocol):
    """Something whose file descriptor becomes readable when there may be work."""

    def fileno(self) -> int: ...

    def drain(self) -> bool:
        """Take the hints that have come; whether there was one."""

    def close(self) -> None: ...


class PostgresListener:
    """A connection that LISTENs. Any failure of it raises; the caller goes on by polling and tries again."""

    def __init__(self, database: Database) -> None:
        from cronqueue.patientconnection import PatientConnection

        given, named = _connect_arguments(database.engine)
        with database.crowding.watched():
            self._connection = PatientConnection.connect(*given, **named, autocommit=True)
        self._connection.execute(f"LISTEN {CHANNEL}")

    def fileno(self) -> int:
        number: int = self._connection.fileno()
        return number

    def drain(self) -> bool:
        return any(True for _ in self._connection.notifies(timeout=0))

    def close(self) -> None:
        with suppress(Exception):
            self._connection.close()


class SqliteListener:
    """Watches the write-ahead log by inotify, and asks SQLite whether another connection committed."""

    def __init__(self, database: Database) -> None:
        self._connection = database.engine.raw_connection()
        self._version = self._data_version()
        self._fd = _watch_file(Path(f"{database.url.database}-wal"))

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> bool:
        with suppress(BlockingIOError):
            os.read(self._fd, 64 * 1024)
        return self.changed()

    def changed(self) -> bool:
        """Whether somebody committed since the last look."""
        before, self._version = self._version, self._data_version()
        return before != self._version

    def close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)
        with suppress(Exception):
            self._connection.close()

    def _data_version(self) -> int:
        cursor = self._connection.cursor()
        try:
            version: int = cursor.execute("PRAGMA data_version").fetchone()[0]
        finally:
            cursor.close()
        return version


def listen(database: Database) -> Listener | None:
    """A listener for this database; None where there is no notification of files, or a pooler."""
    if database.is_pooled:
        return None
    if database.is_postgresql:
        return PostgresListener(database)
    return SqliteListener(database) if hasattr(ctypes.CDLL(None), "inotify_init1") else None


def settled_changes(listener: Listener, longest: float = 0.02) -> Iterator[bool]:
    """Whether a hint has come true, looked at each millisecond for at most `longest` seconds.

    The log is written before its commit counts: a look right at the notification may be too early.
    """
    end = time.monotonic() + longest
    while time.monotonic() < end:
        yield listener.drain()
        time.sleep(0.001)


# By what an engine shares with its variants (`engine.execution_options(...)`), which may be many.
_notifiers: WeakKeyDictionary[Dialect, Notifier] = WeakKeyDictionary()
_lock = threading.Lock()


def _notifier(database: Database) -> Notifier:
    with _lock:
        notifier = _notifiers.get(database.engine.dialect)
        if notifier is None or not notifier.is_usable():
            notifier = _notifiers[database.engine.dialect] = Notifier(database)
        return notifier


def _connect_arguments(engine: Engine) -> tuple[list[Any], dict[str, Any]]:
    """What SQLAlchemy would connect with: the listener's connection is not one of its pool."""
    arguments, keywords = engine.dialect.create_connect_args(engine.url)
    return list(arguments), {**POSTGRESQL_CONNECT, "application_name": "sched listen", **keywords}


_IN_MODIFY = 0x2
_IN_NONBLOCK = os.O_NONBLOCK
_IN_CLOEXEC = os.O_CLOEXEC


def _watch_file(path: Path) -> int:
    """A descriptor that is readable when the file was written to."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
    if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY) < 0:
        number = ctypes.get_errno()
        if fd >= 0:
            os.close(fd)
        raise OSError(number, os.strerror(number), str(path))
    return fd
