"""Admission: the gate that jobs pass before the claim, so that those of one guard never overlap.

A look for a running job inside the claim is no gate: with SKIP LOCKED two claims miss each other, and most
of what must not overlap does. So a job with a guard is born `gated`, and let through by one transaction
that holds the guard's row:

    guards with something due, or freed ─► lock those that are free ─► read their jobs ─► judge ─► write

The job that was admitted holds `slot` 0 of its guard until it ends, whatever way; a unique index on (guard,
slot) makes a mistake impossible. What the rules of a schedule mean is not known here: a judge decides, a
pure function that another package of the installation names (entry point `cronqueue.admission`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Connection, TextClause, text
from sqlalchemy.sql.selectable import TextualSelect
from sqlalchemy.types import TypeEngine

from cronqueue import wakeup
from cronqueue.clock import boottime
from cronqueue.clockwatch import ClockWatch
from cronqueue.columns import Instant, to_text
from cronqueue.database import Database, read_now
from cronqueue.plugins import installed

log = logging.getLogger("cronqueue.worker")

# Due jobs whose guards one transaction looks at; on its way it passes all others that are due.
BATCH = 1000


class Contender(NamedTuple):
    """A job of a guard: due before the gate, waiting there, or let through.

    `is_due`: it has come to the gate. `is_ours`: nobody else is changing it, so it can be decided upon.
    """

    id: int
    guard: str
    schedule: str | None
    planned_for: datetime | None
    run_at: datetime
    priority: int
    state: str
    held_reason: str | None
    has_slot: bool
    started_at: datetime | None
    by_hand: bool
    is_due: bool
    is_ours: bool

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its guard."""
        return self.held_reason == "overlap"

    @property
    def has_started(self) -> bool:
        """Whether an attempt at it has begun: it is a retry, or was snoozed."""
        return self.started_at is not None


