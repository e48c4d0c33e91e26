"""The tables, as mapped classes: query your queue with ordinary SQLAlchemy.

    session.scalars(select(Job).where(Job.state == "failed").order_by(Job.id.desc()))

`sched_jobs` is the one hot table. Its indexes are partial, each holding what one reader needs; only the
primary key covers every row.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    Index,
    MetaData,
    Text,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cronqueue.columns import SQLITE_INSTANT_GLOB, BigId, Instant, RawJson, server_now
from cronqueue.durations import MAX_DURATION
from cronqueue.states import HELD_REASONS, STATES, TERMINAL

if TYPE_CHECKING:
    from cronqueue.registry import Duration

R = TypeVar("R")

# The row format; a process refuses rows of a higher one.
ROW_FORMAT = 1

ORIGINS = ("adhoc", "schedule", "backfill", "manual")

# What a counter may hold, so that adding to it never fails.
_MOST_TRIES = 1_000_000
_MOST_CLAIMS = 2**62
_LONGEST_TIMEOUT = int(MAX_DURATION.total_seconds())
_INTEGERS = ("priority", "attempts", "max_attempts", "claims", "rescues", "refunds", "v")

_TERMINAL_SQL = "state IN ('succeeded', 'failed', 'cancelled', 'skipped')"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ck": "%(table_name)s_%(constraint_name)s",
            "pk": "%(table_name)s_pkey",
        }
    )
    type_annotation_map = {datetime: Instant(), str: Text()}


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _moment_checks(*columns: str) -> list[CheckConstraint]:
    """Times that every driver reads back, and that sort as text on SQLite."""
    checks = _postgresql_moment_checks(*columns)
    for column in columns:
        sqlite = (
            f"{column} GLOB '{SQLITE_INSTANT_GLOB}' AND {column} >= '1970' AND {column} < '9000'"
        )
        checks.append(CheckConstraint(sqlite, f"{column}_moment").ddl_if(dialect="sqlite"))
    return checks


def _postgresql_moment_checks(*columns: str) -> list[CheckConstraint]:
    """Without infinity, and years that its driver cannot read: one row of those ends every list."""
    return [
        CheckConstraint(
            f"{column} >= '1970-01-01 00:00+00' AND {column} < '9000-01-01 00:00+00'",
            f"{column}_moment",
        ).ddl_if(dialect="postgresql")
        for column in columns
    ]


def _partial(name: str, where: str, *columns: str, unique: bool = False) -> Index:
    """An index that holds only the rows which its reader needs."""
    condition = text(where)
    keys = [text(column) if " " in column else column for column in columns]
    return Index(name, *keys, unique=unique, postgresql_where=condition, sqlite_where=condition)


class Job(Base, Generic[R]):
    """One row, one promise to run a task."""

    __tablename__ = "sched_jobs"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    task: Mapped[str]
    args_json: Mapped[str] = mapped_column(
        "args", RawJson, server_default='{"args": [], "kwargs": {}}'
    )
    queue: Mapped[str] = mapped_column(server_default="default")
    priority: Mapped[int] = mapped_column(server_default=text("0"))
    state: Mapped[str] = mapped_column(server_default="queued")
    run_at: Mapped[datetime] = mapped_column(server_default=server_now())
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[int] = mapped_column(server_default=text("25"))
    claims: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    locked_by: Mapped[str | None]
    worker_id: Mapped[str | None]
    locked_at: Mapped[datetime | None]
    locked_until: Mapped[datetime | None]
    lock_token: Mapped[str | None]
    last_error: Mapped[str | None]
    failed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    result_json: Mapped[str | None] = mapped_column("result", RawJson)
    reason: Mapped[str | None]
    key: Mapped[str | None]
    key_until: Mapped[str | None]
    unique_key: Mapped[str | None]
    origin: Mapped[str] = mapped_column(server_default="adhoc")
    batch_id: Mapped[str | None]
    schedule: Mapped[str | None]
    planned_for: Mapped[datetime | None]
    guard: Mapped[str | None]
    slot: Mapped[int | None]
    gated: Mapped[bool] = mapped_column(Boolean, server_default=false())
    expires_at: Mapped[datetime | None]
    held_reason: Mapped[str | None]
    pinned: Mapped[bool] = mapped_column(Boolean, server_default=false())
    cancel_requested_at: Mapped[datetime | None]
    rescues: Mapped[int] = mapped_column(server_default=text("0"))
    refunds: Mapped[int] = mapped_column(server_default=text("0"))
    run_alone: Mapped[bool] = mapped_column(Boolean, server_default=false())
    timeout: Mapped[float | None] = mapped_column(Float(53))
    v: Mapped[int] = mapped_column(server_default=text(str(ROW_FORMAT)))
    progress_json: Mapped[str | None] = mapped_column("progress", RawJson)
    tags_json: Mapped[str | None] = mapped_column("tags", RawJson)
    created_at: Mapped[datetime] = mapped_column(server_default=server_now())
    updated_at: Mapped[datetime] = mapped_column(server_default=server_now())

    __table_args__ = (
        CheckConstraint(f"state IN ({_quoted(STATES)})", "state"),
        CheckConstraint("(state = 'running') = (lock_token IS NOT NULL)", "lock_token"),
        CheckConstraint("state <> 'running' OR locked_until IS NOT NULL", "lease"),
        CheckConstraint(f"held_reason IN ({_quoted(HELD_REASONS)})", "held_reason"),
        CheckConstraint("(state = 'held') = (held_reason IS NOT NULL)", "held"),
        CheckConstraint("key_until IN ('finish', 'start')", "key_until"),
        CheckConstraint(f"origin IN ({_quoted(ORIGINS)})", "origin"),
        CheckConstraint("length(task) BETWEEN 1 AND 200", "task"),
        CheckConstraint("length(queue) BETWEEN 1 AND 200", "queue"),
        # Bounded, because the claim and the rescue count on: one overflow would stop them for all rows.
        CheckConstraint(
            f"attempts BETWEEN 0 AND {_MOST_TRIES} AND max_attempts BETWEEN 1 AND {_MOST_TRIES}"
            f" AND rescues BETWEEN 0 AND {_MOST_TRIES} AND refunds BETWEEN 0 AND {_MOST_TRIES}"
            f" AND claims BETWEEN 0 AND {_MOST_CLAIMS}",
            "attempts",
        ),
        CheckConstraint(f"timeout > 0 AND timeout <= {_LONGEST_TIMEOUT}", "timeout"),
        # SQLite would keep a text in a number's column, and sort it above all numbers.
        CheckConstraint(
            " AND ".join(f"typeof({column}) = 'integer'" for column in _INTEGERS)
            + " AND typeof(timeout) IN ('real', 'null')"
            " AND typeof(task) = 'text' AND typeof(queue) = 'text' AND typeof(args) = 'text'",
            "types",
        ).ddl_if(dialect="sqlite"),
        *_moment_checks("run_at", "planned_for", "expires_at", "locked_until"),
        *_postgresql_moment_checks(
            "locked_at",
            "started_at",
            "finished_at",
            "failed_at",
            "cancel_requested_at",
            "created_at",
            "updated_at",
        ),
        # Claim by a worker of all queues, and by one of some. `length(queue) > 0` always holds; only the
        # first reader says it. Otherwise PostgreSQL, when its statistics are old, takes this index for
        # the second one too, which then passes all other queues' jobs.
        _partial(
            "sched_jobs_due",
            "state = 'queued' AND NOT gated AND length(queue) > 0",
            "priority DESC",
            "run_at",
            "id",
        ),
        _partial(
            "sched_jobs_due_by_queue",
            "state = 'queued' AND NOT gated",
            "queue",
            "priority DESC",
            "run_at",
            "id",
        ),
        # Admission.
        _partial("sched_jobs_gated", "state = 'queued' AND gated", "run_at"),
        # Renewal by token, and rescue. Without locked_until, so that renewing stays a heap-only update.
        _partial("sched_jobs_running", "state = 'running'", "lock_token", "id"),
        # Workers that know a task which another did not.
        _partial(
            "sched_jobs_unknown_task",
            "state = 'held' AND held_reason = 'unknown_task'",
            "task",
            "priority DESC",
            "run_at",
            "id",
        ),
        # Admission, when a guard is freed.
        _partial(
            "sched_jobs_overlap",
            "state = 'held' AND held_reason = 'overlap'",
            "guard",
            "planned_for",
        ),
        # The sweep that ends what came too late.
        _partial(
            "sched_jobs_expiring",
            "state IN ('queued', 'held') AND expires_at IS NOT NULL",
            "expires_at",
        ),
        # Reconciling and listing what a schedule still has to run.
        _partial(
            "sched_jobs_scheduled",
            "state IN ('queued', 'held') AND schedule IS NOT NULL",
            "schedule",
            "planned_for",
        ),
        # Pruning and lists. By state first: failed ones are kept, and pruning must not pass them.
        _partial("sched_jobs_finished", _TERMINAL_SQL, "state", "finished_at"),
        _partial("sched_jobs_unique_key", "unique_key IS NOT NULL", "unique_key", unique=True),
        _partial(
            "sched_jobs_guard_slot",
            "guard IS NOT NULL AND slot IS NOT NULL",
            "guard",
            "slot",
            unique=True,
        ),
        {
            "sqlite_autoincrement": True,  # an id is never used again
            # Room on the page for the renewals of a lease, and a vacuum that keeps up with a table
            # whose every row is rewritten twice within seconds.
            "postgresql_with": {
                "fillfactor": 85,
                "autovacuum_vacuum_scale_factor": 0.02,
                "autovacuum_vacuum_cost_delay": 0,
                "autovacuum_analyze_scale_factor": 0.05,
            },
        },
    )

    # Whether `enqueue` made this job, or found the one that holds its key.
    created = True

    @property
    def result(self) -> R | None:
        """What the task returned; None until it has. Raises DecodingError."""
        from cronqueue.serialization import decode_value

        return None if self.result_json is None else decode_value(self.result_json)  # type: ignore[return-value]

    @property
    def done(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.state in TERMINAL

    @classmethod
    def get(cls, job_id: int) -> Job[Any] | None:
        """The job of this id, detached from any session; None where there is none."""
        from cronqueue import handles

        return handles.get(job_id)

    def refresh(self) -> Job[R]:
        """Read the row again; raises LookupError when it is gone."""
        from cronqueue import handles

        return handles.refresh(self)

    def wait(self, timeout: Duration | None = None) -> Job[R]:
        """Block until the job has ended; raises WaitTimeout after `timeout`."""
        from cronqueue import handles

        return handles.wait(self, timeout)

    def cancel(self, reason: str | None = None) -> Job[R]:
        """Cancel it if it waits, ask it to stop if it runs; raises StateError if it has ended."""
        from cronqueue import handles

        return handles.cancel(self, reason)

    def retry(self) -> Job[R]:
        """Queue an ended job again, with fresh attempts; raises StateError or KeyTaken."""
        from cronqueue import handles

        return handles.retry(self)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.task} {self.state}>"


# What somebody has put into a job, or got out of it: not everybody's to read.
OF_OTHERS = (Job.args_json, Job.result_json, Job.last_error, Job.progress_json, Job.tags_json)


class Attempt(Base):
    """One failed try at a job."""

    __tablename__ = "sched_attempts"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int]
    worker: Mapped[str | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime]
    outcome: Mapped[str]
    error: Mapped[str | None]

    __table_args__ = (Index("sched_attempts_job", "job_id", "attempt"),)


class LogLine(Base):
    """Something that a job has said while it ran; `claim` is what `claims` of its row was then."""

    __tablename__ = "sched_log_lines"

    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    claim: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    at: Mapped[datetime]
    level: Mapped[str]
    message: Mapped[str]


class Occurrence(Base):
    """One schedule at one instant: the ledger's line. Without a verdict, its job's state is it."""

    __tablename__ = "sched_occurrences"

    schedule: Mapped[str] = mapped_column(primary_key=True)
    planned_for: Mapped[datetime] = mapped_column(primary_key=True)
    verdict: Mapped[str | None]
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    utc_offset: Mapped[int | None]
    decided_at: Mapped[datetime | None]
    # When its schedule's `on_missed` was told that it has been missed.
    told_at: Mapped[datetime | None]

    __table_args__ = (
        *_moment_checks("planned_for"),
        _partial("sched_occurrences_job", "job_id IS NOT NULL", "job_id"),
        _partial(
            "sched_occurrences_untold",
            "substr(verdict, 1, 7) = 'missed:' AND told_at IS NULL",
            "schedule",
        ),
        # Alerts: what was missed lately.
        _partial("sched_occurrences_missed", "substr(verdict, 1, 7) = 'missed:'", "decided_at"),
    )


class OccurrenceRange(Base):
    """Occurrences that were too many, or are too old, for a row each: counted per verdict."""

    __tablename__ = "sched_occurrence_ranges"

    schedule: Mapped[str] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    ends_at: Mapped[datetime] = mapped_column(primary_key=True)
    verdict: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class Schedule(Base):
    """A recurring declaration as it was last applied, and how far it has been written out."""

    __tablename__ = "sched_schedules"

    name: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    definition: Mapped[str]
    fingerprint: Mapped[str]
    timing_hash: Mapped[str]
    payload_hash: Mapped[str]
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    state: Mapped[str] = mapped_column(server_default="active")
    tz: Mapped[str]
    tz_fingerprint: Mapped[str | None]
    croniter_major: Mapped[int | None]
    anchor: Mapped[datetime | None]
    valid_from: Mapped[datetime]
    materialized_until: Mapped[datetime]
    # When the next top-up is due: before a tenth of the range ahead is used up.
    refill_at: Mapped[datetime]
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None]
    paused_reason: Mapped[str | None]
    paused_until: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]
    owner: Mapped[str | None]
    description: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    # Whether something is to be done when it fails or is missed.
    watched: Mapped[bool] = mapped_column(Boolean, server_default=false())
    resumed_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("state IN ('active', 'retired')", "state"),
        _partial("sched_schedules_refill", "state = 'active'", "refill_at"),
        _partial("sched_schedules_watched", "watched AND state = 'active'", "name"),
        Index("sched_schedules_source", "source"),
    )


class Revision(Base):
    """A schedule's times as they were in force from one moment to another; until None means now."""

    __tablename__ = "sched_revisions"

    schedule: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    definition: Mapped[str]
    kind: Mapped[str]
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime | None]


