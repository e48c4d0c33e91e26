"""Manifests: which set of schedule files is in force, so that an old daemon cannot undo a newer deploy."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, text

from cronqueue.database import Database, read_now
from cronsched.manifest import Manifest


def may_apply(
    database: Database, manifest: Manifest, brought: str | None, *, is_alone: bool = False
) -> bool:
    """Whether a daemon with these files may apply them.

    Files that were never seen win. Files that were seen before and are not in force any more belong to a
    daemon that was left behind: it follows. Unless it brought (`brought`) what is in force itself, or is
    the only one there is: then somebody edits on one machine, and undoes.
    """
    if is_alone:
        return True
    with database.snapshot() as connection:
        statement = "SELECT hash, in_force_since, in_force_until FROM sched_manifests"
        rows = {row.hash: row for row in connection.execute(text(statement))}
    in_force = next((each for each, row in rows.items() if _is_in_force(row)), None)
    return manifest.hash not in rows or in_force in (None, manifest.hash, brought)


def is_alone(database: Database, daemon: str, silence: timedelta) -> bool:
    """Whether all other daemons have stopped, or have not been heard of for this long."""
    statement = text(
        "SELECT 1 FROM sched_workers WHERE kind = 'daemon' AND id <> :daemon AND heartbeat_at > :since"
    )
    with database.snapshot() as connection:
        since = database.moment(read_now(database, connection) - silence)
        found = connection.execute(statement, {"daemon": daemon, "since": since}).first()
    return found is None


def put_in_force(database: Database, manifest: Manifest) -> None:
    """Remember that this manifest was applied. One with a fault is not remembered: it is not complete."""
    if not manifest.complete:
        return

    def work(connection: Connection) -> None:
        parameters = {"hash": manifest.hash, "now": database.moment(read_now(database, connection))}
        connection.execute(text(_END_OTHERS), parameters)
        connection.execute(text(_PUT), parameters)

    database.write(work)


_END_OTHERS = """
UPDATE sched_manifests SET in_force_until = :now WHERE in_force_until IS NULL AND hash <> :hash
"""
_PUT = """
INSERT INTO sched_manifests (hash, first_seen_at, in_force_since) VALUES (:hash, :now, :now)
ON CONFLICT (hash) DO UPDATE SET in_force_until = NULL,
    in_force_since = CASE WHEN sched_manifests.in_force_until IS NULL THEN sched_manifests.in_force_since
        ELSE excluded.in_force_since END
"""


def _is_in_force(row: object) -> bool:
    since, until = getattr(row, "in_force_since", None), getattr(row, "in_force_until", None)
    return since is not None and until is None
