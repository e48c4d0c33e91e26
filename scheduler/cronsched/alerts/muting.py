"""Mutes: for a time nobody is told of something. It is counted, and told once the mute has ended.

What is muted is "all", "schedule:NAME", "task:NAME", or "cause:CAUSE" for one alert. A mute is a mark whose
moment is its end; who set it, and why, stands in the audit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue.audit import record
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.errors import DefinitionError, RunAtError, StateError

_SCOPES = ("schedule", "task", "cause")


@dataclass(frozen=True, slots=True)
class Mute:
    """What nobody is told of until then; `by` and `reason` as the audit has them."""

    target: str
    since: datetime
    until: datetime
    by: str | None
    reason: str | None


def mute(
    database: Database, target: str, *, until: datetime, actor: str, reason: str | None = None
) -> None:
    """Tell nobody until then; a mute of the same target that is there already ends then instead.

    Raises DefinitionError for what cannot be muted, RunAtError for a time that has passed.
    """
    check_target(target)
    if until.utcoffset() is None:
        raise RunAtError(f"until={until.isoformat()} has no time zone: use an aware datetime")

    def work(connection: Connection) -> None:
        now = read_now(database, connection)
        if until <= now:
            raise RunAtError(f"until={until.isoformat()} has passed: give a time to come")
        row = {"target": target, "until": database.moment(until), "now": database.moment(now)}
        connection.execute(_UNMUTE, row)
        connection.execute(_MUTE, row)
        detail = {"reason": reason, "until": until.isoformat()}
        name = _audited(target)
        record(database, connection, actor=actor, action="mute", target=name, detail=detail)

    database.write(work)


def unmute(database: Database, target: str, *, actor: str) -> None:
    """Tell of it again, and of what came meanwhile; raises StateError if it is not muted."""

    def work(connection: Connection) -> None:
        now = read_now(database, connection)
        if all(each.target != target for each in current_mutes(database, connection, now)):
            raise StateError(f"{target!r} is not muted")
        connection.execute(_UNMUTE, {"target": target})
        name = _audited(target)
        record(database, connection, actor=actor, action="unmute", target=name, detail={})

    database.write(work)


def list_mutes(database: Database) -> list[Mute]:
    """What is muted at this time; what ends first comes first."""
    with database.snapshot() as connection:
        return current_mutes(database, connection, read_now(database, connection))


def current_mutes(database: Database, connection: Connection, now: datetime) -> list[Mute]:
    """What is muted then."""
    rows = connection.execute(_MUTES, {"now": database.moment(now)})
    return [_mute(row) for row in rows]


def muted_until(mutes: list[Mute], cause: str, facts: Mapping[str, Any]) -> datetime | None:
    """When the last mute ends that is for this alert; None where none is."""
    names = {"all", f"cause:{cause}"}
    names |= {f"{each}:{facts[each]}" for each in ("schedule", "task") if facts.get(each)}
    return max((each.until for each in mutes if each.target in names), default=None)


def check_target(target: str) -> None:
    """Raises DefinitionError for what cannot be muted."""
    scope, _, name = target.partition(":")
    if target != "all" and not (scope in _SCOPES and name and len(target) <= 500):
        raise DefinitionError(
            f"{target[:100]!r} cannot be muted: give all, schedule:NAME, task:NAME or cause:CAUSE"
        )


def _audited(target: str) -> str:
    return f"alerts {target}"


def _mute(row: Row[Any]) -> Mute:
    detail = json.loads(row.detail or "{}")
    return Mute(row.target, row.since, row.until, row.actor, detail.get("reason"))


_MUTE = text("""
INSERT INTO sched_alert_marks (kind, subject, moment, created_at)
VALUES ('mute', :target, :until, :now)
""")
_UNMUTE = text("DELETE FROM sched_alert_marks WHERE kind = 'mute' AND subject = :target")
_MUTES = text("""
SELECT m.subject AS target, m.created_at AS since, m.moment AS until, a.actor,
    CAST(a.detail AS text) AS detail
FROM sched_alert_marks m LEFT JOIN sched_audit a ON a.id = (
    SELECT MAX(id) FROM sched_audit WHERE target = 'alerts ' || m.subject AND action = 'mute')
WHERE m.kind = 'mute' AND m.moment > :now ORDER BY m.moment, m.subject
""").columns(since=Instant(), until=Instant())