class Source(Base):
    """One file of schedules: the row that a reconcile of it locks."""

    __tablename__ = "sched_sources"

    name: Mapped[str] = mapped_column(primary_key=True)
    content_hash: Mapped[str | None]
    applied_at: Mapped[datetime | None]
    fault: Mapped[str | None]
    fault_at: Mapped[datetime | None]


class Override(Base):
    """What an operator decided about one occurrence, kept through edits of its schedule."""

    __tablename__ = "sched_overrides"

    schedule: Mapped[str] = mapped_column(primary_key=True)
    planned_for: Mapped[datetime] = mapped_column(primary_key=True)
    action: Mapped[str]
    run_at: Mapped[datetime | None]
    priority: Mapped[int | None]
    reason: Mapped[str | None]
    actor: Mapped[str | None]
    created_at: Mapped[datetime]


class Manifest(Base):
    """All schedules as one set of files declares them, known by its hash."""

    __tablename__ = "sched_manifests"

    hash: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int | None] = mapped_column(BigInteger)
    first_seen_at: Mapped[datetime]
    in_force_since: Mapped[datetime | None]
    in_force_until: Mapped[datetime | None]
    brought_by: Mapped[str | None]
    held_at: Mapped[datetime | None]


class Guard(Base):
    """What occurrences that must not overlap share; its row is what admission locks."""

    __tablename__ = "sched_guards"

    key: Mapped[str] = mapped_column(primary_key=True)


