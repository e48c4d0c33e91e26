"""What operators see of the jobs: lists, one job, counts.

Lists never fetch arguments, results or tracebacks, which may be large. All times are aware, in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
)

from cronqueue.database import Database, read_now
from cronqueue.models import Attempt, Job
from cronqueue.states import TERMINAL

AnySelect = Select[*tuple[Any, ...]]

# "newest": by id; "next": waiting ones by their time; "ended": ended ones, the latest first.
Order = Literal["newest", "next", "ended"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs are meant; what is left empty does not matter.

    `due`: queued ones whose time has come. `due_before`: those whose `run_at` comes before that time
    while they wait. `since`: those that were created from then on. Both priorities are included.
    """

    ids: tuple[int, ...] = ()
    states: tuple[str, ...] = ()
    queue: str | None = None
    task: str | None = None
    schedule: str | None = None
    worker: str | None = None
    key: str | None = None
    min_priority: int | None = None
    max_priority: int | None = None
    due: bool = False
    due_before: datetime | None = None
    since: datetime | None = None

    @property
    def in_running_order(self) -> bool:
        """Whether lists show these jobs as they will run, instead of the newest first."""
        return self.due or self.due_before is not None or self.states == ("queued",)

    @property
    def is_of_all_states(self) -> bool:
        """Whether lists show what is nearest to now: the farthest future would fill the first page."""
        return not (self.states or self.in_running_order)

    @property
    def natural_order(self) -> Order:
        """In which order people page through jobs of these states."""
        if self.in_running_order or (self.states and set(self.states) <= set(_WAITING)):
            return "next"
        return "ended" if self.states and set(self.states) <= set(TERMINAL) else "newest"


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of `sched_jobs` without its large columns."""

    id: int
    task: str
    queue: str
    priority: int
    state: str
    run_at: datetime
    attempts: int
    max_attempts: int
    claims: int
    locked_by: str | None
    worker_id: str | None
    locked_at: datetime | None
    locked_until: datetime | None
    failed_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    reason: str | None
    key: str | None
    key_until: str | None
    unique_key: str | None
    origin: str
    batch_id: str | None
    schedule: str | None
    planned_for: datetime | None
    guard: str | None
    slot: int | None
    gated: bool
    expires_at: datetime | None
    held_reason: str | None
    pinned: bool
    cancel_requested_at: datetime | None
    rescues: int
    refunds: int
    run_alone: bool
    timeout: float | None
    v: int
    progress_json: str | None
    tags_json: str | None
    created_at: datetime
    updated_at: datetime

    def is_due(self, now: datetime) -> bool:
        """Whether only a free worker is missing."""
        return self.state == "queued" and self.run_at <= now


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One try at a job that did not succeed."""

    attempt: int
    worker: str | None
    started_at: datetime | None
    finished_at: datetime
    outcome: str
    error: str | None


