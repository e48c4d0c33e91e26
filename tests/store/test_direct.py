"""A single enqueue goes straight to the driver: what it does when the connection is not as it should be."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from cronqueue import configuration, enqueue_many, job, schema, wakeup
from cronqueue.database import Database
from cronqueue.errors import OutcomeUnknown
from job_rows import WAITS_HERE, all_jobs, execute
from postgres_server import PostgresServer
from services import eventually


@job(name="tests.direct")
def task(number: int) -> None: ...


@pytest.fixture
def used(database: Database) -> Iterator[Database]:
    """The database, with a connection that has been used."""
    configuration.use_database(database)
    task.enqueue(0)
    yield database
    configuration.use_database(None)


def test_an_enqueue_after_a_restart_of_the_server_does_not_meet_a_dead_connection(
    own_postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeup, "notify", lambda database: None)  # it would meet it first
    database = Database(own_postgres_server.url())
    schema.upgrade(database)
    configuration.use_database(database)
    task.enqueue(1)
    enqueue_many([task.call(2)])

    own_postgres_server.restart()

    task.enqueue(3)
    enqueue_many([task.call(4)])
    assert len(all_jobs(database)) == 4
    database.dispose()
    configuration.use_database(None)


def test_a_connection_that_breaks_while_a_job_is_stored_leaves_the_outcome_unknown(
    postgres_url: str,
) -> None:
    database = Database(postgres_url)
    configuration.use_database(database)
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            task.enqueue(1)
        except BaseException as error:
            raised.append(error)

    with database.begin() as operator:
        operator.execute(text("LOCK TABLE sched_jobs"))
        thread = threading.Thread(target=attempt)
        thread.start()
        waiting = text(f"SELECT pg_terminate_backend(pid) {WAITS_HERE}")
        eventually(lambda: operator.execute(waiting).scalar(), "the enqueue waits, and is ended")
        thread.join()
    assert [type(error) for error in raised] == [OutcomeUnknown]
    database.dispose()
    configuration.use_database(None)


def test_what_the_database_refuses_is_told_as_in_a_transaction(used: Database) -> None:
    execute(used, "ALTER TABLE sched_jobs RENAME TO elsewhere")
    with pytest.raises(Exception, match="sched_jobs") as caught:
        task.enqueue(1)
    assert type(caught.value).__module__ == "sqlalchemy.exc"


def test_a_forked_process_has_connections_of_its_own(used: Database) -> None:
    assert _idle(used) > 0
    child = os.fork()
    if child == 0:
        os._exit(_idle(used))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert _idle(used) > 0


def _idle(database: Database) -> int:
    """Connections that wait to be used again."""
    assert database.direct is not None
    pools: list[Any] = [database.engine.pool, database.direct._engine.pool]
    return sum(pool.checkedin() for pool in pools)
