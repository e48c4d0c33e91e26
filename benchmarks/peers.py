"""What our passes are measured beside: plain SQL that writes the same rows, and APScheduler."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.blocking import BlockingScheduler
from sqlalchemy import text

from cronqueue.database import Database

# The same rows once more, a thousand years later, from a table of the server's own: no instant to compute,
# nothing to send.
_STAGE = """
CREATE TABLE staged AS SELECT o.schedule, {later} AS planned_for, o.revision, o.utc_offset, j.task, j.args,
    j.queue, j.priority, j.max_attempts, j.guard, j.gated
FROM sched_occurrences o JOIN sched_jobs j ON j.id = o.job_id WHERE o.job_id > :last_id
"""
_JOBS = """
INSERT INTO sched_jobs (task, args, queue, priority, max_attempts, run_at, origin, schedule, planned_for,
    guard, gated)
SELECT task, args, queue, priority, max_attempts, planned_for, 'schedule', schedule, planned_for, guard, gated
FROM staged
"""
_LEDGER = """
INSERT INTO sched_occurrences (schedule, planned_for, revision, utc_offset, job_id)
SELECT s.schedule, s.planned_for, s.revision, s.utc_offset, j.id
FROM staged s JOIN sched_jobs j ON j.schedule = s.schedule AND j.planned_for = s.planned_for
WHERE j.id > :last_id
"""
_CURSORS = "UPDATE sched_schedules SET refill_at = materialized_until"
_LET_THROUGH = """
UPDATE sched_jobs SET gated = {no}, slot = 0 WHERE id IN (
    SELECT MAX(id) FROM sched_jobs WHERE state = 'queued' AND gated GROUP BY guard)
"""
_COALESCE = """
UPDATE sched_jobs SET state = 'skipped', gated = {no}, finished_at = {now} WHERE state = 'queued' AND gated
"""


def write_same_rows(database: Database, last_id: int) -> float:
    """Seconds in which one transaction of plain SQL writes all rows younger than `last_id` once more."""
    later = (
        "o.planned_for + INTERVAL '1000 years'"
        if database.is_postgresql
        else "'3' || substr(o.planned_for, 2)"
    )
    newest = _last_id(database)
    with database.begin() as connection:
        connection.execute(text(_STAGE.format(later=later)), {"last_id": last_id})
    began = time.monotonic()
    with database.begin() as connection:
        connection.execute(text(_JOBS))
        connection.execute(text(_LEDGER), {"last_id": newest})
        connection.execute(text(_CURSORS))
    return time.monotonic() - began


def let_through(database: Database) -> float:
    """Seconds in which one transaction of plain SQL lets the newest job of each guard through."""
    began = time.monotonic()
    words = {"no": "false" if database.is_postgresql else "0", "now": database.now_sql}
    with database.begin() as connection:
        for statement in (_LET_THROUGH, _COALESCE):
            connection.execute(text(statement.format(**words)), database.now_parameter())
    return time.monotonic() - began


def _last_id(database: Database) -> int:
    with database.snapshot() as connection:
        found: int = connection.execute(
            text("SELECT COALESCE(MAX(id), 0) FROM sched_jobs")
        ).scalar_one()
    return found


class _NoOp(BaseExecutor):  # type: ignore[misc]
    def _do_submit_job(self, job: Any, run_times: Any) -> None:
        self._run_job_success(job.id, [])


class _Cranked(BlockingScheduler):  # type: ignore[misc]
    """Turned by hand: its loop does not run."""

    def _main_loop(self) -> None: ...

    def wakeup(self) -> None: ...


def nothing() -> None:
    """What APScheduler's jobs do."""


@contextmanager
def loaded_apscheduler(database: Database, count: int) -> Iterator[Any]:
    """A scheduler of which `count` hourly jobs are due, in its own table of the same database."""
    options = None if database.is_postgresql else {"connect_args": {"timeout": 60}}
    url = database.engine.url.render_as_string(hide_password=False)
    store = SQLAlchemyJobStore(url=url, engine_options=options)
    if not database.is_postgresql:
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    scheduler = _Cranked(
        timezone=UTC,
        jobstores={"default": store},
        executors={"default": _NoOp()},
        job_defaults={"misfire_grace_time": None, "coalesce": True},
    )
    due = datetime.now(UTC) - timedelta(seconds=1)
    for number in range(count):
        scheduler.add_job(nothing, "interval", hours=1, id=f"s{number}", next_run_time=due)
    scheduler.start(paused=True)
    scheduler.resume()
    try:
        yield scheduler
    finally:
        scheduler.shutdown(wait=False)
        store.engine.dispose()


def process_due(scheduler: Any) -> float:
    """Seconds of the one pass in which APScheduler hands over everything that is due."""
    began = time.monotonic()
    scheduler._process_jobs()
    return time.monotonic() - began
