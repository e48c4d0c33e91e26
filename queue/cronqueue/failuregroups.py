"""Failed jobs in groups: what is broken, not which row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, case, func, select, type_coerce

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.models import Job
from cronqueue.queries import Filter, where
from cronqueue.tracebacks import error_line

# Of a traceback, what is looked at for the line that names the exception.
_TAIL = 2_000
# Of so many hours it is told when the jobs have failed.
HOURS = 24
_HOUR = timedelta(hours=1)
_EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed jobs of one task whose last error reads the same.

    `by_hour`: how many of them failed in each of the last `HOURS` hours of the clock, the oldest first, the
    present one last.
    """

    task: str
    error: str
    count: int
    first_at: datetime | None
    last_at: datetime | None
    example_id: int
    by_hour: tuple[int, ...] = (0,) * HOURS


def failures(database: Database, chosen: Filter = _EVERYTHING) -> list[FailureGroup]:
    """Failed jobs by task and by the line that names their exception; the largest group first."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        start = first_hour(now)
        tail = _tail_of(database, Job.last_error)
        recent = case((Job.failed_at >= start, _hour_of(database, Job.failed_at)))
        columns = (
            Job.task,
            tail,
            recent,
            func.count(),
            func.min(Job.failed_at),
            func.max(Job.failed_at),
            func.max(Job.id),
        )
        statement = where(select(*columns), chosen, now).where(Job.state == "failed")
        rows = connection.execute(statement.group_by(Job.task, tail, recent)).all()
    found = _merged(_part(row, start) for row in rows)
    return sorted(found, key=lambda group: (-group.count, group.task, group.error))


def first_hour(now: datetime) -> datetime:
    """When the first of the hours begins."""
    return now.replace(minute=0, second=0, microsecond=0) - (HOURS - 1) * _HOUR


def failures_of_group(
    database: Database, task: str, error: str, *, after: int = 0, limit: int = 500
) -> tuple[list[int], int | None]:
    """The failed jobs of one group above an id, ascending, and where to go on; None at the end.

    Looks at `limit` jobs at a time, so there may be fewer in the answer, or none.
    """
    with database.snapshot() as connection:
        tail = _tail_of(database, Job.last_error)
        statement = select(Job.id, tail).where(
            Job.state == "failed", Job.task == task, Job.id > after
        )
        rows = connection.execute(statement.order_by(Job.id).limit(limit)).all()
    found = [job_id for job_id, text in rows if error_line(text) == error]
    return found, rows[-1][0] if len(rows) == limit else None


def _part(row: Row[Any], start: datetime) -> FailureGroup:
    """What failed in one hour, or before all of them."""
    task, text, hour, count, first, last, example = tuple(row)
    by_hour = [0] * HOURS
    if hour is not None:  # a clock that goes back leaves failures of the future
        by_hour[min((hour - start) // _HOUR, HOURS - 1)] = count
    return FailureGroup(task, error_line(text), count, first, last, example, tuple(by_hour))


def _merged(parts: Iterable[FailureGroup]) -> list[FailureGroup]:
    """The parts of a group, and those whose line is the same although the frames above it differ, are one."""
    merged: dict[tuple[str, str], FailureGroup] = {}
    for part in parts:
        known = merged.get((part.task, part.error))
        merged[part.task, part.error] = part if known is None else _sum(known, part)
    return list(merged.values())


def _sum(one: FailureGroup, other: FailureGroup) -> FailureGroup:
    return FailureGroup(
        one.task,
        one.error,
        one.count + other.count,
        min(filter(None, (one.first_at, other.first_at)), default=None),
        max(filter(None, (one.last_at, other.last_at)), default=None),
        max(one.example_id, other.example_id),
        tuple(map(sum, zip(one.by_hour, other.by_hour, strict=True))),
    )


def _tail_of(database: Database, column: Any) -> ColumnElement[Any]:
    if database.is_postgresql:
        return func.right(column, _TAIL)
    return func.substr(column, -_TAIL)


def _hour_of(database: Database, column: Any) -> ColumnElement[Any]:
    """The beginning of its hour. Times are text of fixed width on SQLite: what follows is cut off."""
    if database.is_postgresql:
        return func.date_trunc("hour", column, "UTC", type_=Instant())
    return type_coerce(func.substr(column, 1, 13).concat(":00:00.000000Z"), Instant())
