"""The database behind the queue: engine, transactions, and what its errors mean.

PostgreSQL and SQLite differ in three ways that matter, and all three are settled here:

- SQLite has one writer at a time. Every write transaction begins with BEGIN IMMEDIATE, because a read
  transaction that turns into a writing one fails at once when another has written meanwhile, whatever
  the busy timeout.
- PostgreSQL may lose the connection while it commits: then nobody knows the outcome (OutcomeUnknown).
- Each names its passing troubles (deadlock, busy) in its own way; `write` repeats those.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from sqlalchemy import URL, Connection, Engine, TextClause, make_url, text
from sqlalchemy.exc import ArgumentError as UrlError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.selectable import TextualSelect

from cronqueue.arrays import to_array
from cronqueue.clock import Clock, SystemClock
from cronqueue.columns import Instant, to_text
from cronqueue.crowding import Crowding
from cronqueue.direct import Direct
from cronqueue.engines import POOLER, READ_ONLY, SQLITE_BUSY, create_engine_of
from cronqueue.errors import ConfigurationError, DatabaseUnreachable, OutcomeUnknown

if TYPE_CHECKING:
    from cronqueue.board import Board

T = TypeVar("T")

# How often a write meets a deadlock or a busy file before it gives up.
WRITE_TRIES = 6
_INSTANT = Instant()
_TRANSIENT_SQLSTATES = {"40001", "40P01", "55P03"}


class Database:
    """One database: its engine, its clock, its transactions."""

    def __init__(
        self,
        url: str | URL | None = None,
        *,
        engine: Engine | None = None,
        clock: Clock | None = None,
        pool_size: int = 5,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.crowding = Crowding()
        self._is_ours = True
        self._pool_size = pool_size
        parsed = None
        if engine is None:
            parsed = parse_url(url or "")
            engine = create_engine_of(parsed, pool_size, self.crowding)
        elif engine.dialect.name == "postgresql" and not engine.dialect.is_async:
            self._is_ours = False
        else:
            # A caller's SQLite engine begins its transactions in another way, and an asynchronous one
            # works in its event loop only: ours goes to the same database.
            engine = create_engine_of(_synchronous(parse_url(engine.url)), pool_size, self.crowding)
        self.engine = engine
        if not self._is_ours:
            # Whatever level the caller's own transactions have: ours count on this one.
            self.engine = engine.execution_options(isolation_level="READ COMMITTED")
        self.url = parsed or self.engine.url
        self.dialect = self.engine.dialect.name
        self.is_postgresql = self.dialect == "postgresql"
        self._autocommit = (
            engine.execution_options(isolation_level="AUTOCOMMIT")
            if self.is_postgresql
            else engine.execution_options(sched_begin=None)
        )
        self._snapshot = self.engine.execution_options(sched_begin="DEFERRED")
        _all.add(self)

    @property
    def is_pooled(self) -> bool:
        """Whether each of our transactions may get another session of the server: nothing outlives one."""
        return POOLER in self.url.query

    @property
    def now_sql(self) -> str:
        """What SQL calls now."""
        return self.clock.sql(self.dialect)

    def now_parameter(self) -> dict[str, Any]:
        """The parameter that `now_sql` needs, in this database's form; empty where it needs none."""
        if ":now" not in self.now_sql:
            return {}
        return {"now": self.moment(self.clock.now())}

    def moment(self, value: datetime) -> Any:
        """A moment as a parameter of textual SQL."""
        return value if self.is_postgresql else to_text(value)

    def as_moment(self, stored: Any) -> Any:
        """A moment, or None, as the driver has read it."""
        return _INSTANT.process_result_value(stored, self.engine.dialect)

    def among(self, parameter: str) -> str:
        """The SQL of "is among the values of this parameter", which `listed` makes."""
        if self.is_postgresql:
            return f"= ANY(:{parameter})"
        return f"IN (SELECT value FROM json_each(:{parameter}))"

    def listed(self, values: Iterable[int] | Iterable[str]) -> Any:
        """Values as one parameter. PostgreSQL knows how many an array has; of JSON it thinks the worst,
        and reads the whole table for five ids."""
        return to_array(values) if self.is_postgresql else json.dumps(list(values))

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction, committed at the end. Raises OutcomeUnknown when that breaks off."""
        with reaching(self.url), self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as error:
                if self.is_postgresql and is_disconnect(error):
                    raise OutcomeUnknown(f"connection lost during COMMIT: {error.orig}") from error
                raise

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A transaction for several reads."""
        with reaching(self.url), self._snapshot.connect() as connection:
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection whose every statement is a transaction of its own."""
        with reaching(self.url), self._autocommit.connect() as connection:
            yield connection

    @cached_property
    def direct(self) -> Direct | None:
        """The way past transactions; None on a caller's engine, whose connections have their own mode."""
        if not self._is_ours:
            return None
        engine = create_engine_of(self.url, self._pool_size, self.crowding, autocommit=True)
        return Direct(engine, most_at_hand=self._pool_size)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a write transaction, again after a deadlock or while the file is busy.

        Once again, too, after a connection that was lost before the commit: the server may have been
        restarted since it was last used.
        """
        for attempt in range(1, WRITE_TRIES + 1):
            try:
                with self.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                may_pass = is_transient(error) or (attempt == 1 and is_disconnect(error))
                if attempt == WRITE_TRIES or not may_pass:
                    raise
                time.sleep(random.uniform(0, 0.01 * 2**attempt))
        raise AssertionError("unreachable")

    def server_now(self) -> datetime:
        """The database's time."""
        with self.autocommit() as connection:
            return read_now(self, connection)

    def make_room(self, board: Board) -> None:
        """Give up what is not in use, if the server has no connection left for us or for the other side
        of the board."""
        self.crowding.share(board)
        if self.crowding.is_on():
            self.dispose()

    def dispose(self) -> None:
        """Close the connections; an engine of the caller's stays as it is."""
        if self._is_ours:
            self.engine.dispose()
        if (direct := self.__dict__.get("direct")) is not None:
            direct.dispose()

    def forget_connections(self) -> None:
        """They belong to the process that we were forked from, which goes on with them."""
        if self._is_ours:
            self.engine.dispose(close=False)
            if (direct := self.__dict__.pop("direct", None)) is not None:
                _of_parents.append(direct)


