"""One look: what has happened and what is wrong is found, decided upon, and written down as messages.

Of all workers and daemons one looks at a time: whoever moves the time of the last look. He writes only if
nobody has looked since, so one who was stopped in the middle of it writes nothing.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.settings import Settings
from cronsched.alerts import outbox
from cronsched.alerts.channels import channels_of
from cronsched.alerts.deciding import (
    Decision,
    Incident,
    Pace,
    Standing,
    body_of,
    decide,
)
from cronsched.alerts.finding import find_conditions, find_incidents, find_of_runs
from cronsched.alerts.muting import current_mutes, muted_until
from cronsched.alerts.pings import FRESH, Ping
from cronsched.watching import Watched, watched_schedules

# Between looks of all processes together.
LOOK_PERIOD = timedelta(seconds=4)
# The minute of an hour in which what is old is deleted.
_FORGET_AT = 0


@dataclass(frozen=True, slots=True)
class _Found:
    """What has happened, whom it is told to, and what becomes of the alerts."""

    incidents: Sequence[Incident]
    pings: Sequence[Ping]
    decision: Decision


def look(database: Database, settings: Settings) -> bool:
    """Look, unless somebody has just done so; whether there is anybody to tell."""
    channels = channels_of(settings)
    watched = watched_schedules(database)
    if not channels and not any(each.definition.ping for each in watched):
        return False
    now = _claim_look(database)
    if now is None:
        return True
    found = _find(database, settings, channels, watched, now)

    def work(connection: Connection) -> None:
        if _is_still_ours(database, connection, now):
            _write(database, connection, channels, found, now)

    if found.incidents or found.pings or found.decision.changed or now.minute == _FORGET_AT:
        database.write(work)
    return True


def ping_of_daemon(database: Database, settings: Settings) -> None:
    """A daemon has done its work: its address is told, once a minute whoever of several it was."""
    url = settings.alerts_daemon_ping
    if url is None:
        return

    def work(connection: Connection) -> None:
        now = read_now(database, connection)
        minute = now.replace(second=0, microsecond=0)
        if _mark(database, connection, ("ping-daemon", "", minute), now):
            body = json.dumps({"url": url, "daemon": True})
            outbox.add(database, connection, "ping", body, now, tries_for=timedelta(minutes=1))

    database.write(work)


def _claim_look(database: Database) -> datetime | None:
    """Who looks now; None when it is not time."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        if connection.execute(_LOOK_DUE, _edges(database, now)).scalar() is None:
            return None

    def work(connection: Connection) -> datetime | None:
        now = read_now(database, connection)
        times = {"now": database.moment(now), **_edges(database, now)}
        return now if connection.execute(_CLAIM_LOOK, times).rowcount else None

    return database.write(work)


def _edges(database: Database, now: datetime) -> dict[str, Any]:
    """Long enough ago; and what can only be after the clock went back."""
    return {
        "edge": database.moment(now - LOOK_PERIOD),
        "ahead": database.moment(now + LOOK_PERIOD),
    }


def _find(
    database: Database,
    settings: Settings,
    channels: Sequence[str],
    watched: Sequence[Watched],
    now: datetime,
) -> _Found:
    with database.snapshot() as connection:
        late, pings = find_of_runs(database, connection, watched, now)
        if not channels:
            return _Found((), pings, Decision((), ()))
        incidents = [*find_incidents(database, connection, now), *late]
        conditions = find_conditions(database, connection)
        standing, last_told = _standing(connection)
        mutes = current_mutes(database, connection, now)
    incidents = [each for each in incidents if each.kind in settings.alerts_on]
    conditions = [each for each in conditions if each.kind in settings.alerts_on]
    pace = Pace(settings.alerts_wait, settings.alerts_repeat)
    decision = decide(
        standing,
        incidents,
        conditions,
        pace,
        now,
        last_told,
        lambda alert: muted_until(mutes, alert.cause, alert.facts) is not None,
    )
    return _Found(incidents, pings, decision)


