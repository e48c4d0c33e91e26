"""What operators see of the whole: queues, workers, throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.states import STATES, TERMINAL

# A worker gives a sign of life every five seconds: after six that are missing it is silent.
SILENT_AFTER = timedelta(seconds=30)
# Work that is due within this is worth starting a worker for.
SOON = timedelta(minutes=2)
# The newest runs are enough to know how long they take.
SAMPLE = 10_000
RUNS_OF_A_TASK = 100


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused a queue, when, why and for how long; until None means until it is resumed."""

    at: datetime
    by: str | None
    reason: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What one queue holds.

    `soon`: of those that come later, what is due within two minutes. `oldest_due`: the `run_at` of the job
    that has waited longest.
    """

    name: str
    due: int = 0
    later: int = 0
    soon: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    running: int = 0
    failed: int = 0
    oldest_due: datetime | None = None
    next_due: datetime | None = None
    paused: Pause | None = None


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A process that has been heard of. `state` is "running", "draining", or "silent"."""

    id: str
    kind: str
    name: str
    host: str
    pid: int
    version: str
    state: str
    queues: str | None
    exclude_queues: str | None
    min_priority: int | None
    max_priority: int | None
    concurrency: int | None
    running: int | None
    clock_skew: float | None
    tags_json: str | None
    started_at: datetime
    heartbeat_at: datetime
    drain_requested_at: datetime | None
    heartbeat_age: timedelta


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a number of durations, in seconds."""

    count: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Stats:
    """The whole at a glance. `wait` is from due to start, `run` from start to end, of succeeded jobs."""

    by_state: Mapping[str, int]
    due: int
    oldest_due: datetime | None
    last_hour: Mapping[str, int]
    last_day: Mapping[str, int]
    wait: Percentiles | None
    run: Percentiles | None
    workers: int
    places: int


def queue_stats(database: Database) -> list[QueueStats]:
    """Every queue that has a job that is not done with, or is paused; by name."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        at = {"now": database.moment(now), "soon": database.moment(now + SOON)}
        rows = connection.execute(_BY_QUEUE, at).all()
        pauses = {row.name: _pause(row) for row in connection.execute(_PAUSED, at)}
    names = sorted({row.queue for row in rows} | pauses.keys())
    return [_queue(name, [r for r in rows if r.queue == name], pauses.get(name)) for name in names]


def paused_queues(database: Database) -> dict[str, Pause]:
    """The queues that no worker claims from at this time."""
    with database.snapshot() as connection:
        at = {"now": database.moment(read_now(database, connection))}
        return {row.name: _pause(row) for row in connection.execute(_PAUSED, at)}


def list_workers(database: Database) -> list[WorkerStatus]:
    """The processes that have been heard of within a day, by kind and name."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        return [_worker(row, now) for row in connection.execute(_WORKERS)]


def takes_queue(worker: WorkerStatus, queue: str) -> bool:
    """Whether a worker claims from this queue."""
    taken, left_out = _names(worker.queues), _names(worker.exclude_queues)
    return (not taken or queue in taken) and queue not in left_out


def takes_priority(worker: WorkerStatus, priority: int) -> bool:
    """Whether the priority is within the worker's band."""
    low, high = worker.min_priority, worker.max_priority
    return (low is None or low <= priority) and (high is None or priority <= high)


def stats(database: Database) -> Stats:
    """Counts by state, ends of the last hour and day, waits and durations of the newest runs."""
    workers = [each for each in list_workers(database) if each.kind == "worker"]
    alive = [each for each in workers if each.state != "silent"]
    queues = queue_stats(database)
    with database.snapshot() as connection:
        now = read_now(database, connection)
        by_state = {row.state: row.jobs for row in connection.execute(_BY_STATE)}
        hour, day = (database.moment(now - timedelta(hours=hours)) for hours in (1, 24))
        sample = connection.execute(_SAMPLE, {"since": day, "limit": SAMPLE}).all()
        return Stats(
            by_state={state: by_state.get(state, 0) for state in STATES},
            due=sum(queue.due for queue in queues),
            oldest_due=min((q.oldest_due for q in queues if q.oldest_due), default=None),
            last_hour=_ended_since(connection, hour),
            last_day=_ended_since(connection, day),
            wait=percentiles([(row.started_at - row.run_at).total_seconds() for row in sample]),
            run=percentiles([(row.finished_at - row.started_at).total_seconds() for row in sample]),
            workers=len(alive),
            places=sum(each.concurrency or 0 for each in alive),
        )


def durations_by_task(database: Database) -> dict[str, Percentiles]:
    """By task, how long its newest succeeded jobs took from start to end, 100 at most."""
    found = {task: percentiles(each) for task, each in _seconds_by_task(database).items()}
    return {task: each for task, each in found.items() if each is not None}


def ended_by_minute(database: Database, since: datetime) -> dict[datetime, dict[str, int]]:
    """How many jobs have ended in each minute from then on, by their states."""
    minute = _POSTGRESQL_MINUTE if database.is_postgresql else _SQLITE_MINUTE
    statement = text(_BY_MINUTE.format(minute=minute)).columns(minute=Instant())
    found: dict[datetime, dict[str, int]] = {}
    with database.snapshot() as connection:
        for row in connection.execute(statement, {"since": database.moment(since)}):
            found.setdefault(row.minute, {})[row.state] = row.jobs
    return found


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """Nearest-rank percentiles; None of nothing. What is below zero, by a clock's jitter, counts as zero."""
    if not values:
        return None
    ordered = sorted(max(value, 0.0) for value in values)

    def rank(share: float) -> float:
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    return Percentiles(len(ordered), rank(0.50), rank(0.95), rank(0.99))


