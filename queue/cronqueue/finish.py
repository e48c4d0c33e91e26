"""Finish: complete, retry, fail or release a job, only while its lock is ours.

Every statement here is fenced by the id and the token of the claim, and by nothing else: leaving
`running` clears the token, so it stands for the attempt. (With `state = 'running'` in the condition
PostgreSQL uses the index of running rows, whose dead entries cost 20 ms per 250 jobs.) No row changed
means that the job was lost: to a rescue, or to an operator.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection

from cronqueue.arrays import to_array
from cronqueue.database import Database, prepared
from cronqueue.prune import delete_jobs
from cronqueue.retry import Verdict


@dataclass(frozen=True, slots=True)
class Retention:
    """What is not kept at all: rows of succeeded jobs, rows of failed ones."""

    drop_finished: bool = False
    drop_failed: bool = False


class Finished(NamedTuple):
    """A verdict on one attempt, to be written. `seconds` is how long its body ran."""

    job_id: int
    lock_token: str
    attempt: int
    verdict: Verdict
    worker: str | None = None
    seconds: float | None = None


def finish(
    database: Database,
    connection: Connection,
    batch: Sequence[Finished],
    retention: Retention = Retention(),
) -> set[int]:
    """Write the verdicts; returns the ids that were still ours."""
    succeeded = [each for each in batch if each.verdict.state == "succeeded"]
    others = [each for each in batch if each.verdict.state != "succeeded"]
    ours = _complete(database, connection, succeeded)
    states: dict[int, str] = {}
    for batch_of_claim in _by_token(others):
        states |= _settle(database, connection, batch_of_claim)
    _record_attempts(database, connection, [each for each in others if each.job_id in states])
    if retention.drop_finished:
        delete_jobs(database, connection, ours)
    if retention.drop_failed:
        failed = {job_id for job_id, state in states.items() if state == "failed"}
        delete_jobs(database, connection, failed)
    return ours.union(states)


def release(
    database: Database, connection: Connection, lock_token: str, ids: Iterable[int] | None = None
) -> set[int]:
    """Give claimed jobs back unspent, as if they had never been claimed; all of the token's by default."""
    statement = _RELEASE_ALL if ids is None else _RELEASE
    rows = connection.execute(
        prepared(_sql(database, statement)),
        {"ids": database.listed(ids or ()), "lock_token": lock_token} | database.now_parameter(),
    )
    return set(rows.scalars())


def hold_unknown(
    database: Database, connection: Connection, lock_token: str, ids: Iterable[int]
) -> None:
    """Park claimed jobs whose task this worker does not know, unspent, for one that does."""
    connection.execute(
        prepared(_sql(database, _HOLD_UNKNOWN)),
        {"ids": database.listed(ids), "lock_token": lock_token} | database.now_parameter(),
    )


_COMPLETE = """
UPDATE sched_jobs SET
    state = 'succeeded', finished_at = {now}, updated_at = {now},
    lock_token = NULL, locked_until = NULL, slot = NULL, unique_key = NULL, reason = NULL{result}
WHERE {chosen} AND lock_token = :lock_token
RETURNING id
"""
# Looked up in one array by the place in the other: 3 us for each of 250 jobs. A join with unnest takes
# 45-85 us, and another UPDATE of the same rows 95 us and half as much log again.
_WITH_RESULT_POSTGRESQL = """,
    result = CAST((CAST(:results AS text[]))[array_position(CAST(:ids AS bigint[]), id)] AS json)"""
