"""The rows of `sched_workers`: who is there. For people to look at, and for daemons, which see by them who
holds which schedule files; no job's fate hangs on them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.clock import utcnow
from cronqueue.database import Database, read_now
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


def heartbeat(database: Database, present: Sequence[Presence]) -> None:
    """Write or renew the rows of these processes."""
    if present:
        database.write(
            lambda connection: beat(database, connection, present, read_now(database, connection))
        )


def beat(
    database: Database, connection: Connection, present: Sequence[Presence], now: datetime
) -> None:
    """The same in a transaction that has just read `now`."""
    # How far this machine's clock is ahead of the database's, in seconds.
    skew = (utcnow() - now).total_seconds() if database.is_postgresql else 0.0
    connection.execute(
        text(_UPSERT.format(tags="CAST(:tags AS json)" if database.is_postgresql else ":tags")),
        [_row(each, skew) | {"now": database.moment(now)} for each in present],
    )


def sign_off(database: Database, ids: Iterable[str]) -> None:
    """Delete the rows of processes that have ended."""
    rows = [{"id": each} for each in ids]
    if rows:
        database.write(
            lambda connection: connection.execute(
                text("DELETE FROM sched_workers WHERE id = :id"), rows
            )
        )


_UPSERT = """
INSERT INTO sched_workers (id, kind, name, host, pid, version, queues, exclude_queues,
    min_priority, max_priority, concurrency, running, state, clock_skew, manifest_hash, tags, started_at,
    heartbeat_at)
VALUES (:id, :kind, :name, :host, :pid, :version, :queues, :exclude_queues, :min_priority, :max_priority,
    :concurrency, :running, :state, :clock_skew, :manifest_hash, {tags}, :now, :now)
ON CONFLICT (id) DO UPDATE SET
    running = excluded.running, state = excluded.state, clock_skew = excluded.clock_skew,
    manifest_hash = excluded.manifest_hash, heartbeat_at = excluded.heartbeat_at
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
