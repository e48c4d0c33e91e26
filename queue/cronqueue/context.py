"""The running job, as its own task sees it: `current_job()`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import text
from sqlalchemy.orm import Session

from cronqueue.claim import Claimed
from cronqueue.clock import utcnow
from cronqueue.columns import Instant
from cronqueue.database import Database
from cronqueue.errors import NoCurrentJob
from cronqueue.joblog import JobLog, record_of
from cronqueue.serialization import encode_value

if TYPE_CHECKING:
    from cronqueue.jobsession import JobSession

# A transaction that stays open holds back the vacuum of the whole database.
SESSION_TIMEOUT_SECONDS = 60.0


class RunningJob:
    """What a task may know of the job that it runs for, and do with it."""

    __slots__ = ("_claimed", "_database", "_limit", "_session", "cancelled", "deadline", "kept")

    def __init__(
        self,
        claimed: Claimed,
        database: Database,
        deadline: datetime | None = None,
        limit: Callable[[float], None] = lambda seconds: None,
        kept: JobLog | None = None,
    ) -> None:
        #: When `JobTimeout` will be raised; None without a timeout. The first use of `session` may set it.
        self.deadline = deadline
        #: Whether the task should stop: somebody cancelled the job, or it was lost to another worker.
        self.cancelled = False
        #: The log that is kept with the job; None where none is.
        self.kept = kept
        self._claimed = claimed
        self._database = database
        self._limit = limit
        self._session: JobSession | None = None

    @property
    def id(self) -> int:
        return self._claimed.id

    @property
    def task(self) -> str:
        return self._claimed.task

    @property
    def queue(self) -> str:
        return self._claimed.queue

    @property
    def priority(self) -> int:
        return self._claimed.priority

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._claimed.attempt

    @property
    def max_attempts(self) -> int:
        return self._claimed.max_attempts

    @property
    def run_at(self) -> datetime:
        return self._claimed.run_at.astimezone(UTC)

    @property
    def schedule(self) -> str | None:
        return self._claimed.schedule

    @property
    def planned_for(self) -> datetime | None:
        moment = self._claimed.planned_for
        return None if moment is None else moment.astimezone(UTC)

    @property
    def key(self) -> str | None:
        return self._claimed.key

    @property
    def token(self) -> int:
        """Grows with every claim of the job: a fencing number for systems outside."""
        return self._claimed.token

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named after the task, whose records carry the job's id and attempt.

        From INFO on they are kept with the job, too.
        """
        extra = {"job_id": self.id, "attempt": self.attempt, "schedule": self.schedule}
        return _JobLogger(logging.getLogger(f"cronqueue.job.{self.task}"), extra, self.kept)

    @property
    def previous_success(self) -> datetime | None:
        """`planned_for` of the schedule's last occurrence before this one that succeeded."""
        if self.schedule is None or self.planned_for is None:
            return None
        with self._database.snapshot() as connection:
            parameters = {
                "schedule": self.schedule,
                "before": self._database.moment(self.planned_for),
            }
            moment: datetime | None = connection.execute(_PREVIOUS_SUCCESS, parameters).scalar()
        return moment

    @property
    def session(self) -> Session:
        """A session whose writes commit together with the job's completion, or not at all."""
        if self._session is None:
            from cronqueue.jobsession import open_session

            if self.deadline is None and self._database.is_postgresql:
                self._limit(SESSION_TIMEOUT_SECONDS)
                self.deadline = utcnow() + timedelta(seconds=SESSION_TIMEOUT_SECONDS)
            self._session = open_session(self._database)
        return self._session.session

    @property
    def opened_session(self) -> JobSession | None:
        """The session if the task has asked for one."""
        return self._session

    @property
    def has_log(self) -> bool:
        """Whether it has said something that is kept."""
        return self.kept is not None and self.kept.has_lines

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Show how far the job is; the newest call stands on the row while the job is ours."""
        state = encode_value({"done": done, "total": total, "message": message}, "progress")
        column = "CAST(:progress AS json)" if self._database.is_postgresql else ":progress"
        statement = text(
            f"UPDATE sched_jobs SET progress = {column} WHERE id = :id AND lock_token = :lock_token"
        )
        parameters = {"progress": state, "id": self.id, "lock_token": self._claimed.lock_token}
        self._database.write(lambda connection: connection.execute(statement, parameters).rowcount)

    def log(self, message: str, *arguments: Any) -> None:
        """Log a line in the job's name; it is kept with the job: `sched jobs log`."""
        self.logger.info(message, *arguments, stacklevel=2)

    def __repr__(self) -> str:
        return f"<RunningJob {self.id} {self.task} attempt {self.attempt}>"


class Runs(Protocol):
    """Whatever runs a job, and can tell of it."""

    @property
    def job(self) -> RunningJob: ...


def current_job() -> RunningJob:
    """The job that this code runs for; raises NoCurrentJob outside of one."""
    runs = _current.get()
    if runs is None:
        raise NoCurrentJob("no job runs here: current_job() works inside a task that a worker runs")
    return runs.job


def running_job() -> RunningJob | None:
    """The job that this code runs for, if it does."""
    runs = _current.get()
    return None if runs is None else runs.job


def enter(runs: Runs) -> None:
    """Make its job the current one of the thread or asyncio task."""
    _current.set(runs)


def leave() -> None:
    """No job is current any more."""
    _current.set(None)


def stand_in(task: str, database: Database, now: datetime) -> Runs:
    """What `current_job()` shows where a task runs without a job: number 0, first and only attempt."""
    job = RunningJob(
        Claimed(
            id=0,
            task=task,
            args_json="",
            queue="",
            priority=0,
            run_at=now,
            attempt=1,
            max_attempts=1,
            token=0,
            lock_token="",
            schedule=None,
            planned_for=None,
            key=None,
            guard=None,
            timeout=None,
            refunds=0,
            run_alone=False,
            tags_json=None,
            locked_at=now,
        ),
        database,
    )
    return _StandIn(job)


@dataclass(frozen=True)
class _StandIn:
    job: RunningJob


_current: ContextVar[Runs | None] = ContextVar("cronqueue_current_job", default=None)

_PREVIOUS_SUCCESS = text(
    "SELECT planned_for FROM sched_ledger WHERE schedule = :schedule AND planned_for < :before"
    " AND verdict = 'succeeded' ORDER BY planned_for DESC LIMIT 1"
).columns(planned_for=Instant())


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    def __init__(self, logger: logging.Logger, extra: dict[str, Any], kept: JobLog | None) -> None:
        super().__init__(logger, extra)
        self._kept = kept

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if self._kept is not None and level >= logging.INFO:
            self._kept.keep_record(record_of(level, msg, args, kwargs.get("exc_info")))
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        super().log(level, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        extra = dict(self.extra or {})
        kwargs["extra"] = {**extra, **kwargs.get("extra", {})}
        return f"[job {extra['job_id']}] {msg}", kwargs
