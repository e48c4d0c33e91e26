"""All that one look at a running installation needs: queues, workers, what runs, what comes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cronqueue.database import Database
from cronqueue.ended import Ended, ended_between
from cronqueue.overview import QueueStats, WorkerStatus, list_workers, queue_stats
from cronqueue.queries import Filter, JobRow, Place, select_jobs, select_page

# What has ended within this makes the rates.
MINUTE = timedelta(minutes=1)
# What a column of 64 bits holds.
_LARGEST_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Glance:
    """How it stands at `now`. `ended` is of the last minute; `running` the longest first."""

    now: datetime
    queues: list[QueueStats]
    ended: list[Ended]
    workers: list[WorkerStatus]
    running: list[JobRow]
    next: list[JobRow]

    def ended_in(self, queue: str, *states: str) -> int:
        """Jobs of a queue that have ended in one of the states within a minute."""
        return sum(each.jobs for each in self.ended if each.queue == queue and each.state in states)

    def seconds_of(self, queue: str) -> float | None:
        """How long jobs of a queue ran on average within a minute; None if none did."""
        runs = [each.run for each in self.ended if each.queue == queue]
        count = sum(each.count for each in runs)
        return sum(each.seconds for each in runs) / count if count else None


def glance(database: Database, rows: int = 10) -> Glance:
    """Look, at `rows` of what runs and of what comes."""
    now = database.server_now()
    running = select_jobs(database, Filter(states=("running",)), 1_000)
    running.sort(key=lambda job: (job.started_at or now, job.id))
    soon = select_page(
        database, Filter(states=("queued",)), "next", after=Place(_LARGEST_ID, now), limit=rows
    )
    return Glance(
        now,
        queue_stats(database),
        ended_between(database, now - MINUTE, now),
        list_workers(database),
        running[:rows],
        soon.rows,
    )
