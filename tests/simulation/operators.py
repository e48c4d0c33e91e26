"""What operators do: each act goes through the functions that the command and the web use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from cronqueue import operations
from cronqueue.database import Database
from cronqueue.errors import CronqueueError
from cronqueue.operations import Edit
from cronsched import overrides, pausing
from cronsched.backfill import BackfillOptions, backfill
from simulation.history import Change, History, LedgerChange, moment_of
from simulation.world import Process

Act = Callable[[Process, History, int], Any]


def _on_job(act: Callable[[Database, int], Any]) -> Act:
    """An act on one of the jobs that there have been."""

    def operate(process: Process, history: History, number: int) -> None:
        ids = sorted({event.job_id for event in history if isinstance(event, Change)})
        if ids:
            act(process.database, ids[-1 - number % min(len(ids), 12)])

    return operate


def _on_schedule(act: Callable[[Database, str, Any], Any]) -> Act:
    """An act on one of the occurrences that have been written, and its schedule."""

    def operate(process: Process, history: History, number: int) -> None:
        written = [
            event.after for event in history if isinstance(event, LedgerChange) and event.after
        ]
        if written:
            chosen = written[-1 - number % min(len(written), 12)]
            act(process.database, chosen.schedule, moment_of(chosen.planned_for))

    return operate


def _edit(database: Database, job_id: int) -> None:
    run_at = database.clock.now() + timedelta(seconds=job_id % 5)
    operations.edit_job(database, job_id, Edit(run_at=run_at, priority=job_id % 3), actor="me")


def _backfill(database: Database, name: str, instant: Any) -> None:
    start, end = instant - timedelta(seconds=60), database.clock.now()
    if start < end:
        options = BackfillOptions(limit=5)
        from cronqueue import configuration

        backfill(database, name, start, end, configuration.settings(), actor="me", options=options)


def _resume_all(process: Process, history: History, number: int) -> None:
    """Nothing is paused any more."""
    database = process.database
    with suppress(CronqueueError):
        operations.resume_queue(database, "slow", actor="me")
    with database.snapshot() as connection:
        paused = text("SELECT name FROM sched_schedules WHERE paused_at IS NOT NULL")
        names = connection.execute(paused).scalars().all()
    for name in names:
        with suppress(CronqueueError, LookupError):
            pausing.resume(database, name, actor="me")


ACTS: dict[str, Act] = {
    "cancel": _on_job(lambda database, id: operations.cancel_job(database, id, actor="me")),
    "retry": _on_job(lambda database, id: operations.retry_job(database, id, actor="me")),
    "run_now": _on_job(lambda database, id: operations.run_now(database, id, actor="me")),
    "delete": _on_job(lambda database, id: operations.delete_job(database, id, actor="me")),
    "edit": _on_job(_edit),
    "pause_queue": _on_job(
        lambda database, id: operations.pause_queue(database, "slow", actor="me")
    ),
    "resume_queue": _on_job(
        lambda database, id: operations.resume_queue(database, "slow", actor="me")
    ),
    "pause": _on_schedule(lambda database, name, at: pausing.pause(database, name, actor="me")),
    "resume": _on_schedule(lambda database, name, at: pausing.resume(database, name, actor="me")),
    "skip": _on_schedule(lambda database, name, at: overrides.skip(database, name, at, actor="me")),
    "move": _on_schedule(
        lambda database, name, at: overrides.move(
            database, name, at, at + timedelta(seconds=7), actor="me"
        )
    ),
    "backfill": _on_schedule(_backfill),
    "resume_all": _resume_all,
}