_all: WeakSet[Database] = WeakSet()
# What our parent holds at hand, kept so that nothing closes it here.
_of_parents: list[Direct] = []


def _forget_connections() -> None:
    for database in list(_all):
        database.forget_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)


def read_now(database: Database, connection: Connection) -> datetime:
    """The time of the database's clock, as this connection sees it."""
    if not database.is_postgresql:
        return database.clock.now()
    statement = text(f"SELECT {database.now_sql} AS now").columns(now=Instant())
    moment: datetime = connection.execute(statement, database.now_parameter()).scalar_one()
    return moment


@lru_cache(maxsize=512)
def prepared(sql: str, *instants: str) -> TextClause | TextualSelect:
    """The words as a statement, with the columns that hold moments.

    The same object for the same words: reading and compiling them costs more than a small batch.
    """
    made = text(sql)
    return made.columns(**{name: Instant() for name in instants}) if instants else made


def parse_url(text: str | URL) -> URL:
    """A database's address; `postgres://` and `postgresql://` mean psycopg 3. Raises ConfigurationError."""
    try:
        url = make_url(text)
    except (UrlError, ValueError):  # the latter for a port that is no number
        raise ConfigurationError(
            f"database URL {_mask(str(text))!r} cannot be read: write sqlite:///jobs.db or postgresql://user@host/name"
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if "\0" in (url.database or ""):
        raise ConfigurationError(f"database URL {str(text)!r} names a file with a NUL character")
    if url.get_backend_name() not in ("postgresql", "sqlite"):
        raise ConfigurationError(
            f"database {url.get_backend_name()!r} is not supported: use sqlite:/// or postgresql://"
        )
    if POOLER in url.query and (
        url.query[POOLER] != "transaction" or url.get_backend_name() != "postgresql"
    ):
        raise ConfigurationError(
            f"{POOLER}={url.query[POOLER]} in the database URL: give {POOLER}=transaction, with PostgreSQL"
        )
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "an SQLite database in memory cannot be shared by processes: name a file, sqlite:///jobs.db"
        )
    return url


def _synchronous(url: URL) -> URL:
    """The same database by the driver that we bring; the others' are asynchronous."""
    driver = "sqlite" if url.get_backend_name() == "sqlite" else "postgresql+psycopg"
    return url.set(drivername=driver)


def shown(url: URL) -> str:
    """The address for people: absolute path, password masked."""
    if url.get_backend_name() == "sqlite" and url.database and not url.database.startswith("file:"):
        url = url.set(database=str(Path(url.database).absolute()))
    return re.sub(r"(password=)[^&]*", r"\1***", url.render_as_string(hide_password=True))


def is_disconnect(error: BaseException) -> bool:
    """Whether the connection is of no more use: lost, ended by an operator, or on a read-only standby."""
    if not isinstance(error, DBAPIError):
        return False
    state = _sqlstate(error)
    return (
        error.connection_invalidated
        or state[:2] == "08"
        or state[:4] == "57P0"
        or state == READ_ONLY
    )


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed if it is repeated: deadlock, lock timeout, busy file."""
    if not isinstance(error, DBAPIError):
        return False
    return _sqlstate(error) in _TRANSIENT_SQLSTATES or any(
        word in str(error.orig) for word in SQLITE_BUSY
    )


def is_missing_table(error: BaseException) -> bool:
    """Whether a table is not there."""
    if not isinstance(error, DBAPIError):
        return False
    return _sqlstate(error) == "42P01" or "no such table" in str(error.orig)


def is_outage(error: BaseException) -> bool:
    """Whether the database cannot be used for now, and may be later."""
    return (
        isinstance(error, DatabaseUnreachable | OutcomeUnknown)
        or is_disconnect(error)
        or is_transient(error)
        or (isinstance(error, DBAPIError) and _sqlstate(error)[:2] in ("53", "57", "58", "XX"))
    )


@contextmanager
def reaching(url: URL) -> Iterator[None]:
    """Turn a failure to connect into one sentence with the address in it."""
    try:
        yield
    except DBAPIError as error:
        if not _is_connect_failure(error):
            raise
        raise DatabaseUnreachable(
            f"cannot use the database {shown(url)}: {_reason(error)}"
        ) from error


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _is_connect_failure(error: DBAPIError) -> bool:
    """Whether this happened at the door, or because of the file: nothing of ours was executed."""
    if "sqlite3" not in type(error.orig).__module__:
        return error.statement is None and _sqlstate(error)[:2] in (
            "",
            "08",
            "28",
            "3D",
            "53",
            "57",
        )
    return any(
        sign in str(error.orig)
        for sign in (
            "unable to open database file",
            "readonly database",
            "file is not a database",
            "disk image is malformed",
            "disk I/O error",
            "disk is full",
        )
    )


def _reason(error: DBAPIError) -> str:
    message = (
        str(error.orig).strip().splitlines()[0]
        if str(error.orig).strip()
        else type(error.orig).__name__
    )
    return _mask(message)


def _mask(text: str) -> str:
    """Hide what stands where a password does."""
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1***@", text)
