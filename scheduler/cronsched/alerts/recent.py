"""What was told lately, and how the messages went, for whoever asks."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, text

from cronqueue.audit import record
from cronqueue.clock import utcnow
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.errors import ConfigurationError
from cronqueue.settings import Settings
from cronsched.alerts.channels import channels_of, send
from cronsched.alerts.deciding import Standing, body_of
from cronsched.alerts.muting import Mute, current_mutes, muted_until
from cronsched.alerts.outbox import Message
from cronsched.alerts.wording import subject_of


@dataclass(frozen=True, slots=True)
class RecentAlert:
    """One cause. `state`: "gathering" until it is told first, "told", or "over".

    `cause` is what it is muted by (`sched alerts mute cause:CAUSE`), `muted_until` is set while it is.
    `untold` of its `count` are held back until `due_at`, or are told with the next message after it.
    """

    id: int
    cause: str
    kind: str
    subject: str
    message: str
    state: Literal["gathering", "told", "over"]
    count: int
    untold: int
    first_at: datetime
    last_at: datetime
    due_at: datetime | None
    told_at: datetime | None
    ended_at: datetime | None
    muted_until: datetime | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RecentMessage:
    """One message to one channel: waiting, sent, or failed for good, and what was wrong at the last try.

    `tells` is what it says in a line; of a ping, whose.
    """

    id: int
    channel: str
    state: str
    tells: str
    attempts: int
    created_at: datetime
    due_at: datetime | None
    sent_at: datetime | None
    error: str | None


def recent_alerts(database: Database, limit: int) -> list[RecentAlert]:
    """The newest first."""
    with database.snapshot() as connection:
        rows = connection.execute(_ALERTS, {"limit": limit}).all()
        mutes = current_mutes(database, connection, read_now(database, connection))
    return [_alert(row, mutes) for row in rows]


def recent_messages(database: Database, limit: int, *, pings: bool = False) -> list[RecentMessage]:
    """The newest first."""
    chosen = {"limit": limit, "but": "" if pings else "ping"}
    with database.snapshot() as connection:
        rows = connection.execute(_MESSAGES, chosen).all()
    return [RecentMessage(**{**row._mapping, "tells": _in_a_line(row)}) for row in rows]


def send_test(settings: Settings, channel: str) -> None:
    """Send a message that says that it is none. Raises ConfigurationError, NotSent."""
    _check_channel(settings, channel)
    now = utcnow()
    words = "this is a test: alerts of this installation arrive here"
    alert = Standing(None, "test", "test", "test", words, {}, 1, 1, now, now)
    body = json.dumps(body_of([alert], socket.gethostname(), now))
    send(settings, Message(0, channel, body, 1, now, secrets.token_hex(16)))


def send_audited_test(database: Database, settings: Settings, channel: str, *, actor: str) -> None:
    """The same for somebody of the web; the audit has it, whether it arrives or not."""
    _check_channel(settings, channel)
    target = f"alerts channel:{channel}"
    database.write(
        lambda connection: record(
            database, connection, actor=actor, action="test", target=target, detail={}
        )
    )
    send_test(settings, channel)


def _check_channel(settings: Settings, channel: str) -> None:
    known = channels_of(settings)
    if channel not in known:
        there = f"there is {', '.join(known)}" if known else "none is"
        raise ConfigurationError(
            f"channel {channel!r} is not configured, {there}: [alerts] in sched.toml, or SCHED_ALERTS_..."
        )


def _alert(row: Row[Any], mutes: list[Mute]) -> RecentAlert:
    facts = json.loads(row.facts)
    muted = None if row.ended_at else muted_until(mutes, row.cause, facts)
    return RecentAlert(**{**row._mapping, "facts": facts}, state=_state(row), muted_until=muted)


def _state(row: Row[Any]) -> Literal["gathering", "told", "over"]:
    if row.ended_at is not None:
        return "over"
    return "gathering" if row.told_at is None else "told"


def _in_a_line(row: Any) -> str:
    """Never the address of a ping: it is a secret."""
    body = json.loads(row.tells)
    if row.channel == "ping":
        return "daemon" if body.get("daemon") else f"{body['schedule']} of {body['planned_for']}"
    return subject_of(body).removeprefix("[sched] ")


_ALERTS = text("""
SELECT id, cause, kind, subject, message, count, untold, first_at, last_at, due_at, told_at, ended_at, facts
FROM sched_alerts ORDER BY id DESC LIMIT :limit
""").columns(
    first_at=Instant(), last_at=Instant(), due_at=Instant(), told_at=Instant(), ended_at=Instant()
)
_MESSAGES = text("""
SELECT id, channel, state, body AS tells, attempts, created_at,
    CASE WHEN state = 'waiting' THEN due_at END AS due_at, sent_at, error
FROM sched_alert_messages WHERE channel <> :but ORDER BY id DESC LIMIT :limit
""").columns(created_at=Instant(), due_at=Instant(), sent_at=Instant())