@dataclass(frozen=True, slots=True)
class JobDetails:
    """Everything about one job."""

    row: JobRow
    args_json: str
    result_json: str | None
    last_error: str | None
    attempts: tuple[AttemptRow, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ends: its last job, and the time by which the jobs are in order, if they are by one."""

    id: int
    moment: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of many; `next` is None on the last page."""

    rows: list[JobRow]
    next: Place | None


def select_jobs(database: Database, chosen: Filter, limit: int | None = 50) -> list[JobRow]:
    """The jobs, newest first; waiting ones in the order in which they will run.

    If all states are meant, those around now.
    """
    with database.snapshot() as connection:
        now = read_now(database, connection)
        if chosen.is_of_all_states:
            return _around_now(connection, chosen, now, limit)
        order = _running_order(chosen, now) if chosen.in_running_order else (Job.id.desc(),)
        return _select(connection, chosen, now, order, limit)


def select_page(
    database: Database,
    chosen: Filter,
    order: Order = "newest",
    *,
    after: Place | None = None,
    limit: int = 50,
) -> Page:
    """The jobs in one of the orders from a place on, which the page before has named.

    What comes or goes meanwhile moves no job from one page to another.
    """
    column, descends = _ORDERS[order]
    with database.snapshot() as connection:
        statement = where(select(*_COLUMNS), chosen, read_now(database, connection))
        if after is not None:
            statement = statement.where(_beyond(after, column, descends))
        keys = [each.desc() if descends else each.asc() for each in (column, Job.id)]
        rows = connection.execute(statement.order_by(*keys).limit(limit + 1)).all()
    found = [_as_job(row) for row in rows[:limit]]
    return Page(found, place_of(found[-1], order) if len(rows) > limit else None)


def place_of(row: JobRow, order: Order) -> Place:
    """Where a page ends whose last job is this one."""
    value = getattr(row, _ORDERS[order][0].key)
    return Place(row.id, value if isinstance(value, datetime) else None)


def read_arguments(database: Database, ids: Sequence[int]) -> dict[int, str]:
    """The stored arguments of some jobs, which may be large: of those that are still there."""
    with database.snapshot() as connection:
        statement = select(Job.id, Job.args_json).where(Job.id.in_(ids))
        return {row[0]: row[1] for row in connection.execute(statement)}


def select_ids(
    database: Database, chosen: Filter, *, after: int = 0, limit: int = 500
) -> list[int]:
    """The ids of the jobs above `after`, ascending: a page for an act on all of them."""
    with database.snapshot() as connection:
        statement = where(select(Job.id), chosen, read_now(database, connection))
        page = statement.where(Job.id > after).order_by(Job.id).limit(limit)
        return list(connection.execute(page).scalars())


def count_jobs(database: Database, chosen: Filter = Filter()) -> int:
    """How many jobs there are."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        statement = where(select(func.count()).select_from(Job), chosen, now)
        count: int = connection.execute(statement).scalar_one()
    return count


def find_job(database: Database, job_id: int) -> JobDetails:
    """One job with its arguments, result and errors; raises LookupError."""
    large = (Job.args_json, Job.result_json, Job.last_error)
    with database.snapshot() as connection:
        row = connection.execute(select(*_COLUMNS, *large).where(Job.id == job_id)).one_or_none()
        if row is None:
            raise LookupError(f"there is no job {job_id}: deleted, or pruned after its retention")
        args_json, result_json, last_error = row[-3:]
        attempts = _attempts(connection, job_id)
    return JobDetails(_as_job(row[:-3]), args_json, result_json, last_error, attempts)


def find_state(connection: Connection, job_id: int) -> str:
    """The state of a job; raises LookupError."""
    state: str | None = connection.execute(select(Job.state).where(Job.id == job_id)).scalar()
    if state is None:
        raise LookupError(f"there is no job {job_id}: deleted, or pruned after its retention")
    return state


def attempts_of(database: Database, job_id: int) -> tuple[AttemptRow, ...]:
    """The tries at a job that did not succeed, in order. One that was retried counts from 1 again."""
    with database.snapshot() as connection:
        return _attempts(connection, job_id)


def where(statement: AnySelect, chosen: Filter, now: datetime) -> AnySelect:
    """A statement about the jobs that are meant."""
    return statement.where(*_conditions(chosen, now))


_NAMES = tuple(each.name for each in fields(JobRow))
_COLUMNS = tuple(getattr(Job, name) for name in _NAMES)
# The column of each order, and whether it descends.
_ORDERS: dict[Order, tuple[Any, bool]] = {
    "newest": (Job.id, True),
    "next": (Job.run_at, False),
    "ended": (Job.finished_at, True),
}
_WAITING = ("queued", "held")


def _around_now(
    connection: Connection, chosen: Filter, now: datetime, limit: int | None
) -> list[JobRow]:
    """Running jobs, then waiting ones as they will run, then ended ones, the latest first.

    What waits and what has ended share the room, half each; what one leaves is the other's.
    """

    def some(states: tuple[str, ...], *order: Any) -> list[JobRow]:
        return _select(connection, replace(chosen, states=states), now, order, limit)

    running = some(("running",), Job.started_at.desc(), Job.id.desc())
    waiting = some(_WAITING, *_running_order(chosen, now))
    ended = some(TERMINAL, Job.finished_at.desc(), Job.id.desc())
    if limit is not None:
        room = limit - len(running)
        waiting = waiting[: max(room - room // 2, room - len(ended))]
        ended = ended[: room - len(waiting)]
    return running + waiting + ended


def _running_order(chosen: Filter, now: datetime) -> tuple[ColumnElement[Any], ...]:
    """Due jobs by their priority, later ones by their time."""
    if chosen.due:
        return (Job.priority.desc(), Job.run_at.asc(), Job.id.asc())
    is_due = case((Job.run_at <= now, 0), else_=1)
    priority = case((Job.run_at <= now, Job.priority), else_=0)
    return (is_due.asc(), priority.desc(), Job.run_at.asc(), Job.id.asc())


def _select(
    connection: Connection,
    chosen: Filter,
    now: datetime,
    order: Sequence[ColumnElement[Any]],
    limit: int | None,
) -> list[JobRow]:
    statement = where(select(*_COLUMNS), chosen, now).order_by(*order).limit(limit)
    return [_as_job(row) for row in connection.execute(statement)]


def _beyond(place: Place, column: Any, descends: bool) -> ColumnElement[bool]:
    """What comes after this place."""
    after_id: ColumnElement[bool] = Job.id < place.id if descends else Job.id > place.id
    if place.moment is None:
        return after_id
    beyond = column < place.moment if descends else column > place.moment
    return or_(beyond, and_(column == place.moment, after_id))


def _conditions(chosen: Filter, now: datetime) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if chosen.ids:
        conditions.append(Job.id.in_(chosen.ids))
    if chosen.states:
        # Spelled out in the statement: SQLite uses a partial index only for what it can read there.
        states: BindParameter[Any] = bindparam(
            "states", chosen.states, expanding=True, literal_execute=True
        )
        conditions.append(Job.state.in_(states))
    for column, value in (
        (Job.queue, chosen.queue),
        (Job.task, chosen.task),
        (Job.schedule, chosen.schedule),
        (Job.locked_by, chosen.worker),
        (Job.key, chosen.key),
    ):
        if value is not None:
            conditions.append(column == value)
    if chosen.min_priority is not None:
        conditions.append(Job.priority >= chosen.min_priority)
    if chosen.max_priority is not None:
        conditions.append(Job.priority <= chosen.max_priority)
    if chosen.due:
        unexpired = or_(Job.expires_at.is_(None), Job.expires_at > now)
        conditions += [Job.state == "queued", Job.run_at <= now, unexpired]
    if chosen.due_before is not None:
        conditions += [Job.state.in_(_WAITING), Job.run_at < chosen.due_before]
    if chosen.since is not None:
        conditions.append(Job.created_at >= chosen.since)
    return conditions


def _as_job(values: Iterable[Any]) -> JobRow:
    return JobRow(**dict(zip(_NAMES, values, strict=True)))


def _attempts(connection: Connection, job_id: int) -> tuple[AttemptRow, ...]:
    columns = [getattr(Attempt, each.name) for each in fields(AttemptRow)]
    statement = select(*columns).where(Attempt.job_id == job_id).order_by(Attempt.id)
    return tuple(AttemptRow(*row) for row in connection.execute(statement))