class Ended(NamedTuple):
    """A job that will not run: its terminal state and the reason, which is also its verdict."""

    id: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the judge decided, by ids.

    `admitted` hold their guards from now on, `passed` need none, `waiting` are held until theirs are
    freed, `stopping` are asked to end. `spread`: of those let through, when some become due.
    """

    ended: tuple[Ended, ...] = ()
    admitted: tuple[int, ...] = ()
    passed: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()
    stopping: tuple[int, ...] = ()
    spread: tuple[tuple[int, datetime], ...] = ()


@dataclass(frozen=True, slots=True)
class Admission:
    """What one transaction did.

    `busy`: freed guards that somebody else was at. `crowded`: due ones, too. `more`: it was full, and
    another will get on.
    """

    ruling: Ruling = Ruling()
    busy: frozenset[str] = frozenset()
    crowded: bool = False
    more: bool = False


# The contenders of several guards, and the time.
Judge = Callable[[Connection, Sequence[Contender], datetime], Ruling]


def admit(
    database: Database,
    freed: Collection[str] = (),
    known_tasks: Collection[str] = (),
    judge: Judge | None = None,
    watch: ClockWatch | None = None,
) -> Admission:
    """Let through what is due and may run, in one transaction. Raises ClockLeapt for the `watch`.

    Without a judge in the installation everything is admitted in its order, one by one for each guard.
    `known_tasks`: jobs held because another worker did not know their task are contenders if we do.
    """

    def work(connection: Connection) -> Admission:
        asked_at = boottime()
        now = read_now(database, connection)
        if watch is not None:
            watch.check(database, now, asked_at)
        tasks = json.dumps(sorted(known_tasks))
        guards, more = _find_guards(database, connection, freed, tasks)
        locked = _lock_guards(database, connection, guards)
        contenders = _read(database, connection, locked, tasks)
        decide = judge or next(iter(installed("cronqueue.admission")), _admit_in_order)
        ruling = decide(connection, contenders, now)
        _write(database, connection, ruling)
        left = guards.difference(locked)
        # Guards and jobs at which somebody else is for long must not keep us here.
        more &= ruling != Ruling()
        return Admission(ruling, left.intersection(freed), not left.issubset(freed), more)

    done = database.write(work)
    if len(done.ruling.admitted) + len(done.ruling.passed) > 1:
        wakeup.notify(database)  # some of them may be for others, who see no reason to look
    return done


def seconds_until_due(
    database: Database, connection: Connection, known_tasks: Collection[str]
) -> float | None:
    """Seconds until the gate has something to do, 0 when it has; None when nothing is gated."""
    if is_due(database, connection, known_tasks):
        return 0.0
    tasks = {"tasks": json.dumps(sorted(known_tasks))}
    row = _execute(database, connection, _NEXT_DUE, tasks).one()
    return None if row.run_at is None else max((row.run_at - row.now).total_seconds(), 0.0)


def is_due(database: Database, connection: Connection, known_tasks: Collection[str]) -> bool:
    """Whether a job has come to the gate, or waits for a guard that nobody holds."""
    tasks = {"tasks": json.dumps(sorted(known_tasks))}
    return any(
        _execute(database, connection, statement, tasks).scalar() is not None
        for statement in (_IS_DUE, f"{_FREE_WAITERS} LIMIT 1")
    )


def find_waiting(
    database: Database, connection: Connection, guards: Collection[str]
) -> frozenset[str]:
    """Those of the guards for which jobs wait."""
    if not guards:
        return frozenset()
    wanted = {"guards": json.dumps(sorted(guards))}
    return frozenset(_execute(database, connection, _WAITING, wanted).scalars())


_GATED_AND_DUE = "state = 'queued' AND gated AND run_at <= {now}"
_UNKNOWN_AND_DUE = (
    "state = 'held' AND held_reason = 'unknown_task' AND gated AND run_at <= {now}"
    " AND task {any_task}"
)
_WAITS = "state = 'held' AND held_reason = 'overlap'"
# What is not worth starting any more is ended by another sweep, and must not win here.
_NOT_EXPIRED = "(expires_at IS NULL OR expires_at > {now})"

# In the order of an index: for EXISTS alone PostgreSQL may look for one through the whole table.
_IS_DUE = f"""
SELECT 1 WHERE (
    SELECT 1 FROM sched_jobs WHERE {_GATED_AND_DUE} AND {_NOT_EXPIRED} ORDER BY run_at LIMIT 1) IS NOT NULL
    OR (SELECT 1 FROM sched_jobs WHERE {_UNKNOWN_AND_DUE} AND {_NOT_EXPIRED}
        ORDER BY task, priority DESC, run_at, id LIMIT 1) IS NOT NULL
"""
_NEXT_DUE = """
SELECT MIN(run_at) AS run_at, {now} AS now FROM (
    SELECT MIN(run_at) AS run_at FROM sched_jobs WHERE state = 'queued' AND gated
    UNION ALL SELECT MIN(run_at) FROM sched_jobs
    WHERE state = 'held' AND held_reason = 'unknown_task' AND gated AND task {any_task}) AS soonest
