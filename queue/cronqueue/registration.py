"""The rows of `sched_workers`: who is there. For people to look at, and for daemons, which see by them who
holds which schedule files; no job's fate hangs on them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.audit import record_all
from cronqueue.clock import utcnow
from cronqueue.database import Database, read_now
from cronqueue.errors import StateError
from cronqueue.settings import Settings
from cronqueue.version import __version__


@dataclass(frozen=True, slots=True)
class Presence:
    """One process as its row shows it."""

    id: str
    kind: str
    name: str
    pid: int
    state: str
    settings: Settings
    running: int | None = None
    manifest_hash: str | None = None


def default_name() -> str:
    """`host:pid` of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def heartbeat(database: Database, present: Sequence[Presence]) -> bool:
    """Write or renew the rows of these processes; returns whether one of them is asked to drain."""
    if not present:
        return False
    return database.write(
        lambda connection: beat(database, connection, present, read_now(database, connection))
    )


def beat(
    database: Database, connection: Connection, present: Sequence[Presence], now: datetime
) -> bool:
    """The same in a transaction that has just read `now`."""
    # How far this machine's clock is ahead of the database's, in seconds.
    skew = (utcnow() - now).total_seconds() if database.is_postgresql else 0.0
    upsert = text(_UPSERT.format(tags="CAST(:tags AS json)" if database.is_postgresql else ":tags"))
    # One after the other, which alone gives back what each returns, and by id, as whoever asks them to drain.
    ordered = sorted(present, key=lambda each: each.id)
    rows = [_row(each, skew) | {"now": database.moment(now)} for each in ordered]
    asked = [connection.execute(upsert, row).scalar_one() for row in rows]
    return asked != [None] * len(rows)


def sign_off(database: Database, ids: Sequence[str]) -> bool:
    """Delete the rows of processes that have ended; returns whether one of them was asked to drain."""
    if not ids:
        return False

    def work(connection: Connection) -> bool:
        asked = [connection.execute(_SIGN_OFF, {"id": each}).scalar() for each in ids]
        return asked != [None] * len(ids)

    return database.write(work)


def ask_to_drain(database: Database, worker: str, *, actor: str) -> str:
    """Ask a worker to end what runs and leave; returns its name.

    `worker`: the id of one of its executors, or a name: then all workers that bear it are asked. They hear
    it with their next heartbeat. Raises LookupError, and StateError for a daemon, which takes no jobs.
    """

    def work(connection: Connection) -> str:
        found = connection.execute(_CALLED, {"worker": worker}).all()
        if not found:
            raise LookupError(f"no worker {worker!r} has been heard of: see `sched workers list`")
        ids = [row.id for row in found if row.kind == "worker"]
        if not ids:
            raise StateError(f"{worker!r} is a daemon, which takes no jobs: end its process")
        rows = [{"id": each} | database.now_parameter() for each in ids]
        connection.execute(text(_ASK_TO_DRAIN.format(now=database.now_sql)), rows)
        name = str(found[0].name)
        act = ("drain", f"worker {name}", {"executors": ids})
        record_all(database, connection, actor, [act])
        return name

    return database.write(work)


# It returns the column alone: SQLite 3.40 takes `IS NOT NULL` of one that holds NULL for true there.
_UPSERT = """
INSERT INTO sched_workers (id, kind, name, host, pid, version, queues, exclude_queues,
    min_priority, max_priority, concurrency, running, state, clock_skew, manifest_hash, tags, started_at,
    heartbeat_at)
VALUES (:id, :kind, :name, :host, :pid, :version, :queues, :exclude_queues, :min_priority, :max_priority,
    :concurrency, :running, :state, :clock_skew, :manifest_hash, {tags}, :now, :now)
ON CONFLICT (id) DO UPDATE SET
    running = excluded.running, state = excluded.state, clock_skew = excluded.clock_skew,
    manifest_hash = excluded.manifest_hash, heartbeat_at = excluded.heartbeat_at
RETURNING drain_requested_at
"""
_SIGN_OFF = text("DELETE FROM sched_workers WHERE id = :id RETURNING drain_requested_at")
_CALLED = text("""
SELECT id, name, kind FROM sched_workers WHERE id = :worker OR name = :worker ORDER BY kind DESC, id
""")
_ASK_TO_DRAIN = """
UPDATE sched_workers SET drain_requested_at = COALESCE(drain_requested_at, {now}) WHERE id = :id
"""


def _row(each: Presence, skew: float) -> dict[str, Any]:
    settings = each.settings
    is_worker = each.kind == "worker"
    return {
        "id": each.id,
        "kind": each.kind,
        "name": each.name,
        "host": socket.gethostname(),
        "pid": each.pid,
        "version": __version__,
        "queues": ",".join(settings.queues) or None if is_worker else None,
        "exclude_queues": ",".join(settings.exclude_queues) or None if is_worker else None,
        "min_priority": settings.min_priority if is_worker else None,
        "max_priority": settings.max_priority if is_worker else None,
        "concurrency": settings.concurrency if is_worker else None,
        "running": each.running,
        "state": each.state,
        "clock_skew": round(skew, 3),
        "manifest_hash": each.manifest_hash,
        "tags": json.dumps(dict(settings.tags)) if settings.tags else None,
    }