_STORE_RESULT_SQLITE = "UPDATE sched_jobs SET result = :result WHERE id = :id"
# A cancel that was asked for while the job ran ends it wherever it would have gone on.
_SETTLE = """
UPDATE sched_jobs SET
    state = CASE WHEN cancel_requested_at IS NULL THEN {end_state} ELSE 'cancelled' END,
    finished_at = CASE WHEN {end_state} = 'failed' OR cancel_requested_at IS NOT NULL THEN {now} END,
    failed_at = CASE WHEN {end_state} = 'failed' AND cancel_requested_at IS NULL THEN {now} END,
    unique_key = CASE WHEN {end_state} = 'queued' AND cancel_requested_at IS NULL THEN unique_key END,
    gated = (guard IS NOT NULL AND {end_state} = 'queued' AND cancel_requested_at IS NULL),
    run_at = COALESCE({next_run_at}, run_at), updated_at = {now},
    attempts = attempts - {refund}, refunds = refunds + {refunded}, rescues = rescues + {rescued},
    run_alone = {alone}, last_error = COALESCE({error}, last_error),
    reason = CASE WHEN cancel_requested_at IS NULL THEN {end_reason} END,
    locked_by = CASE WHEN {end_state} = 'queued' THEN NULL ELSE locked_by END,
    worker_id = CASE WHEN {end_state} = 'queued' THEN NULL ELSE worker_id END,
    locked_at = NULL, lock_token = NULL, locked_until = NULL, slot = NULL
"""
_SETTLEMENT = {
    "end_state": "text",
    "delay": "float8",
    "refund": "int",
    "refunded": "int",
    "rescued": "int",
    "alone": "boolean",
    "error": "text",
    "end_reason": "text",
}
_ARRAYS = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _SETTLEMENT.items())
# One by one 250 jobs take three times as long, and four times the worker's time. But a set must not wait for
# a row while it holds others: two of them would wait for each other. What somebody else holds just now (a
# renewal, a rescue) is left out, and comes afterwards, by itself.
_SETTLED_POSTGRESQL = f"""
FROM unnest(CAST(:ids AS bigint[]), {_ARRAYS})
    AS settled(job_id, {", ".join(_SETTLEMENT)})
WHERE id = ANY(ARRAY(
        SELECT id FROM sched_jobs WHERE id = ANY(:ids) AND lock_token = :lock_token FOR UPDATE {{skip}}))
    AND id = job_id AND lock_token = :lock_token
RETURNING id, sched_jobs.state
"""
_SETTLED_SQLITE = "WHERE id = :id AND lock_token = :lock_token RETURNING id, state"
# What this claim did not start may have been started by an earlier one.
_STARTED_BEFORE = "CASE WHEN attempts > 1 OR refunds > 0 OR reason = 'snoozed' THEN started_at END"
# The slot stays: an admitted occurrence that was never started is still admitted.
_RELEASE = """
UPDATE sched_jobs SET
    state = CASE WHEN cancel_requested_at IS NULL THEN 'queued' ELSE 'cancelled' END,
    finished_at = CASE WHEN cancel_requested_at IS NOT NULL THEN {now} END,
    unique_key = CASE WHEN cancel_requested_at IS NULL THEN unique_key END,
    slot = CASE WHEN cancel_requested_at IS NULL THEN slot END,
    reason = CASE WHEN cancel_requested_at IS NULL THEN reason END,
    attempts = attempts - 1, updated_at = {now}, started_at = {started_before},
    locked_by = NULL, worker_id = NULL, locked_at = NULL, locked_until = NULL, lock_token = NULL
WHERE {chosen} AND lock_token = :lock_token
RETURNING id
"""
_RELEASE_ALL = _RELEASE.replace("{chosen} AND ", "state = 'running' AND ")
_HOLD_UNKNOWN = """
UPDATE sched_jobs SET
    state = 'held', held_reason = 'unknown_task', attempts = attempts - 1, updated_at = {now},
    gated = (guard IS NOT NULL), slot = NULL, started_at = {started_before},
    locked_by = NULL, worker_id = NULL, locked_at = NULL, locked_until = NULL, lock_token = NULL
WHERE {chosen} AND lock_token = :lock_token
"""


def _complete(
    database: Database, connection: Connection, succeeded: Sequence[Finished]
) -> set[int]:
    ours: set[int] = set()
    returned = [each for each in succeeded if each.verdict.result_json is not None]
    others = [each for each in succeeded if each.verdict.result_json is None]
    for batch in _by_token(others):
        ours |= _complete_claim(database, connection, batch, with_results=False)
    for batch in _by_token(returned):
        ours |= _complete_claim(database, connection, batch, with_results=True)
    return ours


def _complete_claim(
    database: Database, connection: Connection, batch: Sequence[Finished], *, with_results: bool
) -> set[int]:
    parameters: dict[str, Any] = {
        "ids": database.listed([each.job_id for each in batch]),
        "lock_token": batch[0].lock_token,
    } | database.now_parameter()
    result = ""
    if with_results and database.is_postgresql:
        result = _WITH_RESULT_POSTGRESQL
        parameters["results"] = to_array(each.verdict.result_json for each in batch)
    statement = prepared(_sql(database, _COMPLETE.replace("{result}", result)))
    completed = set(connection.execute(statement, parameters).scalars())
    if with_results and not database.is_postgresql:
        _store_results(connection, [each for each in batch if each.job_id in completed])
    return completed


