"""What the database tells about the schedules' surroundings: how long tasks take, who takes which queues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from cronqueue.database import Database
from cronqueue.overview import durations_by_task, list_workers, takes_queue
from cronsched.definition import Definition
from cronsched.lints import Surroundings


def look_around(
    database: Database, definitions: Iterable[Definition], other_releases: Mapping[str, str]
) -> Surroundings:
    """What lints are judged by: what most runs take, nineteen of twenty, and the queues that are served."""
    took = durations_by_task(database)
    durations = {task: timedelta(seconds=each.p95) for task, each in took.items()}
    queues = {each.queue for each in definitions}
    return Surroundings(durations, _taken(database, queues), other_releases)


def _taken(database: Database, queues: Iterable[str]) -> frozenset[str] | None:
    """Which of the queues some worker takes; None where no worker is there at all."""
    workers = [
        each for each in list_workers(database) if each.kind == "worker" and each.state != "silent"
    ]
    if not workers:
        return None
    return frozenset(queue for queue in queues if any(takes_queue(w, queue) for w in workers))
