"""Manifests in the database: which set of schedule files is in force, and who holds which.

`deploys` decides; here the decision and what follows from it are one transaction, in which no other daemon
decides. Applying takes many transactions, one for each file. Each of them asks `still_in_force` first, so
that whoever is overtaken meanwhile stops, and what came in force later is applied later.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronsched.deploys import Brought, Decision, Holder, Known, Situation, decide
from cronsched.manifest import Manifest

# The key of the advisory lock: shared while a file is applied, exclusive to decide. The bytes of "mani".
_LOCK = 0x6D616E69


def place_of(folder: Path) -> str:
    """Where files come from: the machine and the folder, as it was named."""
    return f"{socket.gethostname()}:{folder.absolute()}"


def look(database: Database, brought: Brought, takeover_after: timedelta) -> Decision:
    """What `bring` would decide now; writes nothing."""
    with database.snapshot() as connection:
        return decide(brought, _read(database, connection, brought.hash), takeover_after)


def bring(database: Database, brought: Brought, takeover_after: timedelta) -> Decision:
    """Decide, and put the files in force if they win. With a fault they are not even remembered."""

    def work(connection: Connection) -> Decision:
        _lock(database, connection, "pg_advisory_xact_lock")
        situation = _read(database, connection, brought.hash)
        decision = decide(brought, situation, takeover_after)
        if brought.is_complete:
            values = {"hash": brought.hash, "now": database.moment(situation.now)}
            connection.execute(text(_REMEMBER), values | {"release": brought.release})
            connection.execute(text(_HOLD), {"hash": brought.hash, "daemon": brought.daemon})
            if decision.applies:
                _put(connection, values, brought.place, brought.hash == decision.in_force)
        return decision

    return database.write(work)


def put_in_force(
    database: Database,
    manifest: Manifest,
    release: int | None = None,
    *,
    force: bool = False,
    place: str | None = None,
) -> bool:
    """Put files in force by hand, whoever holds others; returns whether they are.

    Never with a fault; with a lower release than the one in force only with `force`, and then under that
    release, so that those who hold it do not win again at once. `place`: where the files come from; without
    it they count as from where those came that they replace.
    """
    if not manifest.complete:
        return False

    def work(connection: Connection) -> bool:
        _lock(database, connection, "pg_advisory_xact_lock")
        situation = _read(database, connection, manifest.hash)
        in_force = situation.in_force
        previous = None if in_force is None else in_force.release
        is_lower = previous is not None and (release is None or release < previous)
        if is_lower and not force:
            return False
        values = {"hash": manifest.hash, "now": database.moment(situation.now)}
        connection.execute(text(_REMEMBER), values | {"release": previous if is_lower else release})
        brought_by = place or (None if in_force is None else in_force.brought_by)
        _put(
            connection, values, brought_by, in_force is not None and in_force.hash == manifest.hash
        )
        return True

    return database.write(work)


def still_in_force(database: Database, manifest_hash: str | None) -> Callable[[Connection], bool]:
    """Whether this hash, or none, is in force; asked within a transaction it stays so to its end."""

    def ask(connection: Connection) -> bool:
        _lock(database, connection, "pg_advisory_xact_lock_shared")
        return _in_force(connection) == manifest_hash

    return ask


def in_force(database: Database) -> str | None:
    """The hash of what is in force, if anything is."""
    with database.snapshot() as connection:
        return _in_force(connection)


def let_go(database: Database, manifest_hash: str) -> None:
    """A daemon that held these files ends: from now on it is silent."""

    def work(connection: Connection) -> None:
        values = {"hash": manifest_hash, "now": database.moment(read_now(database, connection))}
        connection.execute(text(_LET_GO), values)

    database.write(work)


_KNOWN = text("""
SELECT hash, release, first_seen_at, in_force_since, in_force_until, held_at, brought_by FROM sched_manifests
WHERE hash = :hash OR (in_force_since IS NOT NULL AND in_force_until IS NULL)
    OR hash IN (SELECT manifest_hash FROM sched_workers WHERE kind = 'daemon')
""").columns(
    first_seen_at=Instant(), in_force_since=Instant(), in_force_until=Instant(), held_at=Instant()
)
_HOLDERS = text("""
SELECT id, manifest_hash, heartbeat_at FROM sched_workers
WHERE kind = 'daemon' AND manifest_hash IS NOT NULL
""").columns(heartbeat_at=Instant())
_IN_FORCE = text("""
SELECT hash FROM sched_manifests WHERE in_force_since IS NOT NULL AND in_force_until IS NULL
""")
_REMEMBER = """
INSERT INTO sched_manifests (hash, release, first_seen_at) VALUES (:hash, :release, :now)
ON CONFLICT (hash) DO UPDATE SET
    release = CASE WHEN excluded.release > COALESCE(sched_manifests.release, -1) THEN excluded.release
        ELSE sched_manifests.release END
"""
_HOLD = "UPDATE sched_workers SET manifest_hash = :hash WHERE id = :daemon"
_END_OTHERS = """
UPDATE sched_manifests SET in_force_until = :now
WHERE in_force_since IS NOT NULL AND in_force_until IS NULL AND hash <> :hash
"""
_PUT = """
UPDATE sched_manifests SET in_force_since = :now, in_force_until = NULL, held_at = :now, brought_by = :place
WHERE hash = :hash
"""
_PUT_AGAIN = """
UPDATE sched_manifests SET held_at = :now WHERE hash = :hash
"""
_LET_GO = """
UPDATE sched_manifests SET held_at = :now WHERE hash = :hash AND held_at IS NOT NULL
"""


def _lock(database: Database, connection: Connection, function: str) -> None:
    """SQLite has one writer at a time as it is."""
    if database.is_postgresql:
        connection.execute(text(f"SELECT {function}(:key)"), {"key": _LOCK})


def _read(database: Database, connection: Connection, manifest_hash: str) -> Situation:
    """All that matters to these files: they themselves, those in force, those that are held."""
    now = read_now(database, connection)
    known = (
        Known(
            row.hash,
            row.release,
            row.first_seen_at,
            row.in_force_since is not None and row.in_force_until is None,
            row.held_at,
            row.brought_by,
        )
        for row in connection.execute(_KNOWN, {"hash": manifest_hash})
    )
    holders = (Holder(*row) for row in connection.execute(_HOLDERS))
    return Situation(tuple(known), tuple(holders), now)


def _in_force(connection: Connection) -> str | None:
    found: str | None = connection.execute(_IN_FORCE).scalar()
    return found


def _put(
    connection: Connection, values: dict[str, Any], place: str | None, is_in_force: bool
) -> None:
    """What is in force already stays so from where it came, and is held from now on."""
    if is_in_force:
        connection.execute(text(_PUT_AGAIN), values)
        return
    connection.execute(text(_END_OTHERS), values)
    connection.execute(text(_PUT), values | {"place": place})