def _store_results(connection: Connection, completed: Sequence[Finished]) -> None:
    rows = [{"id": each.job_id, "result": each.verdict.result_json} for each in completed]
    if rows:
        connection.execute(prepared(_STORE_RESULT_SQLITE), rows)


def _settle(
    database: Database, connection: Connection, batch: Sequence[Finished]
) -> dict[int, str]:
    """Retry, fail or snooze jobs of one claim; returns the states now of those that were still ours."""
    if not database.is_postgresql:
        return _settle_one_by_one(database, connection, batch)
    states = _settle_set(database, connection, batch, "SKIP LOCKED")
    for each in batch:
        if each.job_id not in states:
            states |= _settle_set(database, connection, [each], "")
    return states


def _settle_set(
    database: Database, connection: Connection, batch: Sequence[Finished], skip: str
) -> dict[int, str]:
    sql = (_SETTLE + _SETTLED_POSTGRESQL).format(
        now=database.now_sql,
        next_run_at=f"{database.now_sql} + make_interval(secs => delay)",
        skip=skip,
        **{name: name for name in _SETTLEMENT},
    )
    values = [_settlement(each.verdict) for each in batch]
    parameters = {name: to_array(each[name] for each in values) for name in _SETTLEMENT}
    parameters["ids"] = to_array(each.job_id for each in batch)
    parameters["lock_token"] = batch[0].lock_token
    rows = connection.execute(prepared(sql), parameters | database.now_parameter())
    return {row.id: row.state for row in rows}


def _settle_one_by_one(
    database: Database, connection: Connection, batch: Sequence[Finished]
) -> dict[int, str]:
    sql = (_SETTLE + _SETTLED_SQLITE).format(
        now=database.now_sql,
        next_run_at=":next_run_at",
        **{name: f":{name}" for name in _SETTLEMENT},
    )
    states: dict[int, str] = {}
    for each in batch:
        which = {"id": each.job_id, "lock_token": each.lock_token}
        which["next_run_at"] = _later(database, each.verdict.delay)
        parameters = _settlement(each.verdict) | which | database.now_parameter()
        states.update((row.id, row.state) for row in connection.execute(prepared(sql), parameters))
    return states


def _settlement(verdict: Verdict) -> dict[str, Any]:
    return {
        "end_state": verdict.state,
        "delay": verdict.delay,
        "refund": int(verdict.refund),
        "refunded": int(verdict.refund and verdict.attempt_outcome == "refunded"),
        "rescued": int(verdict.rescued),
        "alone": verdict.run_alone,
        "error": verdict.error,
        "end_reason": verdict.reason,
    }


def _by_token(batch: Iterable[Finished]) -> list[list[Finished]]:
    """The ends of each claim's jobs."""
    claims: dict[str, list[Finished]] = {}
    for each in batch:
        claims.setdefault(each.lock_token, []).append(each)
    return list(claims.values())


def _record_attempts(
    database: Database, connection: Connection, settled: Sequence[Finished]
) -> None:
    rows = [
        {
            "job_id": each.job_id,
            "attempt": each.attempt,
            "worker": each.worker,
            "seconds": each.seconds,
            "outcome": each.verdict.attempt_outcome,
            "error": each.verdict.error,
            "started": _later(database, None if each.seconds is None else -each.seconds),
        }
        | database.now_parameter()
        for each in settled
        if each.verdict.attempt_outcome is not None
    ]
    if not rows:
        return
    started = (
        "{now} - make_interval(secs => CAST(:seconds AS float8))"
        if database.is_postgresql
        else ":started"
    )
    connection.execute(
        prepared(
            f"INSERT INTO sched_attempts (job_id, attempt, worker, started_at, finished_at, outcome, error)"
            f" VALUES (:job_id, :attempt, :worker, {started}, {{now}}, :outcome, :error)".format(
                now=database.now_sql
            )
        ),
        rows,
    )


def _later(database: Database, seconds: float | None) -> Any:
    """A time relative to now, where the client computes it."""
    if seconds is None or database.is_postgresql:
        return None
    return database.moment(database.clock.now() + timedelta(seconds=seconds))


def _sql(database: Database, statement: str) -> str:
    chosen = f"id {database.among('ids')}"
    return statement.replace("{chosen}", chosen).format(
        now=database.now_sql, started_before=_STARTED_BEFORE
    )
