"""The outbox: messages that are to be sent, each by one process at a time, until its channel has taken it.

Whoever claims a message has `LEASE` for it; then another one tries. So a message may arrive twice, and is not
lost: its number stands in it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now

# Longer than any channel may take.
LEASE = timedelta(minutes=2)
# After a failure: soon, then less and less often, for a day.
PAUSES = (10, 30, 120, 300, 900)
KEPT_TRYING = timedelta(days=1)
# How long messages and alerts that are over are kept; then pings, and marks of what has been seen to.
KEPT = timedelta(days=30)
MARKS_KEPT = timedelta(days=2)
LONGEST_ERROR = 500


@dataclass(frozen=True, slots=True)
class Message:
    """A message that we have claimed; `attempts` counts this one."""

    id: int
    channel: str
    body: str
    attempts: int
    expires_at: datetime
    token: str


def add(
    database: Database,
    connection: Connection,
    channel: str,
    body: str,
    now: datetime,
    tries_for: timedelta = KEPT_TRYING,
) -> None:
    """Put a message there, in the caller's transaction."""
    times = {"now": database.moment(now), "expires_at": database.moment(now + tries_for)}
    connection.execute(_ADD, {"channel": channel, "body": body, **times})


def take_back(connection: Connection, channel: str, body: str) -> None:
    """Send it no more, if nobody has."""
    connection.execute(_TAKE_BACK, {"channel": channel, "body": body})


def is_any_due(database: Database, channels: Sequence[str]) -> bool:
    """Whether a message of these channels is to be sent now."""
    due = text(_DUE.format(among=database.among("channels"), lock=""))
    with database.snapshot() as connection:
        now = database.moment(read_now(database, connection))
        chosen = {"channels": database.listed(channels), "now": now}
        return connection.execute(due, chosen).scalar() is not None


def claim(database: Database, channels: Sequence[str]) -> Message | None:
    """The message of these channels that has been due for longest; nobody else gets it meanwhile."""
    if not is_any_due(database, channels):
        return None
    chosen = {"channels": database.listed(channels)}
    among = database.among("channels")

    def work(connection: Connection) -> Message | None:
        now = read_now(database, connection)
        times = {"now": database.moment(now), "lease": database.moment(now + LEASE)}
        lock = "FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""
        due = _DUE.format(among=among, lock=lock)
        statement = text(_CLAIM.format(due=due)).columns(expires_at=Instant())
        token = secrets.token_hex(16)
        row = connection.execute(statement, {**chosen, **times, "token": token}).one_or_none()
        return None if row is None else Message(**row._mapping, token=token)

    return database.write(work)


def sent(database: Database, message: Message) -> None:
    """The channel has taken it."""
    _settle(database, message, "sent", None, None)


def failed(database: Database, message: Message, error: str) -> timedelta | None:
    """The channel has not; returns in what time it is tried again, None when no more."""
    pause = next_try(message.attempts)
    with database.snapshot() as connection:
        is_last = read_now(database, connection) + pause >= message.expires_at
    if is_last:
        _settle(database, message, "failed", error, None)
        return None
    _settle(database, message, "waiting", error, pause)
    return pause


def next_try(attempts: int) -> timedelta:
    """The pause after so many attempts."""
    return timedelta(seconds=PAUSES[min(attempts, len(PAUSES)) - 1])


def forget(database: Database, connection: Connection, now: datetime) -> None:
    """Delete what was kept long enough."""
    edges = {"edge": database.moment(now - KEPT), "marks": database.moment(now - MARKS_KEPT)}
    connection.execute(_FORGET_MESSAGES, edges)
    connection.execute(_FORGET_ALERTS, edges)
    connection.execute(_FORGET_MARKS, edges)


def _settle(
    database: Database, message: Message, state: str, error: str | None, pause: timedelta | None
) -> None:
    def work(connection: Connection) -> None:
        now = read_now(database, connection)
        values: dict[str, Any] = {
            "id": message.id,
            "token": message.token,
            "state": state,
            "error": None if error is None else error[:LONGEST_ERROR],
            "due_at": database.moment(now + (pause or timedelta(0))),
            "sent_at": database.moment(now) if state == "sent" else None,
        }
        connection.execute(_SETTLE, values)

    database.write(work)


_ADD = text("""
INSERT INTO sched_alert_messages (channel, body, created_at, due_at, expires_at)
VALUES (:channel, :body, :now, :now, :expires_at)
""")
_TAKE_BACK = text("""
UPDATE sched_alert_messages SET state = 'failed', token = NULL, error = 'overtaken'
WHERE state = 'waiting' AND channel = :channel AND body = :body
""")
_DUE = """
SELECT id FROM sched_alert_messages
WHERE state = 'waiting' AND due_at <= :now AND channel {among} ORDER BY due_at, id LIMIT 1 {lock}
"""
_CLAIM = """
UPDATE sched_alert_messages SET attempts = attempts + 1, token = :token, due_at = :lease
WHERE id = ({due}) RETURNING id, channel, body, attempts, expires_at
"""
_SETTLE = text("""
UPDATE sched_alert_messages SET state = :state, error = :error, due_at = :due_at, sent_at = :sent_at,
    token = NULL
WHERE id = :id AND token = :token
""")
_FORGET_MESSAGES = text("""
DELETE FROM sched_alert_messages
WHERE created_at < :edge OR (channel = 'ping' AND created_at < :marks)
""")
_FORGET_ALERTS = text("DELETE FROM sched_alerts WHERE ended_at < :edge")
# The moment of a mute is its end.
_FORGET_MARKS = text(
    "DELETE FROM sched_alert_marks WHERE created_at < :marks AND (kind <> 'mute' OR moment < :marks)"
)
