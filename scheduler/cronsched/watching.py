"""Watched schedules: those for which something is to be done when they fail or miss."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from cronqueue.columns import Instant
from cronqueue.database import Database
from cronsched.definition import Definition

log = logging.getLogger("cronsched.daemon")


@dataclass(frozen=True, slots=True)
class Watched:
    """A schedule with the moment from which on its failures count."""

    definition: Definition
    resumed_at: datetime | None
    is_paused: bool


def watched_schedules(database: Database) -> list[Watched]:
    """All of them, by name; nobody watches one that cannot be read."""
    with database.snapshot() as connection:
        rows = connection.execute(_WATCHED).all()
    found = []
    for row in rows:
        try:
            made = Definition.from_json(row.definition)
        except Exception as error:  # anything may have been written there by hand
            log.error("schedule %s is not watched, it cannot be read: %s", row.name, error)
            continue
        found.append(Watched(made, row.resumed_at, row.paused_at is not None))
    return found


_WATCHED = text("""
SELECT name, definition, resumed_at, paused_at FROM sched_schedules
WHERE watched AND state = 'active' ORDER BY name
""").columns(resumed_at=Instant(), paused_at=Instant())