"""
# Jobs that wait for a guard which nobody holds: whoever freed it could not see to that. By jumps from
# guard to guard, however many wait for each.
_FREE_WAITERS = f"""
WITH RECURSIVE waiting(guard) AS (
    SELECT (SELECT guard FROM sched_jobs WHERE {_WAITS} ORDER BY guard LIMIT 1)
    UNION ALL
    SELECT (SELECT guard FROM sched_jobs WHERE {_WAITS} AND guard > waiting.guard ORDER BY guard LIMIT 1)
    FROM waiting WHERE waiting.guard IS NOT NULL
) SELECT guard FROM waiting WHERE guard IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM sched_jobs AS holder WHERE holder.guard = waiting.guard AND holder.slot IS NOT NULL)
"""
_WAITING = f"SELECT DISTINCT guard FROM sched_jobs WHERE {_WAITS} AND guard {{any_guard}}"
# A gate without a guard, written by hand: there is nothing to wait for.
_OPEN = f"""
UPDATE sched_jobs SET gated = {{no}}, updated_at = {{now}} WHERE {_GATED_AND_DUE} AND guard IS NULL
"""
# SQLite takes NUL by hand, and its JSON ends a text there: such a guard would never be found again.
_MEND = """
UPDATE sched_jobs SET guard = :mended, updated_at = {now}
WHERE guard = :broken AND state IN ('queued', 'held')
"""
_DUE_GUARDS = f"""
SELECT guard FROM sched_jobs WHERE {_GATED_AND_DUE} AND {_NOT_EXPIRED} ORDER BY run_at LIMIT :limit
"""
_UNKNOWN_GUARDS = f"""
SELECT guard FROM sched_jobs WHERE {_UNKNOWN_AND_DUE} AND {_NOT_EXPIRED} AND guard IS NOT NULL LIMIT :limit
"""
_ADD_GUARDS = """
INSERT INTO sched_guards (key) SELECT needed.value FROM {guards} AS needed
WHERE NOT EXISTS (SELECT 1 FROM sched_guards WHERE key = needed.value) ORDER BY 1
ON CONFLICT (key) DO NOTHING
"""
# Guards that somebody else is at are left to them: nobody ever waits here.
_LOCK_GUARDS = "SELECT key FROM sched_guards WHERE key {any_guard} ORDER BY key {skip_locked}"
# The fields of a contender, in their order.
_CONTENDER = """
id, guard, schedule, planned_for, run_at, priority, state, held_reason, slot IS NOT NULL AS has_slot,
started_at,
(pinned OR origin IN ('manual', 'backfill')) AS by_hand,
(gated AND run_at <= {now} AND (state = 'queued' OR (held_reason = 'unknown_task' AND task {any_task})))
    AS is_due
"""
# Guards as a hashed set. As a join the planner would walk all guards for every row where it expects few
# rows, and it does at midnight; `= ANY(array)` always does.
_AMONG_GUARDS = "(guard IN (SELECT needed.value FROM {guards} AS needed)) IS TRUE"
# Due · waiting · holding · what else is unfinished of the schedules that have something due or waiting.
_LOCK = f"""
WITH wanting AS MATERIALIZED (
    SELECT id, schedule FROM sched_jobs WHERE {_GATED_AND_DUE} AND {_AMONG_GUARDS}
    UNION ALL SELECT id, schedule FROM sched_jobs WHERE {_WAITS} AND guard {{any_guard}}
), chosen AS MATERIALIZED (
    SELECT id FROM wanting
    UNION SELECT id FROM sched_jobs WHERE {_UNKNOWN_AND_DUE} AND {_AMONG_GUARDS}
    UNION SELECT id FROM sched_jobs WHERE slot IS NOT NULL AND guard {{any_guard}}
    UNION SELECT id FROM sched_jobs WHERE state IN ('queued', 'held') AND schedule IS NOT NULL
        AND planned_for <= {{now}} AND schedule IN (SELECT schedule FROM wanting) AND {_AMONG_GUARDS}
)
SELECT {_CONTENDER}, {{yes}} AS is_ours, expires_at <= {{now}} AS has_expired FROM sched_jobs
WHERE id {{any_chosen}} AND state IN ('queued', 'held') ORDER BY id {{skip_locked}}
"""
_HOLDERS = f"""
SELECT {_CONTENDER}, {{no}} AS is_ours FROM sched_jobs WHERE guard {{any_guard}} AND slot IS NOT NULL
"""
# Let through, and not worth starting any more: it must not stand in the way of others.
_TURN_BACK = """
UPDATE sched_jobs SET gated = {yes}, slot = NULL, updated_at = {now} WHERE id {any_id}
"""
_END = """
UPDATE sched_jobs SET state = new.state, reason = new.reason, held_reason = NULL, finished_at = {now},
    updated_at = {now}, unique_key = NULL, slot = NULL, gated = {no}
