"""The audit: one row of `sched_audit` for every act of an operator, in the transaction of the act."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database


@dataclass(frozen=True, slots=True)
class ActRow:
    """One act: who did what to what, and what more is known of it."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    detail_json: str | None


def record(
    database: Database,
    connection: Connection,
    *,
    actor: str,
    action: str,
    target: str,
    detail: Mapping[str, Any],
) -> None:
    """Write who did what to what. Of `detail`, what is None is left out."""
    record_all(database, connection, actor, [(action, target, detail)])


def record_all(
    database: Database,
    connection: Connection,
    actor: str,
    acts: Iterable[tuple[str, str, Mapping[str, Any]]],
) -> None:
    """Write each act with its target and detail."""
    rows = [
        {"actor": actor, "action": action, "target": target, "detail": _as_json(detail)}
        | database.now_parameter()
        for action, target, detail in acts
    ]
    if rows:
        value = "CAST(:detail AS json)" if database.is_postgresql else ":detail"
        connection.execute(text(_RECORD.format(now=database.now_sql, detail=value)), rows)


def list_acts(
    database: Database, *, target: str | None = None, before: int | None = None, limit: int = 50
) -> list[ActRow]:
    """The acts, newest first: of one target, below an id."""
    chosen = {"target": target, "before": before}
    named = {"target": "target = :target", "before": "id < :before"}
    conditions = [named[name] for name, value in chosen.items() if value is not None]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = text(_LIST.format(where=where)).columns(at=Instant())
    with database.snapshot() as connection:
        rows = connection.execute(statement, {**chosen, "limit": limit})
        return [ActRow(**row._mapping) for row in rows]


def this_user() -> str:
    """Who acts here: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container the number may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _as_json(detail: Mapping[str, Any]) -> str | None:
    told = {key: value for key, value in detail.items() if value is not None}
    return json.dumps(told) if told else None


_LIST = """
SELECT id, at, actor, action, target, CAST(detail AS text) AS detail_json FROM sched_audit {where}
ORDER BY id DESC LIMIT :limit
"""
_RECORD = """
INSERT INTO sched_audit (at, actor, action, target, detail)
VALUES ({now}, :actor, :action, :target, {detail})
"""
