"""What is told, to whom, and how often, as this process is set up: without the secrets in the settings.

Workers and daemons send, by their own settings. What this process sends to is theirs where all read the same
file; a channel that only the messages name is one that others have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database
from cronqueue.durations import format_duration
from cronqueue.settings import Settings
from cronsched.alerts.channels import channels_of
from cronsched.watching import Watched, watched_schedules


@dataclass(frozen=True, slots=True)
class Channel:
    """A way out, and how its messages of the last thirty days went.

    `target` is None for one that only others have. `last_error`: of the newest message, until it is sent.
    """

    name: str
    target: str | None
    sent: int = 0
    waiting: int = 0
    failed: int = 0
    last_sent_at: datetime | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """A schedule with something to keep, or with an address that waits for its sign of life."""

    schedule: str
    must_start_within: str | None
    must_finish_by: str | None
    ping: str | None
    is_paused: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """`told` are the kinds that are told. `looked_at` is None until a worker or a daemon has looked."""

    channels: tuple[Channel, ...]
    told: tuple[str, ...]
    wait: timedelta
    repeat: timedelta
    schedules: tuple[Promise, ...]
    daemon_ping: str | None
    looked_at: datetime | None


def find_rules(database: Database, settings: Settings) -> Rules:
    """What is set up here, and what has come of it."""
    watched = watched_schedules(database)
    with database.snapshot() as connection:
        channels = _channels(connection, settings)
        looked_at = connection.execute(_LOOKED).scalar_one()
    return Rules(
        channels=channels,
        told=tuple(settings.alerts_on),
        wait=settings.alerts_wait,
        repeat=settings.alerts_repeat,
        schedules=tuple(each for each in map(_promise, watched) if each is not None),
        daemon_ping=_host(settings.alerts_daemon_ping),
        looked_at=looked_at if looked_at.year > _NEVER else None,
    )


def _channels(connection: Connection, settings: Settings) -> tuple[Channel, ...]:
    made = {name: Channel(name, _target(settings, name)) for name in channels_of(settings)}
    for row in connection.execute(_WENT):
        known = made.get(row.name) or Channel(row.name, None)
        made[row.name] = replace(known, **row._mapping)
    return tuple(made.values())


def _target(settings: Settings, name: str) -> str:
    """To whom; of an address only its host, since its path is often a secret."""
    if name == "email":
        server = urlsplit(settings.alerts_smtp_url or "smtp://localhost").hostname
        return f"{', '.join(settings.alerts_email_to)} by {server}"
    if name == "webhook":
        signed = "" if settings.alerts_webhook_secret else ", not signed"
        return f"{_host(settings.alerts_webhook_url)}{signed}"
    if name == "command":
        return settings.alerts_command[0]
    return ", ".join(each.partition(":")[0] for each in settings.alerts_apprise_urls)


def _promise(watched: Watched) -> Promise | None:
    made = watched.definition
    if made.must_start_within is None and made.must_finish_by is None and made.ping is None:
        return None
    within, by = made.must_start_within, made.must_finish_by
    return Promise(
        schedule=made.name,
        must_start_within=None if within is None else format_duration(within),
        must_finish_by=format_duration(by) if isinstance(by, timedelta) else by,
        ping=_host(made.ping),
        is_paused=watched.is_paused,
    )


def _host(url: str | None) -> str | None:
    return None if url is None else urlsplit(url).hostname


# The row is there from the start, with the first moment that there is.
_NEVER = 1970
_LOOKED = text("SELECT looked_at FROM sched_alert_looks WHERE name = 'all'").columns(
    looked_at=Instant()
)
# The newest message tells how it is with the channel: its error, unless it has gone out after all.
_WENT = text("""
SELECT went.name, went.sent, went.waiting, went.failed, went.last_sent_at,
    CASE WHEN newest.state <> 'sent' THEN newest.error END AS last_error
FROM (
    SELECT channel AS name, COUNT(*) FILTER (WHERE state = 'sent') AS sent,
        COUNT(*) FILTER (WHERE state = 'waiting') AS waiting,
        COUNT(*) FILTER (WHERE state = 'failed') AS failed, MAX(sent_at) AS last_sent_at,
        MAX(id) AS newest_id
    FROM sched_alert_messages WHERE channel <> 'ping' GROUP BY channel
) AS went JOIN sched_alert_messages newest ON newest.id = went.newest_id ORDER BY went.name
""").columns(last_sent_at=Instant())
