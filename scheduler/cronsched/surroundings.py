"""What the database tells about the schedules' surroundings: how long tasks take, who takes which queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronsched.definition import Definition
from cronsched.lints import Surroundings

# A worker that has been silent for longer is gone.
_SILENCE = timedelta(minutes=1)
# So many of the newest runs are looked at, of all tasks together.
_RUNS = 5_000
# What most runs take: nineteen of twenty.
_MOST = 0.95


def look_around(
    database: Database,
    connection: Connection,
    definitions: Iterable[Definition],
    other_releases: Mapping[str, str],
) -> Surroundings:
    """What lints are judged by."""
    queues = {each.queue for each in definitions}
    return Surroundings(
        _durations(connection), _taken(database, connection, queues), other_releases
    )


_ENDED = text("""
SELECT task, started_at, finished_at FROM sched_jobs
WHERE state = 'succeeded' AND started_at IS NOT NULL AND finished_at IS NOT NULL
ORDER BY finished_at DESC LIMIT :limit
""").columns(started_at=Instant(), finished_at=Instant())
_WORKERS = text("""
SELECT queues, exclude_queues FROM sched_workers WHERE kind = 'worker' AND heartbeat_at > :since
""")


def _durations(connection: Connection) -> dict[str, timedelta]:
    runs: dict[str, list[timedelta]] = {}
    for row in connection.execute(_ENDED, {"limit": _RUNS}):
        runs.setdefault(row.task, []).append(row.finished_at - row.started_at)
    return {task: sorted(some)[int(len(some) * _MOST)] for task, some in runs.items()}


def _taken(
    database: Database, connection: Connection, queues: Iterable[str]
) -> frozenset[str] | None:
    """Which of the queues some worker takes; None where no worker is there at all."""
    since = database.moment(read_now(database, connection) - _SILENCE)
    workers = connection.execute(_WORKERS, {"since": since}).all()
    if not workers:
        return None
    return frozenset(queue for queue in queues if any(_takes(row, queue) for row in workers))


def _takes(row: Any, queue: str) -> bool:
    served = row.queues is None or queue in row.queues.split(",")
    return served and queue not in (row.exclude_queues or "").split(",")
