"""Engines: how each kind of database is connected to, and what is set on every connection."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import DisconnectionError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from cronqueue.crowding import Crowding
from cronqueue.errors import ConfigurationError

log = logging.getLogger("cronqueue.database")

# Writers of SQLite queue up behind one another; the worst wait seen with 16 of them is 3 s.
SQLITE_BUSY_SECONDS = 10.0
# A statement of ours takes milliseconds. What takes this long hangs, and holds others up. A role or a
# database may have other defaults: psycopg reads ISO dates only, and our statements expect this isolation.
_POSTGRESQL_SESSION = (
    "SET statement_timeout = '30s'; SET lock_timeout = '5s'; "
    "SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'; "
    "SET datestyle = 'ISO'; SET default_transaction_isolation = 'read committed'"
)
# A cut line is noticed within seconds instead of the two hours of the kernel's default.
POSTGRESQL_CONNECT: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    # A cluster made without a locale is SQL_ASCII: psycopg would hand out bytes instead of texts.
    "client_encoding": "utf8",
    "application_name": "sched",
}
# In a URL: a pooler stands between, which lends a session for one transaction at a time.
POOLER = "pooler"
# In each pool the connection that came back last is taken first: what serves it is still in the caches. In
# turns, a second connection that is hardly used makes each INSERT through the first a third slower.
_POOL = {"pool_use_lifo": True, "hide_parameters": True}
# The server's word for a session that may only read.
READ_ONLY = "25006"
# SQLite's words for: somebody else is at it.
SQLITE_BUSY = ("database is locked", "database table is locked", "database schema has changed")


def create_engine_of(
    url: URL, pool_size: int, crowding: Crowding, *, autocommit: bool = False
) -> Engine:
    """An engine of ours. Raises ConfigurationError where the driver is missing."""
    try:
        if url.get_backend_name() == "sqlite":
            return _create_sqlite_engine(url, pool_size)
        return _create_postgresql_engine(url, pool_size, crowding, autocommit)
    except (ImportError, NoSuchModuleError) as error:
        raise ConfigurationError(
            f"the driver for {url.drivername} is missing ({error}): pip install 'cronqueue[postgres]'"
        ) from None


def _create_postgresql_engine(
    url: URL, pool_size: int, crowding: Crowding, autocommit: bool
) -> Engine:
    arguments = {key: value for key, value in POSTGRESQL_CONNECT.items() if key not in url.query}
    is_pooled = POOLER in url.query
    if is_pooled:
        # What is prepared in one session is not there in the next.
        arguments["prepare_threshold"] = None
    engine = create_engine(
        url.difference_update_query([POOLER]),
        pool_size=pool_size,
        max_overflow=10,
        connect_args=arguments,
        pool_timeout=30,
        **_POOL,
        pool_reset_on_return=None if autocommit else "rollback",
    )

    if engine.driver == "psycopg":
        from psycopg import OperationalError

        from cronqueue.patientconnection import PatientConnection

        @event.listens_for(engine, "do_connect")
        def connect(dialect: object, record: object, given: Any, named: Any) -> Any:
            try:
                with crowding.watched():
                    return PatientConnection.connect(*given, **named)
            except UnicodeError as error:  # of a host that no name server could be asked for
                raise OperationalError(str(error)) from None

    @event.listens_for(engine, "checkin")
    def give_up(connection: object, record: ConnectionPoolEntry) -> None:
        if crowding.is_on():
            record.invalidate()

    @event.listens_for(engine, "connect")
    def settle(connection: Any, record: object) -> None:
        if not is_pooled:  # what we set there would be for others
            connection.autocommit = True
            connection.execute(_POSTGRESQL_SESSION)
        connection.autocommit = autocommit

    @event.listens_for(engine, "handle_error")
    def leave(context: ExceptionContext) -> None:
        # On a standby, or a primary that became one: whoever connects anew may find the right server.
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
            context.is_disconnect = True

    return engine


def _create_sqlite_engine(url: URL, pool_size: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=20,
        **_POOL,
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "do_connect")
    def make_private(*_: object) -> None:
        _make_private(url.database or "")

    @event.listens_for(engine, "connect")
    def settle(connection: Any, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; `begin` below does
        # Text that is none, written by hand: an error here would take all other rows with it.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        cursor = connection.cursor()
        _write_ahead(cursor)
        # FULL: a commit that returned survives a power cut, in WAL mode too.
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
        if (file := _identity(url.database)) is not None:
            record.info["file"] = (url.database, file)

    @event.listens_for(engine, "checkout")
    def leave_replaced(connection: object, record: ConnectionPoolEntry, proxy: object) -> None:
        if was_replaced(record.info):
            log.warning("%s was replaced by another file, which is used from now on", url.database)
            raise DisconnectionError

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        kind = connection.get_execution_options().get("sched_begin", "IMMEDIATE")
        if kind is not None:
            connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Have a write-ahead log. A new file gets it once, and who meets a writer then is refused at once,
    whatever the busy timeout: so we wait ourselves."""
    give_up_at = time.monotonic() + SQLITE_BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = any(sign in str(error) for sign in SQLITE_BUSY)
            if not is_busy or time.monotonic() > give_up_at:
                raise
        time.sleep(random.uniform(0, 0.01))


def was_replaced(info: Mapping[Any, Any]) -> bool:
    """Whether another file has the name of the one that a connection with this `info` has open.

    Who goes on with a file that was put aside works for nobody. One that is only gone may be put back.
    """
    if "file" not in info:
        return False
    path, file = info["file"]
    return _identity(path) not in (file, None)


def _identity(path: str | None) -> tuple[int, int] | None:
    """What tells a file from another that has its name later; None where there is none."""
    try:
        status = os.stat(path or "")
    except OSError:  # or it is an address of SQLite's own
        return None
    return status.st_dev, status.st_ino


def _make_private(path: str) -> None:
    """What jobs are given is nobody else's to read. The files beside it take its permissions over."""
    if path.startswith("file:"):  # with parameters of SQLite's own
        return
    with suppress(OSError):  # it is there already, or SQLite says why it cannot be
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
