"""Prune: end what came too late, delete what was kept long enough.

A job that goes leaves its verdict in the ledger, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.clockwatch import ClockWatch
from cronqueue.columns import Instant
from cronqueue.database import Database
from cronqueue.states import TERMINAL

# Rows per transaction: locks are held for milliseconds.
BATCH = 1000


def delete_jobs(database: Database, connection: Connection, ids: Iterable[int]) -> int:
    """Delete jobs with their attempts and logs; the ledger keeps their verdicts. Returns their number."""
    chosen = list(ids)
    if not chosen:
        return 0
    parameters = {"ids": database.listed(chosen)} | database.now_parameter()
    for statement in (_KEEP_VERDICTS, _DELETE_ATTEMPTS, _DELETE_LOG_LINES):
        connection.execute(text(_sql(database, statement)), parameters)
    return connection.execute(text(_sql(database, _DELETE_JOBS)), parameters).rowcount


def prune(database: Database, keep: timedelta, keep_count: int) -> int:
    """Delete succeeded, cancelled and skipped jobs that ended longer ago than `keep`, or are too many.

    Failed ones stay until somebody deals with them. One batch; returns its size, so that the caller goes
    on while it is full.
    """
    return prune_until(database, find_edge(database, keep, keep_count))


def find_edge(database: Database, keep: timedelta, keep_count: int) -> datetime:
    """What ended until then goes. It costs a walk over the `keep_count` jobs that ended last."""
    cutoff, parameters = _moment_ago(database, keep)
    statement = text(_EDGE.format(cutoff=cutoff)).columns(edge=Instant())
    with database.snapshot() as connection:
        edge: datetime = connection.execute(
            statement, parameters | {"keep_count": keep_count}
        ).scalar_one()
    return edge


def prune_until(database: Database, edge: datetime) -> int:
    """Delete one batch of what ended until then; returns its size."""

    def batch(connection: Connection) -> int:
        parameters = {"limit": BATCH, "edge": database.moment(edge)}
        lock = "FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""
        ids = connection.execute(text(_OLD.format(lock=lock)), parameters).scalars()
        return delete_jobs(database, connection, ids.all())

    return database.write(batch)


def expire(database: Database, watch: ClockWatch | None = None) -> int:
    """End waiting jobs that are not worth starting any more; returns how many.

    Raises ClockLeapt for the `watch`.
    """

    def batch(connection: Connection) -> int:
        if watch is not None:
            watch.look_in(database, connection)
        statement = text(
            _sql(database, _EXPIRE if not database.is_postgresql else _EXPIRE_POSTGRESQL)
        )
        rows = connection.execute(statement, {"limit": BATCH} | database.now_parameter()).all()
        if missed := [row.id for row in rows if row.state == "skipped"]:
            chosen = {"ids": database.listed(missed)} | database.now_parameter()
            connection.execute(text(_sql(database, _JUDGE_MISSED)), chosen)
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


def forget_requests(database: Database, older_than: timedelta) -> int:
    """Delete the keys of requests that nobody sends again."""

    def batch(connection: Connection) -> int:
        cutoff, parameters = _moment_ago(database, older_than)
        return connection.execute(
            text(f"DELETE FROM sched_requests WHERE created_at < {cutoff}"),
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
WHERE job_id {among} AND verdict IS NULL
"""
_DELETE_ATTEMPTS = "DELETE FROM sched_attempts WHERE job_id {among}"
_DELETE_LOG_LINES = "DELETE FROM sched_log_lines WHERE job_id {among}"
_DELETE_JOBS = "DELETE FROM sched_jobs WHERE id {among}"
# By age, and by count: the newest `keep_count` stay. State by state, each in the order of its index. Locked,
# for an operator may be queueing one of them again.
_ENDED = "state IN ('succeeded', 'failed', 'cancelled', 'skipped')"
_NEWEST = " UNION ALL ".join(
    f"SELECT * FROM (SELECT finished_at FROM sched_jobs WHERE {_ENDED} AND state = '{state}'"
    f" ORDER BY finished_at DESC LIMIT :keep_count + 1) AS {state}"
    for state in TERMINAL
)
_EDGE = f"""
SELECT MAX(edge) AS edge FROM (
    SELECT {{cutoff}} AS edge
    UNION ALL SELECT * FROM (
        {_NEWEST} ORDER BY finished_at DESC LIMIT 1 OFFSET :keep_count) AS surplus) AS edges
"""
_OLDEST = " UNION ALL ".join(
    f"SELECT * FROM (SELECT id, finished_at FROM sched_jobs WHERE {_ENDED} AND state = '{state}'"
    f" AND finished_at <= :edge ORDER BY finished_at LIMIT :limit {{lock}}) AS {state}"
    for state in TERMINAL
    if state != "failed"
)
_OLD = f"SELECT id FROM ({_OLDEST}) AS ended ORDER BY finished_at LIMIT :limit"
_EXPIRE = """
UPDATE sched_jobs SET
    state = CASE WHEN attempts = 0 THEN 'skipped' ELSE 'failed' END,
    reason = CASE WHEN attempts = 0 THEN 'missed:deadline' ELSE 'expired' END,
    failed_at = CASE WHEN attempts > 0 THEN {now} END,
    finished_at = {now}, updated_at = {now}, held_reason = NULL, unique_key = NULL, slot = NULL, gated = {no}
WHERE id IN (SELECT id FROM sched_jobs
    WHERE state IN ('queued', 'held') AND expires_at IS NOT NULL AND expires_at <= {now}
    ORDER BY expires_at LIMIT :limit)
RETURNING id, state
"""
_JUDGE_MISSED = """
UPDATE sched_occurrences SET verdict = 'missed:deadline', decided_at = {now}
WHERE job_id {among} AND verdict IS NULL
"""
# Locked rows are being claimed or changed: the next sweep sees what became of them.
_EXPIRE_POSTGRESQL = _EXPIRE.replace("id IN (SELECT", "id = ANY(ARRAY(SELECT").replace(
    "LIMIT :limit)", "LIMIT :limit FOR UPDATE SKIP LOCKED))"
)


def _sql(database: Database, statement: str) -> str:
    return statement.format(
        now=database.now_sql,
        among=database.among("ids"),
        no="false" if database.is_postgresql else "0",
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