FROM {ended} WHERE sched_jobs.id = new.id AND sched_jobs.state IN ('queued', 'held')
"""
_JUDGE = """
UPDATE sched_occurrences SET verdict = new.reason, decided_at = {now}
FROM {ended} WHERE sched_occurrences.job_id = new.id AND verdict IS NULL
"""
# One held because its task was unknown stays so, for a worker that knows it.
_LET_THROUGH = """
UPDATE sched_jobs SET gated = {no}, slot = {slot}, updated_at = {now},
    state = CASE WHEN held_reason = 'overlap' THEN 'queued' ELSE state END,
    held_reason = CASE WHEN held_reason = 'overlap' THEN NULL ELSE held_reason END
WHERE id {any_id} AND state IN ('queued', 'held')
"""
# What has a deadline is not put off.
_SPREAD = """
UPDATE sched_jobs SET run_at = new.run_at FROM {later} WHERE sched_jobs.id = new.id AND expires_at IS NULL
"""
_WAIT = """
UPDATE sched_jobs SET state = 'held', held_reason = 'overlap', updated_at = {now}
WHERE id {any_id} AND state IN ('queued', 'held')
"""
_STOP = """
UPDATE sched_jobs SET cancel_requested_at = COALESCE(cancel_requested_at, {now})
WHERE id {any_id} AND state = 'running'
"""


def _find_guards(
    database: Database, connection: Connection, freed: Collection[str], tasks: str
) -> tuple[frozenset[str], bool]:
    limit = {"limit": BATCH, "tasks": tasks}
    due = list(_execute(database, connection, _DUE_GUARDS, limit).scalars())
    if None in due:
        _execute(database, connection, _OPEN)
    unknown = _execute(database, connection, _UNKNOWN_GUARDS, limit).scalars()
    orphaned = _execute(database, connection, f"{_FREE_WAITERS} LIMIT :limit", limit).scalars()
    guards = {*freed, *due, *unknown, *orphaned}
    guards.discard(None)
    if broken := [guard for guard in guards if "\0" in guard]:
        for guard in broken:
            mended = {"broken": guard, "mended": guard.replace("\0", "\ufffd")}
            _execute(database, connection, _MEND, mended)
        return _find_guards(database, connection, guards.difference(broken), tasks)
    return frozenset(guards), len(due) == BATCH


def _lock_guards(database: Database, connection: Connection, guards: Collection[str]) -> list[str]:
    if not guards:
        return []
    wanted = {"guards": json.dumps(sorted(guards))}
    _execute(database, connection, _ADD_GUARDS, wanted)
    return list(_execute(database, connection, _LOCK_GUARDS, wanted).scalars())


def _read(
    database: Database, connection: Connection, guards: Sequence[str], tasks: str
) -> list[Contender]:
    """All that matters of these guards, by a snapshot that is younger than their locks."""
    if not guards:
        return []
    parameters = {"guards": json.dumps(guards), "tasks": tasks}
    locked = _execute(database, connection, _LOCK, parameters).all()
    known = {row.id for row in locked}
    holders = _execute(database, connection, _HOLDERS, parameters).all()
    expired = [row.id for row in locked if row.has_expired and row.has_slot]
    if expired:
        _execute(database, connection, _TURN_BACK, {"ids": json.dumps(expired)})
    return [Contender._make(row[:-1]) for row in locked if not row.has_expired] + [
        Contender._make(row) for row in holders if row.id not in known
    ]


def _write(database: Database, connection: Connection, ruling: Ruling) -> None:
    """Ends first: they free the slots that the admitted take."""
    if ruling.ended:
        alike: dict[tuple[str, str], list[int]] = {}
        for job_id, state, reason in ruling.ended:
            alike.setdefault((state, reason), []).append(job_id)
        groups = [
            {"state": state, "reason": reason, "ids": ids} for (state, reason), ids in alike.items()
        ]
        for statement in (_END, _JUDGE):
            _execute(database, connection, statement, {"groups": json.dumps(groups)})
    for statement, ids in (
        (_LET_THROUGH.replace("{slot}", "0"), ruling.admitted),
        (_LET_THROUGH.replace("{slot}", "NULL"), ruling.passed),
        (_WAIT, ruling.waiting),
        (_STOP, ruling.stopping),
    ):
        if ids:
            _execute(database, connection, statement, {"ids": json.dumps(ids)})
    if ruling.spread:
        later = [{"id": job_id, "run_at": to_text(run_at)} for job_id, run_at in ruling.spread]
        _execute(database, connection, _SPREAD, {"later": json.dumps(later)})


def _execute(
    database: Database,
    connection: Connection,
    statement: str,
    parameters: dict[str, Any] | None = None,
) -> Any:
    bound = _bound(statement, database.now_sql, database.is_postgresql)
    return connection.execute(bound, {**(parameters or {}), **database.now_parameter()})


# What a text cannot tell of its columns.
_TYPES: dict[str, TypeEngine[Any]] = {
    **{name: Instant() for name in ("run_at", "now", "planned_for", "started_at")},
    **{name: Boolean() for name in ("has_slot", "by_hand", "is_due", "is_ours", "has_expired")},
}


@cache
def _bound(statement: str, now_sql: str, is_postgresql: bool) -> TextualSelect | TextClause:
    """The statement in this database's words. Lists go over as one JSON text."""
    sql = statement.format(**(_POSTGRESQL if is_postgresql else _SQLITE), now=now_sql)
    is_read = statement.lstrip().startswith(("SELECT", "WITH"))
    return text(sql).columns(**_TYPES) if is_read else text(sql)