_ENDED = "state IN ('succeeded', 'failed', 'cancelled', 'skipped')"
_BY_STATE = text("SELECT state, COUNT(*) AS jobs FROM sched_jobs GROUP BY state")
# One walk over the table, a third of a second for a million rows. By the index of each state it takes longer:
# held jobs have none, and the pages of gated ones are read one by one.
_BY_QUEUE = text("""
SELECT queue, state, held_reason, COUNT(*) AS jobs,
    COUNT(*) FILTER (WHERE run_at <= :now) AS due,
    COUNT(*) FILTER (WHERE run_at > :now AND run_at <= :soon) AS soon,
    MIN(run_at) FILTER (WHERE run_at <= :now) AS oldest_due,
    MIN(run_at) FILTER (WHERE run_at > :now) AS next_due
FROM sched_jobs WHERE state IN ('queued', 'held', 'running', 'failed')
GROUP BY queue, state, held_reason
""").columns(oldest_due=Instant(), next_due=Instant())
_PAUSED = text("""
SELECT name, paused_at, paused_by, paused_reason, paused_until FROM sched_queues
WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > :now)
""").columns(paused_at=Instant(), paused_until=Instant())
_WORKERS = text("""
SELECT id, kind, name, host, pid, version, state, queues, exclude_queues, min_priority, max_priority,
    concurrency, running, clock_skew, CAST(tags AS text) AS tags_json, started_at, heartbeat_at,
    drain_requested_at
FROM sched_workers ORDER BY kind DESC, name, id
""").columns(started_at=Instant(), heartbeat_at=Instant(), drain_requested_at=Instant())
# The condition on the states is that of the index: ended jobs by their end.
_ENDED_SINCE = text(
    f"SELECT state, COUNT(*) AS jobs FROM sched_jobs WHERE {_ENDED} AND finished_at > :since"
    " GROUP BY state"
)
_SAMPLE = text(f"""
SELECT run_at, started_at, finished_at FROM sched_jobs
WHERE {_ENDED} AND state = 'succeeded' AND finished_at > :since AND started_at IS NOT NULL
ORDER BY finished_at DESC LIMIT :limit
""").columns(run_at=Instant(), started_at=Instant(), finished_at=Instant())
# Every task has its own newest runs: those of a rare one must not drown in those of a frequent one.
_DURATIONS = text(f"""
SELECT task, started_at, finished_at FROM (
    SELECT task, started_at, finished_at,
        ROW_NUMBER() OVER (PARTITION BY task ORDER BY finished_at DESC) AS age
    FROM sched_jobs WHERE {_ENDED} AND state = 'succeeded' AND started_at IS NOT NULL
) AS runs WHERE age <= :limit
""").columns(started_at=Instant(), finished_at=Instant())


# Times are text of fixed width on SQLite: the seconds are cut off, and zeros put there.
_SQLITE_MINUTE = r"substr(finished_at, 1, 16) || '\:00.000000Z'"
_POSTGRESQL_MINUTE = "date_trunc('minute', finished_at)"
_BY_MINUTE = f"""
SELECT {{minute}} AS minute, state, COUNT(*) AS jobs FROM sched_jobs
WHERE {_ENDED} AND finished_at >= :since GROUP BY 1, 2
"""


def _seconds_by_task(database: Database) -> dict[str, list[float]]:
    with database.snapshot() as connection:
        rows = connection.execute(_DURATIONS, {"limit": RUNS_OF_A_TASK}).all()
    by_task: dict[str, list[float]] = {}
    for row in rows:
        took = (row.finished_at - row.started_at).total_seconds()
        by_task.setdefault(row.task, []).append(max(took, 0.0))
    return by_task


def _queue(name: str, rows: Sequence[Row[Any]], paused: Pause | None) -> QueueStats:
    queued = next((row for row in rows if row.state == "queued"), None)
    return QueueStats(
        name=name,
        due=queued.due if queued else 0,
        later=queued.jobs - queued.due if queued else 0,
        soon=queued.soon if queued else 0,
        held={row.held_reason: row.jobs for row in rows if row.state == "held"},
        running=sum(row.jobs for row in rows if row.state == "running"),
        failed=sum(row.jobs for row in rows if row.state == "failed"),
        oldest_due=queued.oldest_due if queued else None,
        next_due=queued.next_due if queued else None,
        paused=paused,
    )


def _pause(row: Row[Any]) -> Pause:
    return Pause(row.paused_at, row.paused_by, row.paused_reason, row.paused_until)


def _worker(row: Row[Any], now: datetime) -> WorkerStatus:
    age = max(now - row.heartbeat_at, timedelta(0))
    known = dict(row._mapping)
    if age > SILENT_AFTER:
        known["state"] = "silent"
    return WorkerStatus(**known, heartbeat_age=age)


def _names(listed: str | None) -> list[str]:
    return [each.strip() for each in (listed or "").split(",") if each.strip()]


def _ended_since(connection: Connection, since: Any) -> dict[str, int]:
    rows = connection.execute(_ENDED_SINCE, {"since": since})
    found: dict[str, int] = {row.state: row.jobs for row in rows}
    return {state: found.get(state, 0) for state in TERMINAL}
