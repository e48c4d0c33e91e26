"""Handles: `Job` objects outside any session, and what one can ask of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar, overload
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session, class_mapper
from sqlalchemy.orm.attributes import instance_state

from cronqueue import configuration, operations
from cronqueue.database import Database
from cronqueue.durations import parse_duration
from cronqueue.errors import ArgumentError, StateError, WaitTimeout
from cronqueue.insertion import Inserted, NewJob
from cronqueue.models import ROW_FORMAT, Job
from cronqueue.registry import Duration

R = TypeVar("R")

# How often `wait` looks: soon at first, since many jobs are short; then twice a second.
_FIRST_LOOK = 0.01
_LONGEST_LOOK = 0.5
_MAPPER = class_mapper(Job)
# What a column of 64 bits holds; no job has a larger number.
_LARGEST_ID = 2**63 - 1


class EnqueuedJobs(Sequence[Job[Any]]):
    """The jobs of one `enqueue_many`; a handle is made when it is looked at."""

    def __init__(self, ids: list[int], made: Mapping[int, Job[Any]], database: Database) -> None:
        self.ids = ids
        self._made = {index: live_in(database, job) for index, job in made.items()}
        self._database = database

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Job[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job[Any]]: ...
    def __getitem__(self, index: int | slice) -> Job[Any] | list[Job[Any]]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self.ids)))]
        position = range(len(self.ids))[index]
        if position not in self._made:
            job = _read(self._database, self.ids[position])
            if job is None:
                raise LookupError(
                    f"job {self.ids[position]} is not there: its transaction is not committed,"
                    " or it was deleted"
                )
            self._made[position] = live_in(self._database, job)
        return self._made[position]

    def __iter__(self) -> Iterator[Job[Any]]:
        return (self[position] for position in range(len(self.ids)))


def new_handle(new: NewJob, row: Inserted, *, created: bool) -> Job[Any]:
    """The handle of a job that was just inserted, without reading it back."""
    job: Job[Any] = _MAPPER.class_manager.new_instance()
    values = job.__dict__
    values.update(_BLANK)
    values.update(zip(_GIVEN, _given(new), strict=True))
    values.update(zip(Inserted._fields, row, strict=True))
    values["state"] = "held" if new.held_reason else "queued"
    values["unique_key"] = new.key
    values["updated_at"] = row.created_at
    if new.key is None:
        values["key_until"] = None
    # Detached, as by `make_transient_to_detached`, which takes three times as long to find out that
    # nothing is left to be loaded.
    instance_state(job).key = _MAPPER.identity_key_from_primary_key((row.id,))
    job.created = created
    return job


def live_in(database: Database, job: Job[R]) -> Job[R]:
    """The handle, which from now on asks this database: a session's may be another than ours."""
    _databases[job] = database
    return job


def get(job_id: int) -> Job[Any] | None:
    """The job of this id, detached."""
    if isinstance(job_id, bool) or not isinstance(job_id, int):
        raise ArgumentError(f"job id {job_id!r}: give a whole number")
    return _read(configuration.get_database(), job_id)


def refresh(job: Job[R]) -> Job[R]:
    """Read the row of the handle again."""
    fresh = _read(_database_of(job), job.id)
    if fresh is None:
        raise LookupError(f"job {job.id} is gone: deleted, or pruned after its retention")
    for column in Job.__mapper__.column_attrs:
        job.__dict__[column.key] = fresh.__dict__[column.key]
    return job


def wait(job: Job[R], timeout: Duration | None = None) -> Job[R]:
    """Look at the job until it has ended."""
    deadline = time.monotonic() + _seconds(timeout)
    pause = _FIRST_LOOK
    while not _look(job).done:
        left = deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(f"job {job.id} is still {job.state} after {timeout}")
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_LOOK)
    return job


def cancel(job: Job[R], reason: str | None = None) -> Job[R]:
    """Cancel it, or ask it to stop."""
    operations.cancel_job(_database_of(job), job.id, actor=operations.this_user(), reason=reason)
    return refresh(job)


def retry(job: Job[R]) -> Job[R]:
    """Queue it again."""
    operations.retry_job(_database_of(job), job.id, actor=operations.this_user())
    return refresh(job)


# Beside the handles, not in them: what is no value cannot be pickled or copied.
_databases: WeakKeyDictionary[Job[Any], Database] = WeakKeyDictionary()


def _database_of(job: Job[Any]) -> Database:
    return _databases.get(job) or configuration.get_database()


def _read(database: Database, job_id: int) -> Job[Any] | None:
    if not 0 < job_id <= _LARGEST_ID:
        return None
    with database.snapshot() as connection, Session(connection, expire_on_commit=False) as session:
        job: Job[Any] | None = session.get(Job, job_id)
        session.expunge_all()
    return job


def _seconds(timeout: Duration | None) -> float:
    if timeout is None:
        return math.inf
    try:
        return parse_duration(timeout).total_seconds()
    except ValueError as error:
        raise ArgumentError(f"timeout={timeout!r}: {error}") from None


def _look(job: Job[R]) -> Job[R]:
    try:
        return refresh(job)
    except LookupError:
        raise StateError(
            f"job {job.id} cannot be waited for: its transaction is not committed, or it was deleted"
        ) from None


_BLANK: dict[str, Any] = {attribute.key: None for attribute in Job.__mapper__.column_attrs} | {
    "attempts": 0,
    "claims": 0,
    "pinned": False,
    "rescues": 0,
    "refunds": 0,
    "run_alone": False,
    "v": ROW_FORMAT,
}
_GIVEN = [field.name for field in fields(NewJob) if field.name in _BLANK]
_given = attrgetter(*_GIVEN)
