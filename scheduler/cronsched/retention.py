"""Retention of the ledger: what is old is counted instead of written.

Occurrences go after `keep_occurrences`, those of schedules that run more often than once a minute after two
days, and none before its job. They are counted by schedule, hour and verdict in the same transaction, so
that the audit knows of them. A retired schedule goes two weeks after it retired, when nothing is left of it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue.columns import LATEST, Instant, to_text
from cronqueue.database import Database, read_now
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.rowsets import table_of
from cronsched.triggers import EPOCH

# By schedule: stretches that neither meet nor overlap, in order.
Counted = dict[str, list[tuple[datetime, datetime]]]

# Rows per transaction: locks are held for a fraction of a second.
BATCH = 2_000
KEEP_FREQUENT = timedelta(days=2)
KEEP_RETIRED = timedelta(days=14)
# So many runs in a row within an hour are a schedule of less than a minute.
_IN_AN_HOUR = 61
_HOUR = timedelta(hours=1)
# The ids at the end of verdicts such as coalesced:12 would make each a kind of its own.
_ID = re.compile(r":[0-9]+$")


def prune_ledger(database: Database, settings: Settings) -> int:
    """Count and delete one batch of old occurrences; returns its size, so that the caller goes on."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        edges = _find_edges(connection, now, settings)
    if not edges:
        return 0
    return database.write(lambda connection: _condense(database, connection, edges))


def forget_retired(database: Database) -> int:
    """Delete the retired schedules that nothing is left of; returns how many there were."""

    def work(connection: Connection) -> int:
        before = database.moment(read_now(database, connection) - KEEP_RETIRED)
        lock = "FOR UPDATE SKIP LOCKED" if database.is_postgresql else ""
        found = connection.execute(text(_RETIRED.format(lock=lock)), {"before": before})
        names = found.scalars().all()
        for statement in _FORGET:
            sql = text(statement.format(among=database.among("names")))
            connection.execute(sql, {"names": database.listed(names)})
        return len(names)

    return database.write(work)


def read_counted(
    database: Database, connection: Connection, start: datetime, end: datetime
) -> Counted:
    """Where occurrences are counted instead of written, as far as it meets [start, end)."""
    span = {"start": database.moment(start), "end": database.moment(end)}
    counted: Counted = {}
    for row in connection.execute(_RANGES, span):
        stretches = counted.setdefault(row.schedule, [])
        if stretches and row.starts_at <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], row.ends_at))
        else:
            stretches.append((row.starts_at, row.ends_at))
    return counted


def is_counted(counted: Counted, schedule: str, planned_for: datetime) -> bool:
    """Whether the occurrence lies in one of the stretches: it is decided, and has no row."""
    stretches = counted.get(schedule, [])
    place = bisect_right(stretches, planned_for, key=itemgetter(0))
    return place > 0 and planned_for < stretches[place - 1][1]


