"""Rescue: jobs whose lease ran out, or whose process died, go back.

Only a process that has itself been in touch with the database may rescue (`lease.Contact`): the first
worker back after an outage longer than the lease would otherwise take everybody's jobs.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from cronqueue import configuration
from cronqueue.clockwatch import ClockWatch
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.finish import Finished, Retention, finish, release
from cronqueue.registry import Backoff
from cronqueue.retry import MAX_REFUNDS, Verdict, backoff_seconds, decide_lost

log = logging.getLogger("cronqueue.worker")

BATCH = 500

CulpritOutcome = Literal["timeout", "interrupted"]


@dataclass(frozen=True, slots=True)
class Rescued:
    """The jobs that went back, and the seconds until the next lease known to us runs out."""

    ids: tuple[int, ...]
    expires_in: float | None


@dataclass(frozen=True, slots=True)
class Death:
    """What is known of an executor that is gone.

    `started` are the jobs whose bodies it had begun. `culprit` is the one for which it was ended: its time
    was up, or it was cancelled and did not listen. The others then get their attempt back.
    """

    cause: str
    started: frozenset[int]
    culprit: int | None = None
    culprit_outcome: CulpritOutcome = "timeout"


def rescue(database: Database, watch: ClockWatch | None = None) -> Rescued:
    """Take back the jobs whose leases have run out. Raises ClockLeapt for the `watch`."""

    def work(connection: Connection) -> Rescued:
        if watch is not None:
            watch.look_in(database, connection)
        rows = _select(database, connection, "locked_until < {now}", {})
        finished = [
            _lost(row, "its worker was not heard of for a whole lease", alone=False) for row in rows
        ]
        ids = finish(database, connection, finished, _retention())
        soonest = connection.execute(_NEXT_EXPIRY).scalar()
        if soonest is None:
            return Rescued(tuple(sorted(ids)), None)
        return Rescued(
            tuple(sorted(ids)), (soonest - read_now(database, connection)).total_seconds()
        )

    return database.write(work)


def return_jobs(database: Database, worker_id: str, death: Death) -> tuple[int, ...]:
    """Take back all jobs of one executor that is certainly dead; only started ones spend their attempt."""
    ids: tuple[int, ...] = ()
    while True:
        batch = _return_batch(database, worker_id, death)
        ids += batch
        if len(batch) < BATCH:
            return ids


_NEXT_EXPIRY = text(
    "SELECT MIN(locked_until) AS soonest FROM sched_jobs WHERE state = 'running'"
).columns(soonest=Instant())
# In the order of the index of what runs: by id, PostgreSQL may walk the primary key instead.
_SELECT = """
SELECT id, task, attempts, max_attempts, rescues, refunds, lock_token, locked_by, run_alone
FROM sched_jobs WHERE state = 'running' AND {condition} ORDER BY lock_token, id LIMIT :limit {lock}
"""


def _return_batch(database: Database, worker_id: str, death: Death) -> tuple[int, ...]:
    def work(connection: Connection) -> tuple[int, ...]:
        rows = _select(database, connection, "worker_id = :worker_id", {"worker_id": worker_id})
        for row in rows:
            if row.id not in death.started:
                release(database, connection, row.lock_token, [row.id])
        started = [row for row in rows if row.id in death.started]
        finish(database, connection, [_died(row, death) for row in started], _retention())
        return tuple(sorted(row.id for row in rows))

    return database.write(work)


def _select(
    database: Database, connection: Connection, condition: str, parameters: Mapping[str, Any]
) -> Sequence[Row[Any]]:
    lock = "FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""
    statement = text(_SELECT.format(condition=condition.format(now=database.now_sql), lock=lock))
    return connection.execute(
        statement, {"limit": BATCH, **parameters} | database.now_parameter()
    ).all()


def _lost(row: Row[Any], cause: str, *, alone: bool) -> Finished:
    verdict = decide_lost(
        f"worker {row.locked_by} lost: {cause}",
        attempt=row.attempts,
        max_attempts=row.max_attempts,
        rescues=row.rescues,
        backoff=_backoff(row.attempts),
        jitter=random.random(),
        alone=alone,
    )
    return Finished(row.id, row.lock_token, row.attempts, verdict, row.locked_by)


def _died(row: Row[Any], death: Death) -> Finished:
    """The verdict on a job whose body had begun when its executor went."""
    if death.culprit is None:
        return _lost(row, death.cause, alone=True)
    if row.id != death.culprit and row.refunds < MAX_REFUNDS:
        error = f"its process was ended for job {death.culprit}: {death.cause}"
        refunded = Verdict(
            "queued", delay=0.0, error=error, refund=True, attempt_outcome="refunded"
        )
        return Finished(row.id, row.lock_token, row.attempts, refunded, row.locked_by)
    outcome = death.culprit_outcome
    if row.attempts >= row.max_attempts:
        verdict = Verdict(
            "failed", error=death.cause, reason="attempts spent", attempt_outcome=outcome
        )
    else:
        wait = backoff_seconds(row.attempts, _backoff(row.attempts), random.random())
        verdict = Verdict("queued", delay=wait, error=death.cause, attempt_outcome=outcome)
    return Finished(row.id, row.lock_token, row.attempts, verdict, row.locked_by)


def _backoff(attempt: int) -> Backoff | None:
    """The global back-off, unless it fails: that must not keep back everybody's jobs."""
    backoff = configuration.global_backoff()
    try:
        backoff_seconds(attempt, backoff, 0.0)
    except Exception:
        log.exception("the global back-off failed after attempt %d; the default is used", attempt)
        return None
    return backoff


def _retention() -> Retention:
    return Retention(drop_failed=configuration.settings().destroy_failed_jobs)
