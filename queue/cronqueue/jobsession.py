"""The job's own session: what is written through it commits together with the completion or not at all.

PostgreSQL: the session lives in savepoints of an outer transaction of ours, so that `commit()` in the task
cannot end it. SQLite has one writer at a time, and a job must not hold its place for as long as it runs:
reads commit by themselves, what was added waits in memory, and everything is written at the finish.
"""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import ORMExecuteState, Session

from cronqueue.database import Database, is_disconnect
from cronqueue.errors import CronqueueError, OutcomeUnknown
from cronqueue.finish import Finished, Retention, finish
from cronqueue.patience import wait_for_ever


class SessionMisuse(CronqueueError):
    """The job's session was asked for something that it cannot do on this database."""


class JobSession(Protocol):
    """A session with the transaction around it."""

    @property
    def session(self) -> Session: ...

    def finish(self, finished: Finished, retention: Retention) -> bool:
        """Flush, finish the job, commit; all of it rolled back and False if the job is not ours any more.

        Raises OutcomeUnknown when the connection breaks while it commits.
        """

    def abandon(self) -> None:
        """Forget everything that was written."""


def open_session(database: Database) -> JobSession:
    """A session for the job that runs."""
    return _PostgresSession(database) if database.is_postgresql else _SqliteSession(database)


class _PostgresSession:
    def __init__(self, database: Database) -> None:
        wait_for_ever()
        self._database = database
        self._connection = database.engine.connect()
        self._outer = self._connection.begin()
        # The task's own timeout bounds how long this transaction may idle; how long its statements
        # may take, and wait for locks, is the server's or the user's to say, not what suits ours.
        self._connection.execute(
            text(
                "SET LOCAL idle_in_transaction_session_timeout = 0;"
                " SET LOCAL statement_timeout TO DEFAULT; SET LOCAL lock_timeout TO DEFAULT"
            )
        )
        self.session = Session(
            self._connection, join_transaction_mode="create_savepoint", expire_on_commit=False
        )

    def finish(self, finished: Finished, retention: Retention) -> bool:
        try:
            self.session.commit()
            ours = bool(finish(self._database, self._connection, [finished], retention))
            if ours:
                self._commit()
            return ours
        finally:
            self.abandon()

    def abandon(self) -> None:
        self.session.close()
        self._connection.close()  # rolls back what is open

    def _commit(self) -> None:
        try:
            self._outer.commit()
        except DBAPIError as error:
            if is_disconnect(error):
                raise OutcomeUnknown(f"connection lost during COMMIT: {error.orig}") from error
            raise


class _SqliteSession:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection = database.engine.connect().execution_options(sched_begin=None)
        # Not the pool's any more: what is set on it here must not reach anybody else.
        self._connection.detach()
        self._connection.exec_driver_sql("PRAGMA query_only = ON")
        self.session = _BufferedSession(self._connection)

    def finish(self, finished: Finished, retention: Retention) -> bool:
        try:
            # To SQLAlchemy a transaction is open since the first statement; to SQLite it begins here.
            connection = self.session.connection()
            connection.exec_driver_sql("PRAGMA query_only = OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            self.session.finishing = True
            self.session.flush()
            ours = bool(finish(self._database, connection, [finished], retention))
            if ours:
                self.session.commit()
                # The transaction was open before the session joined it, so it leaves the end to us.
                self._connection.commit()
            return ours
        finally:
            self.abandon()

    def abandon(self) -> None:
        self.session.finishing = True
        self.session.close()
        self._connection.close()


class _BufferedSession(Session):
    """Reads at once, writes at the finish."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, autoflush=False, expire_on_commit=False)
        self.finishing = False
        self._has_committed = False
        event.listen(self, "do_orm_execute", _refuse_writes)

    def commit(self) -> None:
        """Nothing, until the job completes: what was added so far will be written then."""
        if self.finishing:
            super().commit()
        elif self.new or self.dirty or self.deleted:
            self._has_committed = True

    def rollback(self) -> None:
        """Forget what was added; refused once a part of it was committed."""
        if self._has_committed and not self.finishing:
            raise SessionMisuse(
                "rollback() after commit() in a job's session: on SQLite what you committed still waits"
                " in memory, and would be lost; raise an exception to undo all of it, or expunge objects"
            )
        super().rollback()

    def close(self) -> None:
        """Forget what was added and not committed; what was committed stays until the job completes."""
        if self.finishing or not self._has_committed:
            super().close()

    def flush(self, objects: Any = None) -> None:
        if not self.finishing:
            raise SessionMisuse(
                "flush() in a job's session: SQLite has one writer, so what you add is written when the job"
                " completes; leave out the flush, or use a session of your own"
            )
        super().flush(objects)


def _refuse_writes(state: ORMExecuteState) -> Any:
    """Whatever way it was written in, SQL text included: SQLite itself refuses it, here is the reason."""
    try:
        return state.invoke_statement()
    except OperationalError as error:
        if "readonly database" not in str(error.orig):
            raise
        raise SessionMisuse(
            "INSERT, UPDATE and DELETE through execute() in a job's session would keep SQLite's only"
            " writer for as long as the job runs: add objects, or use a session of your own"
        ) from None
