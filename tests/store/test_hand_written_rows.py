"""Rows that people write with plain SQL: refused by the table, or a matter of their own job alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from cronqueue import configuration, job, prune, rescue
from cronqueue.claim import Band, probe
from cronqueue.database import Database
from cronqueue.lease import renew
from cronqueue.models import Job
from cronqueue.settings import Settings
from cronqueue.testing import run_due
from job_rows import LEASE, all_jobs, execute

BIG = 2**31 - 1
HUGE = 2**63 - 1
NAUGHT = "\\u0000"

# Values as SQL, on both databases. `run_at` and the rest have their defaults.
ON_BOTH: dict[str, dict[str, str]] = {
    "no task": {"task": "''"},
    "a task that is NULL": {"task": "NULL"},
    "a task of 201 letters": {"task": f"'{'x' * 201}'"},
    "a task that nobody knows": {"task": "'os.system'"},
    "no queue": {"queue": "''"},
    "a queue of 201 letters": {"queue": f"'{'x' * 201}'"},
    "a queue with a comma and a line": {"queue": "'a,b\nc'"},
    "a state that is unknown": {"state": "'done'"},
    "a state that is NULL": {"state": "NULL"},
    "a state in capitals": {"state": "'QUEUED'"},
    "running without a token": {"state": "'running'"},
    "running without a lease": {"state": "'running'", "lock_token": "'x'"},
    "queued with a token": {"lock_token": "'x'"},
    "held without a reason": {"state": "'held'"},
    "held for no known reason": {"state": "'held'", "held_reason": "'moody'"},
    "queued with a reason to be held": {"held_reason": "'paused'"},
    "a key until never": {"key_until": "'never'"},
    "an origin that is unknown": {"origin": "'heaven'"},
    "attempts at the end of their range": {"attempts": str(BIG)},
    "attempts below zero": {"attempts": "-1"},
    "claims at the end of their range": {"claims": str(HUGE)},
    "no attempts allowed": {"max_attempts": "0"},
    "attempts that are spent": {"attempts": "7", "max_attempts": "3"},
    "rescues at the end of their range": {"rescues": str(BIG)},
    "refunds at the end of their range": {"refunds": str(BIG)},
    "refunds below zero": {"refunds": "-1"},
    "the highest priority": {"priority": str(BIG)},
    "the lowest priority": {"priority": str(-BIG - 1)},
    "a timeout of zero": {"timeout": "0"},
    "a timeout below zero": {"timeout": "-1"},
    "a timeout of ages": {"timeout": "1e300"},
    "a row format from the future": {"v": str(BIG)},
    "a row format below zero": {"v": "-5"},
    "a guard that is not gated": {"guard": "'g'", "slot": "0"},
    "a slot without a guard": {"slot": "5"},
    "arguments that are NULL": {"args": "NULL"},
    "arguments that are a number": {"args": "'7'"},
    "arguments that are a list": {"args": "'[1, 2]'"},
    "arguments that are null in JSON": {"args": "'null'"},
    "arguments without keywords": {"args": """'{"args": [1]}'"""},
    "arguments with a NUL": {"args": f"""'{{"args": ["{NAUGHT}"], "kwargs": {{}}}}'"""},
    "arguments with half a character": {"args": """'{"args": ["\\ud800"], "kwargs": {}}'"""},
    "an unknown type among the arguments": {
        "args": """'{"args": [{"$": "os", "v": 1}], "kwargs": {}}'"""
    },
    "a number of 5,001 digits": {"args": f"""'{{"args": [{"9" * 5001}], "kwargs": {{}}}}'"""},
    "a depth of 2,000": {"args": f"""'{{"args": [{"[" * 2000}{"]" * 2000}], "kwargs": {{}}}}'"""},
    "too many arguments": {"args": """'{"args": [1, 2, 3], "kwargs": {"no": 1}}'"""},
}
FAR_MOMENTS = ("'infinity'", "'-infinity'", "'294276-12-31'", "'0044-03-15 BC'", "'1969-12-31'")
MOMENTS = (
    "run_at",
    "planned_for",
    "expires_at",
    "locked_at",
    "locked_until",
    "started_at",
    "finished_at",
    "failed_at",
    "cancel_requested_at",
    "created_at",
    "updated_at",
)
ON_POSTGRESQL: dict[str, dict[str, str]] = {
    **{f"{moment} in {name}": {name: moment} for name in MOMENTS for moment in FAR_MOMENTS[:2]},
    **{f"{moment} in run_at": {"run_at": moment} for moment in FAR_MOMENTS[2:]},
    "a timeout that is no number": {"timeout": "'NaN'"},
    "a timeout without end": {"timeout": "'Infinity'"},
}
ON_SQLITE: dict[str, dict[str, str]] = {
    **{
        f"{moment} in {name}": {name: moment}
        for name in MOMENTS
        for moment in ("'now'", "'2026-02-31T00:00:00.000000Z'", "datetime('now')", "x'ff'")
    },
    "24 o'clock": {"run_at": "'2026-01-01T24:00:00.000000Z'"},
    "a time without a zone": {"run_at": "'2026-01-01T00:00:00.000000'"},
    "a time as a number": {"run_at": "1767323045"},
    "a priority of words": {"priority": "'high'"},
    "attempts in words": {"attempts": "'three'"},
    "rescues in words": {"rescues": "'one'"},
    "refunds in words": {"refunds": "'one'"},
    "a row format in words": {"v": "'one'"},
    "a timeout in words": {"timeout": "'long'"},
    "a timeout without end": {"timeout": "9e999"},
    "a priority beyond 32 bits": {"priority": str(HUGE)},
    "a task of bytes": {"task": "x'ff00'"},
    "a queue of bytes": {"queue": "x'ff00'"},
    "arguments of bytes": {"args": "x'ff00'"},
    "a task that is no UTF-8": {"task": "CAST(x'ff' AS TEXT)"},
    "a queue that is no UTF-8": {"queue": "CAST(x'ff' AS TEXT)"},
    "arguments that are no UTF-8": {"args": "CAST(x'ff' AS TEXT)"},
    "an error that is no UTF-8": {"last_error": "CAST(x'ff' AS TEXT)"},
    "a task with a NUL": {"task": "'a' || char(0) || 'b'"},
    "arguments that are no JSON": {"args": "'{\"args\": ['"},
    "a flag in words": {"run_alone": "'yes'"},
}
EVERY = (
    [pytest.param("sqlite", row, id=f"sqlite: {name}") for name, row in ON_SQLITE.items()]
    + [
        pytest.param("postgresql", row, id=f"postgresql: {name}")
        for name, row in ON_POSTGRESQL.items()
    ]
    + [
        pytest.param(dialect, row, id=f"{dialect}: {name}")
        for name, row in ON_BOTH.items()
        for dialect in ("sqlite", "postgresql")
    ]
)
GOOD = "hand_written.good"


PATIENT = timedelta(hours=1)


@job(name=GOOD)
def good(*args: Any, **kwargs: Any) -> int:
    return 7


@pytest.fixture
def database(dialect: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    url = request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[dialect])
    configuration.use_settings(Settings())
    database = Database(url)
    yield database
    database.dispose()
    configuration.use_database(None)


@pytest.mark.parametrize(("dialect", "row"), EVERY)
def test_a_waiting_row_of_any_kind_is_refused_or_stops_no_other(
    database: Database, row: dict[str, str]
) -> None:
    insert(database, {"task": f"'{GOOD}'", "priority": "5"} | row)
    good_one = insert(database, {"task": f"'{GOOD}'"})
    for _ in range(3):
        run_due(database)
    keep_house(database)
    assert state_of(database, good_one) == "succeeded"
    everything_can_be_listed(database)


@pytest.mark.parametrize(
    ("dialect", "row"),
    [each for each in EVERY if "state" not in cast(dict[str, str], each.values[1])],
)
def test_a_running_row_of_any_kind_is_refused_or_keeps_no_other_from_its_rescue(
    database: Database, row: dict[str, str]
) -> None:
    past = f"'{database.moment(database.server_now() - PATIENT)}'"
    lost = {"task": f"'{GOOD}'", "state": "'running'", "lock_token": "'lost'", "locked_until": past}
    insert(database, lost | row)
    good_one = insert(database, lost)
    renew(database, ["another"], LEASE)
    rescue.rescue(database)
    assert state_of(database, good_one) == "queued"
    keep_house(database)
    everything_can_be_listed(database)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_row_with_nothing_but_a_task_runs_at_once(database: Database) -> None:
    execute(database, f"INSERT INTO sched_jobs (task) VALUES ('{GOOD}')")
    run_due(database)
    (done,) = all_jobs(database)
    assert (done.state, done.result) == ("succeeded", 7)


def insert(database: Database, row: dict[str, str]) -> int | None:
    """The id, if the table takes the row."""
    statement = f"INSERT INTO sched_jobs ({', '.join(row)}) VALUES ({', '.join(row.values())})"
    try:
        with database.begin() as connection:
            inserted = connection.exec_driver_sql(f"{statement} RETURNING id")
            job_id: int = inserted.scalar_one()
            return job_id
    except (IntegrityError, DataError):
        return None


def keep_house(database: Database) -> None:
    with database.snapshot() as connection:
        probe(database, connection, Band(), (GOOD,))
    renew(database, ["lost"], LEASE)
    rescue.rescue(database)
    prune.expire(database)
    prune.prune(database, PATIENT, 100)


def everything_can_be_listed(database: Database) -> None:
    with database.snapshot() as connection, Session(connection) as session:
        for listed in session.scalars(select(Job)):
            assert repr(listed)


def state_of(database: Database, job_id: int | None) -> str:
    assert job_id is not None
    with database.snapshot() as connection:
        state: str = connection.execute(
            text("SELECT state FROM sched_jobs WHERE id = :id"), {"id": job_id}
        ).scalar_one()
    return state
