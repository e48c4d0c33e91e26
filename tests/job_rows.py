"""Rows of `sched_jobs` for tests: put there, looked at, claimed and finished in one line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from cronqueue import configuration
from cronqueue.claim import Band, Claimant, Claimed, claim, find_lanes, new_token
from cronqueue.clock import ManualClock
from cronqueue.database import Database
from cronqueue.finish import Finished, Retention, finish
from cronqueue.loglines import NewLine
from cronqueue.models import Attempt, Job, Occurrence, jobs
from cronqueue.retry import Verdict

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LEASE = timedelta(seconds=30)
WORKER = Claimant("worker-id", "worker", LEASE)
SUCCEEDED = Verdict("succeeded")

# Who waits for a lock on PostgreSQL; other tests use the same server.
WAITS_HERE = """FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND NOT granted"""


def at(seconds: float) -> datetime:
    """A moment relative to NOW."""
    return NOW + timedelta(seconds=seconds)


def opened(url: str) -> Iterator[Database]:
    """A database whose clock stands still at NOW; for fixtures."""
    database = Database(url, clock=ManualClock(NOW))
    yield database
    database.dispose()


@contextmanager
def configured(database: Database) -> Iterator[Database]:
    """Make it the process's database for a while."""
    configuration.use_database(database)
    try:
        yield database
    finally:
        configuration.use_database(None)


def now() -> datetime:
    """The present, for tests in which the clock goes on."""
    return datetime.now(UTC)


def pass_time(database: Database, seconds: float) -> None:
    """Let the database's clock go on."""
    assert isinstance(database.clock, ManualClock)
    database.clock.time += timedelta(seconds=seconds)


def add(database: Database, **values: Any) -> int:
    """Insert a job, due for a minute unless the values say otherwise."""
    defaults: dict[str, Any] = {"task": "t", "run_at": at(-60), "created_at": at(-60)}
    job: Job[Any] = Job(**{**defaults, **values})
    with (
        database.begin() as connection,
        # What the table refuses ends at a savepoint.
        Session(connection, join_transaction_mode="create_savepoint") as session,
    ):
        session.add(job)
        session.flush()
        job_id = job.id
        session.commit()
    return job_id


def add_occurrence(database: Database, **values: Any) -> int:
    """Insert a job of a schedule, "s" by default, with its line in the ledger."""
    values = {"schedule": "s", "planned_for": at(-60), "origin": "schedule"} | values
    job_id = add(database, **values)
    schedule, planned_for = values["schedule"], values["planned_for"]
    with database.begin() as connection, Session(connection) as session:
        session.add(Occurrence(schedule=schedule, planned_for=planned_for, job_id=job_id))
        session.commit()
    return job_id


def find(database: Database, job_id: int) -> Job[Any] | None:
    """The row, if it is there."""
    with database.snapshot() as connection, Session(connection) as session:
        job: Job[Any] | None = session.get(Job, job_id)
        session.expunge_all()
    return job


def get(database: Database, job_id: int) -> Job[Any]:
    """The row."""
    job = find(database, job_id)
    assert job is not None, f"job {job_id} is gone"
    return job


def columns_of(database: Database, job_id: int) -> dict[str, Any]:
    """The row as it is stored, by the names of its columns."""
    with database.snapshot() as connection:
        found = connection.execute(select(*jobs.columns).where(Job.id == job_id)).one()
    return dict(found._mapping)


def all_jobs(database: Database) -> list[Job[Any]]:
    """All rows by id."""
    with database.snapshot() as connection, Session(connection) as session:
        found = list(session.scalars(select(Job).order_by(Job.id)))
        session.expunge_all()
    return found


def states(database: Database) -> list[str]:
    """The states of all jobs by id."""
    return [job.state for job in all_jobs(database)]


def attempts(database: Database, job_id: int) -> list[Attempt]:
    """What is recorded of the failed tries."""
    with database.snapshot() as connection, Session(connection) as session:
        lines = list(session.scalars(select(Attempt).filter_by(job_id=job_id).order_by(Attempt.id)))
        session.expunge_all()
    return lines


def verdicts(database: Database) -> list[str]:
    """What the ledger says of the occurrences of "s", in their order."""
    statement = text("SELECT verdict FROM sched_ledger WHERE schedule = 's' ORDER BY planned_for")
    with database.snapshot() as connection:
        return list(connection.execute(statement).scalars())


def execute(database: Database, statement: str, **parameters: Any) -> int:
    """Plain SQL, as a person would write it."""
    with database.begin() as connection:
        return connection.execute(text(statement), parameters).rowcount


def query(database: Database, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """What a person's SQL returns."""
    with database.snapshot() as connection:
        return [tuple(row) for row in connection.execute(text(statement), parameters)]


def claim_due(
    database: Database,
    room: int = 100,
    *,
    band: Band = Band(),
    claimant: Claimant = WORKER,
    lock_token: str | None = None,
) -> list[Claimed]:
    """Take what is due, in a transaction of its own."""

    def work(connection: Any) -> list[Claimed]:
        lanes = find_lanes(database, connection, band)
        return claim(database, connection, lanes, room, claimant, lock_token or new_token())

    return database.write(work)


def claim_one(database: Database, **values: Any) -> Claimed:
    """A new job that runs."""
    job_id = add(database, **values)
    (job,) = (job for job in claim_due(database) if job.id == job_id)
    return job


def said(claimed: Claimed, number: int = 1, message: str = "hello", **changed: Any) -> NewLine:
    """A line that this attempt logs."""
    held = (claimed.id, claimed.lock_token, claimed.token, number, claimed.attempt)
    return NewLine(*held, age=0.0, level="info", message=message)._replace(**changed)


def ended(job: Claimed, verdict: Verdict = SUCCEEDED, seconds: float | None = None) -> Finished:
    """The end of a claimed job."""
    return Finished(job.id, job.lock_token, job.attempt, verdict, "worker", seconds)


def let_leases_run_out(database: Database) -> None:
    """As if their workers had not been heard of for a whole lease."""
    moment = database.moment(now() - timedelta(minutes=1))
    execute(database, "UPDATE sched_jobs SET locked_until = :at WHERE state = 'running'", at=moment)


def hand_in(
    database: Database,
    claimed: Claimed | Sequence[Claimed],
    verdict: Verdict = SUCCEEDED,
    retention: Retention = Retention(),
) -> set[int]:
    """Write the verdict on each of the jobs; returns the ids that were still ours."""
    batch = [
        ended(job, verdict) for job in ([claimed] if isinstance(claimed, Claimed) else claimed)
    ]
    return database.write(lambda connection: finish(database, connection, batch, retention))


def ids(found: Iterable[Claimed | Job[Any]]) -> list[int]:
    """Their ids, in order."""
    return [job.id for job in found]


@contextmanager
def recorded_statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that the driver is given, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def record(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", record)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", record)