class Request(Base):
    """A request that is to enqueue once; `fingerprint` is of what it asked for."""

    __tablename__ = "sched_requests"

    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class Alert(Base):
    """What has gone wrong from one cause, as long as it goes on; `untold` of `count` are in no message."""

    __tablename__ = "sched_alerts"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    cause: Mapped[str]
    kind: Mapped[str]
    subject: Mapped[str]
    message: Mapped[str]
    facts: Mapped[str]
    count: Mapped[int]
    untold: Mapped[int]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        _partial("sched_alerts_open", "ended_at IS NULL", "cause", unique=True),
        {"sqlite_autoincrement": True},
    )


class AlertMessage(Base):
    """A message for one channel. `due_at`: when it is to be sent, or tried again; `token`: who tries."""

    __tablename__ = "sched_alert_messages"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    channel: Mapped[str]
    body: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="waiting")
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    token: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'sent', 'failed')", "state"),
        _partial("sched_alert_messages_due", "state = 'waiting'", "due_at"),
        {"sqlite_autoincrement": True},
    )


class AlertMark(Base):
    """One thing that happened to one job or occurrence, and has been seen to."""

    __tablename__ = "sched_alert_marks"

    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    moment: Mapped[datetime] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]

    __table_args__ = (Index("sched_alert_marks_age", "created_at"),)


