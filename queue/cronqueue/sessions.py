"""Whose transaction a job joins: what a caller may give as `session=`.

Nothing is committed, rolled back or repeated in here. The workers hear of the job once the caller has
committed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, UnboundExecutionError
from sqlalchemy.orm import Session, scoped_session

from cronqueue import configuration, wakeup
from cronqueue.database import Database, is_missing_table, shown
from cronqueue.errors import ArgumentError, SchemaMismatch
from cronqueue.models import Job

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

    AnyAsyncSession = AsyncSession | async_scoped_session[Any] | AsyncConnection
AnySession = Session | scoped_session[Any] | Connection


def synchronous(session: object, remedy: str) -> Session | Connection | None:
    """The session itself, also out of a registry of sessions; None where none was given.

    In a hook that is called for an enqueue, its transaction is the one that is meant. Raises
    ArgumentError, for an asynchronous session with the remedy.
    """
    if session is None:
        return _enqueueing.get()
    if isinstance(session, scoped_session):
        session = session()
    if isinstance(session, Session | Connection):
        return session
    if asynchronous(session) is not None:
        raise ArgumentError(f"session= is asynchronous here: use {remedy}")
    raise ArgumentError(
        f"session={type(session).__name__}: give a SQLAlchemy Session or Connection"
    )


def asynchronous(session: object) -> AsyncSession | AsyncConnection | None:
    """The session if it is one of SQLAlchemy's asynchronous ones, whose extra need not be installed."""
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    if module is None:
        return None
    if isinstance(session, module.async_scoped_session):
        session = session()
    return session if isinstance(session, module.AsyncSession | module.AsyncConnection) else None


@contextmanager
def joined(session: Session | Connection) -> Iterator[tuple[Database, Connection]]:
    """The connection of the caller's transaction, and our view of its database."""
    connection = _connection(session)
    database = configuration.database_of(connection.engine)
    try:
        yield database, connection
    except DBAPIError as error:
        if not is_missing_table(error):
            raise
        raise SchemaMismatch(
            f"the session's database {shown(connection.engine.url)} has no tables of the queue:"
            " give a session of the queue's database, or run `sched db upgrade` on this one"
        ) from error
    wakeup.notify_after_commit(database, session)


@contextmanager
def enqueueing_in(connection: Connection) -> Iterator[None]:
    """What is enqueued meanwhile without a session joins this transaction.

    On a transaction of its own it would wait for SQLite's only writer, which is this one.
    """
    before = _enqueueing.set(connection)
    try:
        yield
    finally:
        _enqueueing.reset(before)


_enqueueing: ContextVar[Connection | None] = ContextVar("cronqueue_enqueueing", default=None)


def _connection(session: Session | Connection) -> Connection:
    if isinstance(session, Connection):
        return session
    try:
        return session.connection(bind_arguments={"mapper": Job.__mapper__})
    except UnboundExecutionError:
        raise ArgumentError(
            "session= is bound to no database for jobs: give Session(engine), or bind"
            " cronqueue.Job in its `binds`"
        ) from None
