"""Requests that are to enqueue once: whoever does not know whether his request arrived sends it again.

Its key is kept for a day with a fingerprint of what it asked for. A job's own `key` is another thing: it is
free again when the job has ended.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import Connection, text

from cronqueue import audit
from cronqueue.database import Database
from cronqueue.enqueueing import store_call
from cronqueue.errors import StateError
from cronqueue.models import Job
from cronqueue.queries import find_state
from cronqueue.registry import Call


class RequestReused(StateError):
    """Another request has been sent under this key."""


def store_asked(database: Database, connection: Connection, call: Call, actor: str) -> Job[Any]:
    """Store a call that somebody asks for, with his name in the audit; the caller tells the workers."""
    job: Job[Any] = store_call(database, connection, call)
    if job.created:
        detail = {"task": job.task}
        audit.record(
            database,
            connection,
            actor=actor,
            action="enqueue",
            target=f"job {job.id}",
            detail=detail,
        )
    return job


def enqueue_once(
    database: Database, key: str, asked: Any, call: Call, actor: str
) -> tuple[int, str, bool]:
    """Store the call, unless a request of this key has done it: the job's id, its state, whether it is new.

    `asked` is what the request says, as JSON. Raises RequestReused, and LookupError when the job of the
    first request is gone; the caller tells the workers.
    """
    fingerprint = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def work(connection: Connection) -> tuple[int, str, bool]:
        values = {"key": key, "fingerprint": fingerprint, **database.now_parameter()}
        # Who comes second waits here until the first one has committed.
        if connection.execute(text(_CLAIM.format(now=database.now_sql)), values).rowcount:
            job = store_asked(database, connection, call, actor)
            connection.execute(_SETTLE, {"key": key, "job_id": job.id})
            return job.id, job.state, job.created
        known = connection.execute(_FIND, {"key": key}).one()
        if known.fingerprint != fingerprint:
            raise RequestReused(f"request {key!r} has asked for something else before")
        return known.job_id, find_state(connection, known.job_id), False

    return database.write(work)


_CLAIM = """
INSERT INTO sched_requests (key, fingerprint, created_at) VALUES (:key, :fingerprint, {now})
ON CONFLICT (key) DO NOTHING
"""
_SETTLE = text("UPDATE sched_requests SET job_id = :job_id WHERE key = :key")
_FIND = text("SELECT fingerprint, job_id FROM sched_requests WHERE key = :key")
