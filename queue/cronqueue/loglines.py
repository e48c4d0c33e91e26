"""Log lines of jobs in the database: written while the attempt holds its job, read a page at a time.

A line is known by its job, by the claim that ran it (`sched_jobs.claims` at that time: it grows with each)
and by its number there. So writing it again changes nothing, and pages need no other order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, text, tuple_

from cronqueue.arrays import to_array
from cronqueue.database import Database
from cronqueue.models import LogLine

# Of one job, over all its runs; the oldest go first. One that snoozes for ever never ends.
MOST_LINES = 5_000


class NewLine(NamedTuple):
    """A line to be written; `age` is how many seconds ago it was said."""

    job_id: int
    lock_token: str
    claim: int
    number: int
    attempt: int
    age: float
    level: str
    message: str


class LinePlace(NamedTuple):
    """Where a page of lines ends."""

    claim: int
    number: int

    def __str__(self) -> str:
        return f"{self.claim}.{self.number}"


@dataclass(frozen=True, slots=True)
class LogLineRow:
    """One line that a job has logged."""

    claim: int
    number: int
    attempt: int
    at: datetime
    level: str
    message: str

    @property
    def place(self) -> LinePlace:
        return LinePlace(self.claim, self.number)


def write_lines(database: Database, lines: Sequence[NewLine]) -> None:
    """Write the lines of those attempts that hold their jobs still; the others' are left out."""

    def work(connection: Connection) -> None:
        if database.is_postgresql:
            columns = zip(NewLine._fields, zip(*lines, strict=True), strict=True)
            parameters: dict[str, Any] = {name: to_array(values) for name, values in columns}
            parameters |= database.now_parameter()
            connection.execute(_sql(database, _WRITE_POSTGRESQL), parameters)
        else:
            now = database.clock.now()
            rows = [
                {**line._asdict(), "at": database.moment(now - timedelta(seconds=line.age))}
                for line in lines
            ]
            connection.execute(_sql(database, _WRITE_SQLITE), rows)
        # Looked at once in a run: what one run may write is bounded by itself.
        for job_id in {line.job_id for line in lines if line.number == 1}:
            connection.execute(text(_TRIM), {"job_id": job_id, "kept": MOST_LINES - 1})

    database.write(work)


def read_lines(
    database: Database, job_id: int, *, after: LinePlace | None = None, limit: int = 100
) -> list[LogLineRow]:
    """The job's lines after a place, in the order in which they were said."""
    statement = select(*_COLUMNS).where(LogLine.job_id == job_id)
    if after is not None:
        statement = statement.where(tuple_(LogLine.claim, LogLine.number) > after)
    statement = statement.order_by(LogLine.claim, LogLine.number).limit(limit)
    with database.snapshot() as connection:
        return [LogLineRow(*row) for row in connection.execute(statement)]


def last_lines(database: Database, job_id: int, limit: int) -> list[LogLineRow]:
    """The job's newest lines, in the order in which they were said."""
    statement = select(*_COLUMNS).where(LogLine.job_id == job_id)
    statement = statement.order_by(LogLine.claim.desc(), LogLine.number.desc()).limit(limit)
    with database.snapshot() as connection:
        return [LogLineRow(*row) for row in connection.execute(statement)][::-1]


_COLUMNS = (
    LogLine.claim,
    LogLine.number,
    LogLine.attempt,
    LogLine.at,
    LogLine.level,
    LogLine.message,
)
# The token by the primary key, line by line: of a join with an array of unknown length PostgreSQL thinks the
# worst, and reads the whole table.
_WRITE_POSTGRESQL = """
INSERT INTO sched_log_lines (job_id, claim, number, attempt, at, level, message)
SELECT job_id, claim, number, attempt, {now} - make_interval(secs => age), level, message
FROM unnest(CAST(:job_id AS bigint[]), CAST(:lock_token AS text[]), CAST(:claim AS bigint[]),
    CAST(:number AS int[]), CAST(:attempt AS int[]), CAST(:age AS float8[]), CAST(:level AS text[]),
    CAST(:message AS text[]))
    AS line(job_id, lock_token, claim, number, attempt, age, level, message)
WHERE line.lock_token = (SELECT lock_token FROM sched_jobs WHERE id = line.job_id)
ON CONFLICT DO NOTHING
"""
_WRITE_SQLITE = """
INSERT INTO sched_log_lines (job_id, claim, number, attempt, at, level, message)
SELECT :job_id, :claim, :number, :attempt, :at, :level, :message
WHERE :lock_token = (SELECT lock_token FROM sched_jobs WHERE id = :job_id)
ON CONFLICT DO NOTHING
"""
_TRIM = """
DELETE FROM sched_log_lines WHERE job_id = :job_id AND (claim, number) < (
    SELECT claim, number FROM sched_log_lines WHERE job_id = :job_id
    ORDER BY claim DESC, number DESC LIMIT 1 OFFSET :kept)
"""


def _sql(database: Database, statement: str) -> Any:
    return text(statement.format(now=database.now_sql))
