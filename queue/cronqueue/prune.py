"""Prune: end what came too late, delete what was kept long enough.

A job that goes leaves its verdict in the ledger, in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database

# Rows per transaction: locks are held for milliseconds.
BATCH = 1000


def delete_jobs(database: Database, connection: Connection, ids: Iterable[int]) -> int:
    """Delete jobs with their attempts; the ledger keeps their verdicts. Returns how many there were."""
    chosen = list(ids)
    if not chosen:
        return 0
    parameters = {"ids": json.dumps(chosen)} | database.now_parameter()
    for statement in (_KEEP_VERDICTS, _DELETE_ATTEMPTS):
        connection.execute(text(_sql(database, statement)), parameters)
    return connection.execute(text(_sql(database, _DELETE_JOBS)), parameters).rowcount


def prune(database: Database, keep: timedelta, keep_count: int) -> int:
    """Delete succeeded, cancelled and skipped jobs that ended longer ago than `keep`, or are too many.

    Failed ones stay until somebody deals with them. One batch; returns its size, so that the caller goes
    on while it is full.
    """

    def batch(connection: Connection) -> int:
        cutoff = _moment_ago(database, keep)
        lock = "FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""
        ids = connection.execute(
            text(_OLD.format(cutoff=cutoff[0], lock=lock)),
            {"limit": BATCH, "keep_count": keep_count} | cutoff[1],
        ).scalars()
        return delete_jobs(database, connection, ids.all())

    return database.write(batch)


def expire(database: Database) -> int:
    """End waiting jobs that are not worth starting any more; returns how many."""

    def batch(connection: Connection) -> int:
        statement = text(
            _sql(database, _EXPIRE if not database.is_postgresql else _EXPIRE_POSTGRESQL)
        )
        rows = connection.execute(statement, {"limit": BATCH} | database.now_parameter()).all()
        missed = {"ids": json.dumps([row.id for row in rows if row.state == "skipped"])}
        connection.execute(text(_sql(database, _JUDGE_MISSED)), missed | database.now_parameter())
        return len(rows)

    return database.write(batch)


def forget_workers(database: Database, silent_for: timedelta) -> int:
    """Delete the rows of processes that have not been heard of; nothing depends on them."""

    def batch(connection: Connection) -> int:
        cutoff, parameters = _moment_ago(database, silent_for)
        return connection.execute(
            text(f"DELETE FROM sched_workers WHERE heartbeat_at < {cutoff}"),
            parameters,
        ).rowcount

    return database.write(batch)


# An ended job's state is its verdict; `reason` has the full text where there is one to tell. What is
# deleted unfinished was taken away by somebody.
_KEEP_VERDICTS = """
UPDATE sched_occurrences SET
    decided_at = {now},
    verdict = (SELECT CASE WHEN state IN ('queued', 'held', 'running') THEN 'cancelled'
        WHEN state IN ('skipped', 'cancelled') THEN COALESCE(reason, state) ELSE state END
        FROM sched_jobs WHERE id = job_id)
WHERE job_id IN ({ids}) AND verdict IS NULL
"""
_DELETE_ATTEMPTS = "DELETE FROM sched_attempts WHERE job_id IN ({ids})"
_DELETE_JOBS = "DELETE FROM sched_jobs WHERE id IN ({ids})"
# By age, and by count: the newest `keep_count` stay. OFFSET walks the index from its young end. Locked, for
# an operator may be queueing one of them again.
_OLD = """
SELECT id FROM sched_jobs
WHERE state IN ('succeeded', 'failed', 'cancelled', 'skipped') AND state <> 'failed'
    AND finished_at <= (SELECT MAX(edge) FROM (
        SELECT {cutoff} AS edge
        UNION ALL SELECT * FROM (SELECT finished_at FROM sched_jobs
            WHERE state IN ('succeeded', 'failed', 'cancelled', 'skipped')
            ORDER BY finished_at DESC LIMIT 1 OFFSET :keep_count) AS surplus) AS edges)
ORDER BY finished_at LIMIT :limit {lock}
"""
_EXPIRE = """
UPDATE sched_jobs SET
    state = CASE WHEN attempts = 0 THEN 'skipped' ELSE 'failed' END,
    reason = CASE WHEN attempts = 0 THEN 'missed:deadline' ELSE 'expired' END,
    failed_at = CASE WHEN attempts > 0 THEN {now} END,
    finished_at = {now}, updated_at = {now}, held_reason = NULL, unique_key = NULL, slot = NULL, gated = {no}
WHERE id IN (SELECT id FROM sched_jobs
    WHERE state IN ('queued', 'held') AND expires_at IS NOT NULL AND expires_at <= {now} LIMIT :limit)
RETURNING id, state
"""
_JUDGE_MISSED = """
UPDATE sched_occurrences SET verdict = 'missed:deadline', decided_at = {now}
WHERE job_id IN ({ids}) AND verdict IS NULL
"""
# Locked rows are being claimed or changed: the next sweep sees what became of them.
_EXPIRE_POSTGRESQL = _EXPIRE.replace("id IN (SELECT", "id = ANY(ARRAY(SELECT").replace(
    "LIMIT :limit)", "LIMIT :limit FOR UPDATE SKIP LOCKED))"
)


def _sql(database: Database, statement: str) -> str:
    ids = (
        "SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json)) AS chosen(value)"
        if database.is_postgresql
        else "SELECT value FROM json_each(:ids)"
    )
    return statement.format(
        now=database.now_sql, ids=ids, no="false" if database.is_postgresql else "0"
    )


def _moment_ago(database: Database, duration: timedelta) -> tuple[str, dict[str, Any]]:
    if database.is_postgresql:
        seconds = {"seconds": duration.total_seconds()}
        return (
            f"{database.now_sql} - make_interval(secs => :seconds)",
            seconds | database.now_parameter(),
        )
    return ":cutoff", {
        "cutoff": Instant().process_bind_param(
            database.clock.now() - duration, database.engine.dialect
        )
    }