class AlertLook(Base):
    """When somebody looked last: of all processes one at a time looks for what is to be told."""

    __tablename__ = "sched_alert_looks"

    name: Mapped[str] = mapped_column(primary_key=True)
    looked_at: Mapped[datetime]


class WorkerRow(Base):
    """A process that runs: an executor of a worker, or a daemon. Correctness never reads it."""

    __tablename__ = "sched_workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    queues: Mapped[str | None]
    exclude_queues: Mapped[str | None]
    min_priority: Mapped[int | None]
    max_priority: Mapped[int | None]
    concurrency: Mapped[int | None]
    running: Mapped[int | None]
    state: Mapped[str]
    clock_skew: Mapped[float | None] = mapped_column(Float(53))
    manifest_hash: Mapped[str | None]
    tags_json: Mapped[str | None] = mapped_column("tags", RawJson)
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    drain_requested_at: Mapped[datetime | None]


class QueueRow(Base):
    """A queue with a setting of its own; others need no row."""

    __tablename__ = "sched_queues"

    name: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None]
    paused_reason: Mapped[str | None]
    paused_until: Mapped[datetime | None]


class Audit(Base):
    """Who changed what: one row for every act of an operator."""

    __tablename__ = "sched_audit"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    target: Mapped[str]
    detail_json: Mapped[str | None] = mapped_column("detail", RawJson)

    __table_args__ = ({"sqlite_autoincrement": True},)


LEDGER_VIEW = """
CREATE VIEW sched_ledger AS
SELECT o.schedule, o.planned_for, COALESCE(o.verdict, j.state, 'lost:deleted') AS verdict, o.job_id
FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id
"""

jobs = Job.__table__