_ELEMENTS = "json_array_elements_text(CAST(:{0} AS json))"
_POSTGRESQL = {
    "any_guard": f"= ANY(ARRAY(SELECT {_ELEMENTS.format('guards')}))",
    "any_task": f"= ANY(ARRAY(SELECT {_ELEMENTS.format('tasks')}))",
    "any_id": f"= ANY(ARRAY(SELECT CAST({_ELEMENTS.format('ids')} AS bigint)))",
    "guards": _ELEMENTS.format("guards"),
    "any_chosen": "= ANY(ARRAY(SELECT id FROM chosen))",
    # The ids arrive as the text of a JSON array; as that of an array they are read ten times as fast.
    "ended": "(SELECT state, reason, unnest(CAST(translate(ids, '[]', '{}') AS bigint[])) AS id"
    " FROM json_to_recordset(CAST(:groups AS json)) AS alike(state text, reason text, ids text)) AS new",
    "later": "json_to_recordset(CAST(:later AS json)) AS new(id bigint, run_at timestamptz)",
    "no": "false",
    "yes": "true",
    "skip_locked": "FOR UPDATE SKIP LOCKED",
}
_SQLITE = {
    "any_guard": "IN (SELECT value FROM json_each(:guards))",
    "any_task": "IN (SELECT value FROM json_each(:tasks))",
    "any_id": "IN (SELECT value FROM json_each(:ids))",
    "guards": "json_each(:guards)",
    "any_chosen": "IN (SELECT id FROM chosen)",
    "ended": "(SELECT json_extract(alike.value, '$.state') AS state,"
    " json_extract(alike.value, '$.reason') AS reason, each.value AS id"
    " FROM json_each(:groups) AS alike, json_each(alike.value, '$.ids') AS each) AS new",
    "later": "(SELECT json_extract(value, '$.id') AS id, json_extract(value, '$.run_at') AS run_at"
    " FROM json_each(:later)) AS new",
    "no": "0",
    "yes": "1",
    "skip_locked": "",  # the only writer
}


def _admit_in_order(
    connection: Connection, contenders: Iterable[Contender], now: datetime
) -> Ruling:
    """One at a time per guard, the best first; the others wait."""
    admitted: dict[str, int] = {each.guard: each.id for each in contenders if each.has_slot}
    due = [each for each in contenders if each.is_ours and (each.is_due or each.is_waiting)]
    new, waiting = [], []
    for each in sorted(due, key=lambda job: (-job.priority, job.run_at, job.id)):
        if admitted.setdefault(each.guard, each.id) == each.id:
            new.append(each.id)
        elif not each.is_waiting:
            waiting.append(each.id)
    return Ruling(admitted=tuple(new), waiting=tuple(waiting))
