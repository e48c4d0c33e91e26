"""Renaming: a schedule's history, jobs and decisions move to its new name."""

from __future__ import annotations

from sqlalchemy import Connection, text

from cronqueue.database import Database

_TABLES = ("sched_occurrences", "sched_occurrence_ranges", "sched_overrides", "sched_revisions")
_RENAME = "UPDATE sched_schedules SET name = :new WHERE name = :old"
_ADD_GUARD = "INSERT INTO sched_guards (key) VALUES (:new) ON CONFLICT (key) DO NOTHING"
# Who admits jobs of a guard holds its row.
_LOCK_GUARDS = "SELECT key FROM sched_guards WHERE key IN (:old, :new) ORDER BY key FOR UPDATE"
_MOVE_JOBS = """
UPDATE sched_jobs SET schedule = :new, guard = CASE WHEN guard = :old THEN :new ELSE guard END
WHERE schedule = :old
"""
_MOVE_JOBS_ALONE = "UPDATE sched_jobs SET schedule = :new WHERE schedule = :old"


def rename(
    database: Database, connection: Connection, old: str, new: str, *, own_guard: bool
) -> None:
    """Give everything of `old` to `new`, which must not exist; its own guard goes with it.

    Callers hold the row of the schedule.
    """
    names = {"old": old, "new": new}
    connection.execute(text(_RENAME), names)
    if own_guard:
        connection.execute(text(_ADD_GUARD), {"new": new})
        if database.is_postgresql:
            connection.execute(text(_LOCK_GUARDS), names)
    connection.execute(text(_MOVE_JOBS if own_guard else _MOVE_JOBS_ALONE), names)
    for table in _TABLES:
        connection.execute(text(f"UPDATE {table} SET schedule = :new WHERE schedule = :old"), names)
