"""The audit: one row of `sched_audit` for every act of an operator, in the transaction of the act."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.database import Database


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


_RECORD = """
INSERT INTO sched_audit (at, actor, action, target, detail)
VALUES ({now}, :actor, :action, :target, {detail})
"""
