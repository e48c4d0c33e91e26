"""Handles: `Job` objects outside any session, and what one can ask of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar, overload

from sqlalchemy.orm import Session, make_transient_to_detached

from cronqueue import configuration, operations
from cronqueue.durations import parse_duration
from cronqueue.errors import StateError, WaitTimeout
from cronqueue.insertion import Inserted, NewJob
from cronqueue.models import ROW_FORMAT, Job
from cronqueue.registry import Duration

R = TypeVar("R")

# How often `wait` looks: soon at first, since many jobs are short; then twice a second.
_FIRST_LOOK = 0.01
_LONGEST_LOOK = 0.5


class EnqueuedJobs(Sequence[Job[Any]]):
    """The jobs of one `enqueue_many`; a handle is made when it is looked at."""

    def __init__(self, new: Sequence[NewJob], ids: list[int], made: Mapping[int, Job[Any]]) -> None:
        self.ids = ids
        self._new = new
        self._made = dict(made)

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
            job = get(self.ids[position])
            if job is None:
                raise LookupError(
                    f"job {self.ids[position]} is not there: its transaction is not committed,"
                    " or it was deleted"
                )
            self._made[position] = job
        return self._made[position]

    def __iter__(self) -> Iterator[Job[Any]]:
        return (self[position] for position in range(len(self.ids)))


def new_handle(new: NewJob, row: Inserted, *, created: bool) -> Job[Any]:
    """The handle of a job that was just inserted, without reading it back."""
    job: Job[Any] = Job()
    values = _BLANK | {name: value for name, value in asdict(new).items() if name in _BLANK}
    values |= asdict(row)
    values |= {"state": "held" if new.held_reason else "queued", "unique_key": new.key}
    values["updated_at"] = row.created_at
    if new.key is None:
        values["key_until"] = None
    job.__dict__.update(values)
    make_transient_to_detached(job)
    job.created = created
    return job


def get(job_id: int) -> Job[Any] | None:
    """The job of this id, detached."""
    database = configuration.get_database()
    with database.snapshot() as connection, Session(connection, expire_on_commit=False) as session:
        job: Job[Any] | None = session.get(Job, job_id)
        session.expunge_all()
    return job


def refresh(job: Job[R]) -> Job[R]:
    """Read the row of the handle again."""
    fresh = get(job.id)
    if fresh is None:
        raise LookupError(f"job {job.id} is gone: deleted, or pruned after its retention")
    for column in Job.__mapper__.column_attrs:
        job.__dict__[column.key] = fresh.__dict__[column.key]
    return job


def wait(job: Job[R], timeout: Duration | None = None) -> Job[R]:
    """Look at the job until it has ended."""
    deadline = (
        None if timeout is None else time.monotonic() + parse_duration(timeout).total_seconds()
    )
    pause = _FIRST_LOOK
    while not _look(job).done:
        if deadline is not None and time.monotonic() + pause > deadline:
            raise WaitTimeout(f"job {job.id} is still {job.state} after {timeout}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_LOOK)
    return job


def cancel(job: Job[R], reason: str | None = None) -> Job[R]:
    """Cancel it, or ask it to stop."""
    operations.cancel_job(
        configuration.get_database(), job.id, actor=operations.this_user(), reason=reason
    )
    return refresh(job)


def retry(job: Job[R]) -> Job[R]:
    """Queue it again."""
    operations.retry_job(configuration.get_database(), job.id, actor=operations.this_user())
    return refresh(job)


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
