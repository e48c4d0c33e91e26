"""Testing programs that enqueue: jobs run here and now, on a clock that only the test moves.

Rows, encoding, claim, attempts, retries and finish are the real ones; only processes, timeouts and the
passing of time are left out. With pytest, ask for the fixture `sched_queue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from cronqueue import configuration, prune, wakeup
from cronqueue.admission import admit, seconds_until_due
from cronqueue.claim import Band, Claimant, Claimed, new_token, probe
from cronqueue.clock import ManualClock, utcnow
from cronqueue.database import Database
from cronqueue.durations import parse_duration
from cronqueue.exchange import Order, Request, exchange
from cronqueue.execution import Executed, Execution, Surroundings
from cronqueue.finish import Retention
from cronqueue.joblog import hear_logging
from cronqueue.models import Job
from cronqueue.registry import Duration, Task, all_tasks, bind, find_task
from cronqueue.serialization import decode_call, encode_call

R = TypeVar("R")

_CLAIMANT = Claimant("testing", "testing", timedelta(hours=1))
# More in one go than any test means: most likely a task enqueues itself.
MOST_JOBS = 10_000


class SchedQueue:
    """The queue of one test."""

    def __init__(self, database_url: str, start: datetime | None = None) -> None:
        self._clock = ManualClock(start or utcnow())
        self.database = Database(database_url, clock=self._clock)

    @contextmanager
    def configured(self) -> Iterator[SchedQueue]:
        """Make it the queue of this process for a while; what else was configured holds."""
        with configuration.overridden(self.database):
            try:
                yield self
            finally:
                self.database.dispose()

    @property
    def now(self) -> datetime:
        """The time that the queue goes by."""
        return self._clock.time

    def jobs(self, task: Task[..., Any] | str | None = None) -> list[Job[Any]]:
        """All jobs, or those of one task, in the order in which they were enqueued."""
        statement = select(Job).order_by(Job.id)
        if task is not None:
            statement = statement.where(Job.task == _name(task))
        with self.database.snapshot() as connection, Session(connection) as session:
            found: list[Job[Any]] = list(session.scalars(statement))
            session.expunge_all()
        return found

    def drain(self) -> list[Job[Any]]:
        """Run what is due, and what that enqueues, until nothing is; returns the jobs as they are now.

        What a task raises is a failed attempt, as ever: look at `state` and `last_error`.
        """
        ran: list[int] = []
        while batch := run_due(self.database, room=1):
            ran += batch
            if len(ran) > MOST_JOBS:
                raise RuntimeError(f"more than {MOST_JOBS} jobs ran: does a task enqueue itself?")
        prune.expire(self.database)
        by_id = {job.id: job for job in self.jobs()}
        return [by_id[job_id] for job_id in ran]

    def advance(self, duration: Duration) -> list[Job[Any]]:
        """Let time pass: what falls due on the way runs at its time, retries too; returns those jobs."""
        end = self.now + parse_duration(duration)
        ran = self.drain()
        while (wait := self._next_due()) is not None and self.now + wait <= end:
            self._clock.time += wait
            batch = self.drain()
            if not batch and not wait:
                break  # it is due, and no worker may have it
            ran += batch
        self._clock.time = end
        prune.expire(self.database)
        return ran

    def assert_enqueued(
        self, task: Task[..., R] | str, /, *args: object, **kwargs: object
    ) -> Job[R]:
        """The newest job of the task with these arguments; without any, of whatever arguments.

        Raises AssertionError that says what was enqueued instead.
        """
        of_task = self.jobs(task)
        wanted = None if not args and not kwargs else _bound(task, args, kwargs)
        job: Job[R]
        for job in reversed(of_task):
            if wanted is None or _bound(task, *decode_call(job.args_json)) == wanted:
                return job
        shown = "".join(f"\n  {job.task} {job.args_json}" for job in of_task or self.jobs())
        called = "" if wanted is None else f" with {encode_call(args, kwargs)}"
        raise AssertionError(f"no job of {_name(task)}{called}; enqueued:{shown or ' nothing'}")

    @contextmanager
    def inline(self) -> Iterator[None]:
        """Run each job that is due as soon as it is committed, before `enqueue` returns."""
        with wakeup.heard_here(lambda: copy_context().run(self.drain)):
            yield

    def _next_due(self) -> timedelta | None:
        with self.database.snapshot() as connection:
            found = (
                probe(self.database, connection, Band(), ()),
                seconds_until_due(self.database, connection, ()),
            )
        return min((timedelta(seconds=each) for each in found if each is not None), default=None)


def run_due(database: Database, room: int = 10) -> list[int]:
    """One turn of an executor: admit, claim, run, hand in; returns the ids of what ran."""
    admit(database, known_tasks=tuple(all_tasks()))
    order = Order(
        _CLAIMANT,
        Band(),
        new_token(),
        room,
        room,
        None,
        lambda name: find_task(name) is not None,
        tuple(all_tasks()),
    )
    reply = exchange(database, Request(order=order), Retention())
    if reply.claim_error is not None:
        raise reply.claim_error
    ended = [_run(database, claimed) for claimed in reply.claimed]
    finished = [each.finished for each in ended if not each.written]
    exchange(database, Request(finished), Retention())
    return [claimed.id for claimed in reply.claimed]


def _run(database: Database, claimed: Claimed) -> Executed:
    hear_logging()
    execution = Execution(claimed, Surroundings(database, "testing", Retention()))
    if not execution.is_async:
        return copy_context().run(execution.run)
    # In a thread of its own: the test itself may run in an event loop.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, execution.run_async()).result()


def _name(task: Task[..., Any] | str) -> str:
    return task.name if isinstance(task, Task) else task


def _bound(task: Task[..., Any] | str, args: Any, kwargs: Any) -> object:
    """Arguments in one form, whether given by place or by name, after the way through JSON."""
    known = task if isinstance(task, Task) else find_task(task)
    text = encode_call(args, kwargs) if known is None else bind(known, args, kwargs)
    stored_args, stored_kwargs = decode_call(text)
    if known is None:
        return stored_args, stored_kwargs
    bound = known.signature.bind(*stored_args, **stored_kwargs)
    bound.apply_defaults()
    return bound.arguments
