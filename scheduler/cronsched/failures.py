"""Failures: a schedule whose last runs have all failed is paused, if it says so (`pause_after_failures`).

Every worker looks every few seconds. What failed before the schedule was resumed counts no more.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronsched.pausing import pause_unless_paused
from cronsched.watching import Watched, watched_schedules

log = logging.getLogger("cronsched.daemon")

# Who has paused it, as the audit and the schedule say.
PAUSED_BY = "pause_after_failures"


def pause_failing(database: Database) -> int:
    """Pause the schedules that have failed so many times in a row; returns how many."""
    watched = [each for each in watched_schedules(database) if not each.is_paused]
    return sum(_pause_if_failing(database, each) for each in watched)


_LAST_RUNS = text("""
SELECT COALESCE(o.verdict, j.state) AS verdict, COALESCE(j.finished_at, o.decided_at) AS ended_at
FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id
WHERE o.schedule = :name AND o.planned_for <= :now AND COALESCE(o.verdict, j.state) IN ('succeeded', 'failed')
ORDER BY o.planned_for DESC LIMIT :count
""").columns(ended_at=Instant())


def _pause_if_failing(database: Database, watched: Watched) -> bool:
    name, count = watched.definition.name, watched.definition.pause_after_failures
    if count is None:
        return False
    with database.snapshot() as connection:
        now = database.moment(read_now(database, connection))
        runs = connection.execute(_LAST_RUNS, {"name": name, "now": now, "count": count}).all()
    since = watched.resumed_at
    failed = [
        row for row in runs if row.verdict == "failed" and (since is None or row.ended_at > since)
    ]
    if len(failed) < count:
        return False
    reason = f"the last {count} runs failed" if count > 1 else "the last run failed"

    def work(connection: Connection) -> bool:
        return pause_unless_paused(database, connection, name, actor=PAUSED_BY, reason=reason)

    was_paused = database.write(work)
    if was_paused:
        log.warning(
            "schedule %s is paused: %s; sched schedules resume %s lets it go on", name, reason, name
        )
    return was_paused
