"""An answer of PostgreSQL that does not come is not waited for, where nobody said otherwise."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from cronqueue import configuration, current_job, job
from cronqueue.database import Database, is_disconnect, is_outage
from cronqueue.errors import OutcomeUnknown
from cronqueue.patience import USUAL, answers_within, patience
from cronqueue.testing import run_due
from job_rows import query


@pytest.fixture
def database(postgres_url: str) -> Database:
    return Database(postgres_url)


def test_an_answer_that_takes_too_long_costs_the_connection(database: Database) -> None:
    with (
        pytest.raises(OperationalError, match=r"no answer from the server within 0\.3 s") as raised,
        answers_within(0.3),
        database.begin() as connection,
    ):
        connection.execute(text("SELECT pg_sleep(20)"))
    assert is_disconnect(raised.value)
    assert is_outage(raised.value)
    assert query(database, "SELECT 1") == [(1,)]


def test_what_may_take_its_time_does(database: Database) -> None:
    with answers_within(0.3), answers_within(None), database.autocommit() as connection:
        connection.execute(text("SELECT pg_sleep(0.6)"))


def test_a_commit_without_an_answer_is_an_unknown_outcome(database: Database) -> None:
    with database.autocommit() as connection:
        connection.execute(text(SLOW_COMMIT))
    with (
        pytest.raises(OutcomeUnknown),
        answers_within(0.3),
        database.begin() as connection,
    ):
        connection.execute(text("INSERT INTO slow VALUES (1)"))


def test_only_the_statements_of_a_jobs_session_take_as_long_as_they_like(
    database: Database,
) -> None:
    seen = []

    @job(name="patience.look")
    def look() -> None:
        seen.append(patience.get())
        assert current_job().session is not None
        seen.append(patience.get())

    configuration.use_database(database)
    try:
        for _ in range(2):
            look.enqueue()
            run_due(database)
    finally:
        configuration.use_database(None)
    assert seen == [USUAL, None] * 2


SLOW_COMMIT = """
CREATE TABLE slow (id int);
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(20); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION wait()
"""