def _write(
    database: Database,
    connection: Connection,
    channels: Sequence[str],
    found: _Found,
    now: datetime,
) -> None:
    for incident in found.incidents:
        _mark(database, connection, incident.mark, now)
    for ping in found.pings:
        _add_ping(database, connection, ping, now)
    _carry_out(database, connection, channels, found.decision, now)
    if now.minute == _FORGET_AT:
        outbox.forget(database, connection, now)


def _add_ping(database: Database, connection: Connection, ping: Ping, now: datetime) -> None:
    _mark(database, connection, ping.mark, now)
    if ping.event == "start":
        outbox.add(database, connection, "ping", ping.body, now, tries_for=timedelta(0))
        return
    outbox.take_back(connection, "ping", ping.start.body)
    outbox.add(database, connection, "ping", ping.body, now, tries_for=FRESH)


def _carry_out(
    database: Database,
    connection: Connection,
    channels: Sequence[str],
    decision: Decision,
    now: datetime,
) -> None:
    for alert in decision.changed:
        values = _values(database, alert)
        connection.execute(_OPEN if alert.id is None else _CHANGE, values)
    if decision.told:
        body = json.dumps(body_of(decision.told, socket.gethostname(), now))
        for channel in channels:
            outbox.add(database, connection, channel, body, now)


def _mark(
    database: Database, connection: Connection, mark: tuple[str, str, datetime], now: datetime
) -> bool:
    """Note that it has been seen to; whether nobody had."""
    kind, subject, moment = mark
    times = {"moment": database.moment(moment), "now": database.moment(now)}
    return connection.execute(_MARK, {"kind": kind, "subject": subject, **times}).rowcount > 0


def _is_still_ours(database: Database, connection: Connection, looked_at: datetime) -> bool:
    """Nobody has looked since; and nobody begins to before we have committed."""
    mine = {"mine": database.moment(looked_at)}
    return connection.execute(_HOLD_LOOK, mine).rowcount > 0


def _standing(connection: Connection) -> tuple[list[Standing], datetime | None]:
    rows = connection.execute(_STANDING).all()
    last_told = connection.execute(_LAST_TOLD).scalar()
    return [Standing(**{**row._mapping, "facts": json.loads(row.facts)}) for row in rows], last_told


def _values(database: Database, alert: Standing) -> dict[str, Any]:
    times = ("first_at", "last_at", "due_at", "told_at", "ended_at")
    values = {name: getattr(alert, name) for name in ("id", *_NAMES)}
    values |= {
        name: None if values[name] is None else database.moment(values[name]) for name in times
    }
    return values | {"facts": json.dumps(dict(alert.facts))}


_NAMES = (
    "cause",
    "kind",
    "subject",
    "message",
    "facts",
    "count",
    "untold",
    "first_at",
    "last_at",
    "due_at",
    "told_at",
    "ended_at",
)
_DUE = "name = 'all' AND (looked_at <= :edge OR looked_at > :ahead)"
_LOOK_DUE = text(f"SELECT 1 FROM sched_alert_looks WHERE {_DUE}")
_CLAIM_LOOK = text(f"UPDATE sched_alert_looks SET looked_at = :now WHERE {_DUE}")
_HOLD_LOOK = text(
    "UPDATE sched_alert_looks SET looked_at = looked_at WHERE name = 'all' AND looked_at = :mine"
)
_STANDING = text(
    f"SELECT id, {', '.join(_NAMES)} FROM sched_alerts WHERE ended_at IS NULL ORDER BY id"
).columns(
    first_at=Instant(), last_at=Instant(), due_at=Instant(), told_at=Instant(), ended_at=Instant()
)
_LAST_TOLD = text(
    "SELECT MAX(created_at) AS at FROM sched_alert_messages WHERE channel NOT IN ('ping', 'test')"
).columns(at=Instant())
_OPEN = text(
    f"INSERT INTO sched_alerts ({', '.join(_NAMES)}) VALUES ({', '.join(f':{n}' for n in _NAMES)})"
)
_CHANGE = text(
    f"UPDATE sched_alerts SET {', '.join(f'{name} = :{name}' for name in _NAMES)} WHERE id = :id"
)
_MARK = text("""
INSERT INTO sched_alert_marks (kind, subject, moment, created_at)
VALUES (:kind, :subject, :moment, :now) ON CONFLICT DO NOTHING
""")