_RANGES = text("""
SELECT schedule, starts_at, ends_at FROM sched_occurrence_ranges WHERE ends_at > :start AND starts_at < :end
ORDER BY schedule, starts_at
""").columns(starts_at=Instant(), ends_at=Instant())
_FIRSTS = text("""
SELECT s.name, s.definition,
    (SELECT MIN(o.planned_for) FROM sched_occurrences o WHERE o.schedule = s.name) AS first
FROM sched_schedules s
""").columns(first=Instant())
_EDGES = {"schedule": "text", "edge": "timestamptz"}
_CONDENSE = """
DELETE FROM sched_occurrences
WHERE (schedule, planned_for) IN (SELECT old.schedule, old.planned_for FROM {old})
RETURNING schedule, planned_for, COALESCE(verdict, 'lost:deleted') AS verdict
"""
_OLD = """
SELECT o.schedule, o.planned_for FROM {of} WHERE o.schedule = new.schedule AND o.planned_for < new.edge
    AND NOT EXISTS (SELECT 1 FROM sched_jobs j WHERE j.id = o.job_id)
"""
_OLD_SQLITE = f"({_OLD.format(of='{rows} JOIN sched_occurrences o')} LIMIT :limit) AS old"
# Schedule by schedule: a join may be planned as a walk through all that is young.
# Locked rows are being changed: the next pass sees what became of them.
_OLD_POSTGRESQL = f"""
(SELECT each.* FROM {{rows}} CROSS JOIN LATERAL (
    {_OLD.format(of="sched_occurrences o")}
    ORDER BY o.planned_for LIMIT :limit FOR UPDATE OF o SKIP LOCKED) AS each LIMIT :limit) AS old
"""
_EDGES = {"schedule": "text", "edge": "timestamptz"}
_COUNT = """
INSERT INTO sched_occurrence_ranges (schedule, starts_at, ends_at, verdict, count)
VALUES (:schedule, :starts_at, :ends_at, :verdict, :count)
ON CONFLICT (schedule, starts_at, ends_at, verdict)
DO UPDATE SET count = sched_occurrence_ranges.count + excluded.count
"""
_RETIRED = """
SELECT s.name FROM sched_schedules s
WHERE s.state = 'retired' AND s.retired_at < :before
    AND NOT EXISTS (SELECT 1 FROM sched_occurrences o WHERE o.schedule = s.name)
    AND NOT EXISTS (SELECT 1 FROM sched_jobs j WHERE j.schedule = s.name AND j.schedule IS NOT NULL
        AND j.state IN ('queued', 'held'))
    AND NOT EXISTS (SELECT 1 FROM sched_jobs j WHERE j.schedule = s.name AND j.state = 'running')
{lock}
"""
_FORGET = (
    "DELETE FROM sched_overrides WHERE schedule {among}",
    "DELETE FROM sched_revisions WHERE schedule {among}",
    "DELETE FROM sched_schedules WHERE name {among}",
)


def _find_edges(connection: Connection, now: datetime, settings: Settings) -> list[dict[str, str]]:
    """Of each schedule that has older occurrences, the hour before which they go."""
    keep = settings.keep_occurrences
    edges = []
    for row in connection.execute(_FIRSTS):
        if row.first is None or row.first >= _whole_hour(now - min(keep, KEEP_FREQUENT)):
            continue
        kept = min(keep, KEEP_FREQUENT) if _is_frequent(row.definition) else keep
        if row.first < (edge := _whole_hour(now - kept)):
            edges.append({"schedule": row.name, "edge": to_text(edge)})
    return edges


@lru_cache(maxsize=20_000)
def _is_frequent(stored: str) -> bool:
    """Whether it runs more often than once a minute. One that cannot be computed is kept for longer."""
    try:
        definition = Definition.from_json(stored)
        instants = list(islice(definition.occurrences(EPOCH, LATEST), _IN_AN_HOUR))
    except Exception:  # anything may stand there, and a trigger may be the user's
        return False
    return len(instants) == _IN_AN_HOUR and instants[-1] - instants[0] < _HOUR


def _condense(database: Database, connection: Connection, edges: Sequence[dict[str, str]]) -> int:
    old = _OLD_POSTGRESQL if database.is_postgresql else _OLD_SQLITE
    sql = _CONDENSE.format(old=old.format(rows=table_of(database, _EDGES)))
    statement = text(sql).columns(planned_for=Instant())
    rows = connection.execute(statement, {"rows": json.dumps(edges), "limit": BATCH}).all()
    counts = _counted(rows)
    if counts:
        connection.execute(
            text(_COUNT), [_range(database, *key, counts[key]) for key in sorted(counts)]
        )
    return len(rows)


def _counted(rows: Iterable[Row[Any]]) -> Counter[tuple[str, datetime, str]]:
    return Counter(
        (row.schedule, _whole_hour(row.planned_for), _ID.sub("", row.verdict)) for row in rows
    )


def _range(
    database: Database, schedule: str, hour: datetime, verdict: str, count: int
) -> dict[str, Any]:
    return {
        "schedule": schedule,
        "starts_at": database.moment(hour),
        "ends_at": database.moment(hour + _HOUR),
        "verdict": verdict,
        "count": count,
    }


def _whole_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
