"""Claim: take the best due jobs, each under a lease and a token of this very try.

The claim never walks what it cannot take. It goes lane by lane, from the highest priority down, and in
each reads the index from the earliest `run_at` to now; so the future of a high priority, other queues'
backlogs, held and finished rows cost nothing.

The rows are found and locked inside `ARRAY(SELECT ... FOR UPDATE SKIP LOCKED)`. With `id IN (SELECT ...
LIMIT n)` PostgreSQL may run the inner select again and claim more than n.
"""

from __future__ import annotations

import heapq
import json
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from cronqueue import tracing
from cronqueue.columns import EARLIEST, from_text
from cronqueue.database import Database, prepared
from cronqueue.models import ROW_FORMAT
from cronqueue.waiting import ANY_QUEUE, Waiting, distinct_priorities, where_jobs_wait


@dataclass(frozen=True, slots=True)
class Band:
    """Which jobs a worker takes; empty and None mean no limit."""

    queues: tuple[str, ...] = ()
    exclude_queues: tuple[str, ...] = ()
    min_priority: int | None = None
    max_priority: int | None = None

    def takes(self, priority: int) -> bool:
        """Whether jobs of this priority are for the worker."""
        return (self.min_priority is None or self.min_priority <= priority) and (
            self.max_priority is None or priority <= self.max_priority
        )


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who claims, and for how long."""

    worker_id: str
    name: str
    lease: timedelta


class Floor(NamedTuple):
    """A place in a lane: a claim takes what comes after it, and reads nothing before."""

    run_at: datetime
    id: int


BOTTOM = Floor(EARLIEST, -(2**63))


class Lane(NamedTuple):
    """A priority at which jobs wait; `queues` is None for a worker that takes all of them."""

    priority: int
    queues: tuple[str, ...] | None
    floor: Floor = BOTTOM


class Claimed(NamedTuple):
    """A claimed job: scalars only, its arguments still text."""

    id: int
    task: str
    args_json: str
    queue: str
    priority: int
    run_at: datetime
    attempt: int
    max_attempts: int
    token: int
    schedule: str | None
    planned_for: datetime | None
    key: str | None
    guard: str | None
    timeout: float | None
    refunds: int
    run_alone: bool
    tags_json: str | None  # read where traces are made, None elsewhere
    locked_at: datetime
    lock_token: str

    @property
    def is_last_attempt(self) -> bool:
        return self.attempt >= self.max_attempts


_RUN_AT, _PLANNED_FOR = (Claimed._fields.index(name) for name in ("run_at", "planned_for"))


def new_token() -> str:
    """A token for one try of a claim: random, so that no other try ever has it."""
    return secrets.token_urlsafe(16)


def find_lanes(
    database: Database, connection: Connection, band: Band, waiting: Waiting | None = None
) -> tuple[Lane, ...]:
    """The lanes in which jobs wait for this worker, highest priority first.

    To be read at most once a second: what a worker knows of them may be that old. `waiting`: where they
    do, for whoever has just looked.
    """
    waiting = waiting or where_jobs_wait(database, connection)
    priorities = tuple(filter(band.takes, waiting.priorities))
    if not (priorities and (band.queues or band.exclude_queues or waiting.paused)):
        return tuple(Lane(each, None) for each in priorities)
    closed = waiting.paused.union(band.exclude_queues)
    queues = band.queues or tuple(_queues(connection))
    by_priority: dict[int, list[str]] = {}
    for queue in sorted(set(queues) - closed):
        for priority in filter(band.takes, _priorities(connection, queue)):
            by_priority.setdefault(priority, []).append(queue)
    return tuple(Lane(each, tuple(by_priority[each])) for each in sorted(by_priority, reverse=True))


def claim(
    database: Database,
    connection: Connection,
    lanes: tuple[Lane, ...],
    room: int,
    claimant: Claimant,
    lock_token: str,
    *,
    alone: bool = True,
) -> list[Claimed]:
    """Take at most `room` due jobs, best first; without `alone` none that must run alone."""
    if room <= 0 or not lanes:
        return []
    if database.is_postgresql:
        statement, where = _claim_postgresql(database, lanes, room)
    else:
        statement, where = _claim_sqlite(database, connection, lanes, room, alone)
    where["alone"] = alone
    return _take(database, connection, statement, where, claimant, lock_token)


def claim_unknown(
    database: Database,
    connection: Connection,
    tasks: tuple[str, ...],
    band: Band,
    room: int,
    claimant: Claimant,
    lock_token: str,
    *,
    alone: bool = True,
) -> list[Claimed]:
    """Take due jobs that were held because another worker did not know their task."""
    ids = _find_unknown(
        database, connection, tasks, band, room, alone=alone, lock=database.is_postgresql
    )
    chosen = f"id {database.among('ids')}"
    where = {"ids": database.listed(ids)}
    return _take(database, connection, chosen, where, claimant, lock_token) if ids else []


def probe(
    database: Database,
    connection: Connection,
    band: Band,
    tasks: tuple[str, ...],
    waiting: Waiting | None = None,
) -> float | None:
    """Seconds until the next job for this worker is due, 0 when one is; None when none waits.

    `waiting` as for `find_lanes`.
    """
    waiting = waiting or where_jobs_wait(database, connection)
    if waiting.unknown and _find_unknown(
        database, connection, tasks, band, 1, alone=True, lock=False
    ):
        return 0.0
    lanes = find_lanes(database, connection, band, waiting)
    if not lanes:
        return None
    pairs = json.dumps(
        [[lane.priority, queue] for lane in lanes for queue in lane.queues or (None,)]
    )
    statement = _NEXT_DUE[database.is_postgresql, lanes[0].queues is not None].format(
        now=database.now_sql
    )
    due = prepared(statement, "run_at", "now")
    row = connection.execute(due, {"lanes": pairs} | database.now_parameter()).one()
    return None if row.run_at is None else max((row.run_at - row.now).total_seconds(), 0.0)


_READY = (
    "run_at <= {now} AND (expires_at IS NULL OR expires_at > {now}) AND v <= :v"
    " AND (NOT run_alone OR CAST(:alone AS boolean))"
)
_DUE = f"state = 'queued' AND NOT gated AND {_READY}"
# Those with a guard have to pass its gate first.
_HELD = f"state = 'held' AND held_reason = 'unknown_task' AND NOT gated AND {_READY}"
_IN_BAND = (
    "(CAST(:min_priority AS int) IS NULL OR priority >= CAST(:min_priority AS int))"
    " AND (CAST(:max_priority AS int) IS NULL OR priority <= CAST(:max_priority AS int))"
)

# Leaving `queued` for `running`: the attempt is spent here, so that a job that kills its worker ends.
_CLAIM = """
UPDATE sched_jobs SET
    state = 'running', attempts = attempts + 1, claims = claims + 1, held_reason = NULL,
    locked_by = :name, worker_id = :worker_id, lock_token = :lock_token,
    locked_at = {now}, locked_until = {until}, started_at = {now}, updated_at = {now},
    unique_key = CASE WHEN key_until = 'start' THEN NULL ELSE unique_key END
WHERE {chosen}
RETURNING id, task, CAST(args AS text), queue, priority, run_at, attempts, max_attempts, claims,
    schedule, planned_for, key, guard, timeout, refunds, run_alone, {tags}{locked_at}
"""

_LANES_POSTGRESQL = (
    "unnest(CAST(:priorities AS int[]), CAST(:floor_times AS timestamptz[]), CAST(:floor_ids AS bigint[]))"
    " AS lane(priority, floor_time, floor_id)"
)
_IN_LANE = "priority = lane.priority AND (run_at, id) > (lane.floor_time, lane.floor_id)"
# All queues: one walk per priority. The inner limit is needed for each lane, the outer for their sum.
_CHOSEN_POSTGRESQL = f"""id = ANY(ARRAY(
    SELECT due.id FROM {_LANES_POSTGRESQL}
    CROSS JOIN LATERAL (
        SELECT id FROM sched_jobs WHERE {_DUE} AND {ANY_QUEUE} AND {_IN_LANE}
        ORDER BY run_at, id LIMIT :room FOR UPDATE SKIP LOCKED
    ) AS due LIMIT :room))"""
# Some queues: the same per queue, and at each priority the earliest of all queues first.
_CHOSEN_QUEUES_POSTGRESQL = f"""id = ANY(ARRAY(
    SELECT merged.id FROM {_LANES_POSTGRESQL}
    CROSS JOIN LATERAL (
        SELECT due.id FROM json_array_elements_text(CAST(:queues AS json) -> CAST(lane.priority AS text))
            AS served(queue)
        CROSS JOIN LATERAL (
            SELECT id, run_at FROM sched_jobs
            WHERE {_DUE} AND queue = served.queue AND {_IN_LANE}
            ORDER BY run_at, id LIMIT :room FOR UPDATE SKIP LOCKED
        ) AS due ORDER BY due.run_at, due.id LIMIT :room
    ) AS merged LIMIT :room))"""
_UNKNOWN_POSTGRESQL = f"""
    SELECT due.id FROM json_array_elements_text(CAST(:tasks AS json)) AS known(task)
    CROSS JOIN LATERAL (
        SELECT id, priority, run_at FROM sched_jobs WHERE {_HELD} AND task = known.task AND {_IN_BAND}
            AND (CAST(:queues AS text) IS NULL
                OR queue IN (SELECT json_array_elements_text(CAST(:queues AS json))))
            AND queue NOT IN (SELECT json_array_elements_text(CAST(:closed AS json)))
        ORDER BY priority DESC, run_at, id LIMIT :room {{lock}}
    ) AS due ORDER BY due.priority DESC, due.run_at, due.id LIMIT :room"""
# SQLite has no LATERAL, and as the only writer no need to lock: the ids are read first.
_HEAD_OF_LANE = f"""
    SELECT run_at, id FROM sched_jobs
    WHERE {_DUE} AND {{of_queue}} AND priority = :priority AND (run_at, id) > (:floor_time, :floor_id)
    ORDER BY run_at, id LIMIT :room"""
_UNKNOWN_SQLITE = f"""
    SELECT -priority, run_at, id FROM sched_jobs WHERE {_HELD} AND task = :task AND {_IN_BAND}
        AND (:queues IS NULL OR queue IN (SELECT value FROM json_each(:queues)))
        AND queue NOT IN (SELECT value FROM json_each(:closed))
    ORDER BY priority DESC, run_at, id LIMIT :room"""
_TASKS_HELD_SQLITE = """
    SELECT value FROM json_each(:tasks) WHERE EXISTS (
        SELECT 1 FROM sched_jobs
        WHERE state = 'held' AND held_reason = 'unknown_task' AND task = json_each.value)"""

# The first entry of each lane, and the least of them.
_NEXT_DUE = {
    (is_postgresql, by_queue): f"""
        SELECT MIN((SELECT run_at FROM sched_jobs WHERE state = 'queued' AND NOT gated
            AND priority = {priority} AND {f"queue = {queue}" if by_queue else ANY_QUEUE}
            ORDER BY run_at, id LIMIT 1)) AS run_at, {{now}} AS now FROM {lanes}"""
    for by_queue in (True, False)
    for is_postgresql, priority, queue, lanes in (
        (
            True,
            "CAST(lane.pair ->> 0 AS int)",
            "lane.pair ->> 1",
            "json_array_elements(CAST(:lanes AS json)) AS lane(pair)",
        ),
        (
            False,
            "json_extract(lane.value, '$[0]')",
            "json_extract(lane.value, '$[1]')",
            "json_each(:lanes) AS lane",
        ),
    )
}
_PRIORITIES_OF_QUEUE = distinct_priorities("queue = :queue")


def _claim_postgresql(
    database: Database, lanes: tuple[Lane, ...], room: int
) -> tuple[str, dict[str, Any]]:
    where: dict[str, Any] = {
        "priorities": [lane.priority for lane in lanes],
        "floor_times": [lane.floor.run_at for lane in lanes],
        "floor_ids": [lane.floor.id for lane in lanes],
        "room": room,
        "v": ROW_FORMAT,
    }
    if lanes[0].queues is None:
        return _CHOSEN_POSTGRESQL, where
    where["queues"] = json.dumps({str(lane.priority): lane.queues for lane in lanes})
    return _CHOSEN_QUEUES_POSTGRESQL, where


def _claim_sqlite(
    database: Database, connection: Connection, lanes: tuple[Lane, ...], room: int, alone: bool
) -> tuple[str, dict[str, Any]]:
    ids: list[int] = []
    now = database.now_parameter()
    for lane in lanes:
        if len(ids) >= room:
            break
        heads = []
        for queue in lane.queues or (None,):
            of_queue = ANY_QUEUE if queue is None else "queue = :queue"
            statement = prepared(_HEAD_OF_LANE.format(now=database.now_sql, of_queue=of_queue))
            limits = {
                "priority": lane.priority,
                "queue": queue,
                "floor_time": database.moment(lane.floor.run_at),
                "floor_id": lane.floor.id,
                "room": room - len(ids),
                "v": ROW_FORMAT,
                "alone": alone,
            }
            heads.append(connection.execute(statement, limits | now).all())
        ids += [row.id for row in list(heapq.merge(*heads))[: room - len(ids)]]
    return f"id {database.among('ids')}", {"ids": database.listed(ids)}


def _find_unknown(
    database: Database,
    connection: Connection,
    tasks: tuple[str, ...],
    band: Band,
    room: int,
    *,
    alone: bool,
    lock: bool,
) -> list[int]:
    """The best due jobs that were held because another worker did not know their task."""
    if not tasks:
        return []
    closed = where_jobs_wait(database, connection).paused.union(band.exclude_queues)
    where = _band_parameters(band) | {
        "tasks": json.dumps(tasks),
        "closed": json.dumps(sorted(closed)),
        "room": room,
        "v": ROW_FORMAT,
        "alone": alone,
    }
    where |= database.now_parameter()
    if database.is_postgresql:
        locking = "FOR UPDATE SKIP LOCKED" if lock else ""
        found = prepared(_UNKNOWN_POSTGRESQL.format(now=database.now_sql, lock=locking))
        return list(connection.execute(found, where).scalars())
    held = connection.execute(prepared(_TASKS_HELD_SQLITE), where).scalars().all()
    head = prepared(_UNKNOWN_SQLITE.format(now=database.now_sql))
    heads = [connection.execute(head, where | {"task": task}).all() for task in held]
    return [row.id for row in list(heapq.merge(*heads))[:room]]


def _take(
    database: Database,
    connection: Connection,
    chosen: str,
    where: dict[str, Any],
    claimant: Claimant,
    lock_token: str,
) -> list[Claimed]:
    now = database.now_sql
    until = f"{now} + make_interval(secs => :lease)" if database.is_postgresql else ":until"
    locked_at = ", locked_at" if database.is_postgresql else ""
    tags = "CAST(tags AS text)" if tracing.is_on() else "NULL"
    sql = _CLAIM.replace("{chosen}", chosen).format(
        now=now, until=until, locked_at=locked_at, tags=tags
    )
    who: dict[str, Any] = {
        "name": claimant.name,
        "worker_id": claimant.worker_id,
        "lock_token": lock_token,
    }
    if database.is_postgresql:
        who["lease"] = claimant.lease.total_seconds()
        rows = connection.execute(prepared(sql), where | who | database.now_parameter()).all()
        jobs = [Claimed._make((*row, lock_token)) for row in rows]
    else:
        moment = database.clock.now()
        who["now"] = database.moment(moment)
        who["until"] = database.moment(moment + claimant.lease)
        rows = connection.execute(prepared(sql), where | who).all()
        jobs = [_with_moments(row, moment, lock_token) for row in rows]
    # RETURNING comes in no order.
    jobs.sort(key=lambda job: (-job.priority, job.run_at, job.id))
    return jobs


def _with_moments(row: Row[Any], locked_at: datetime, lock_token: str) -> Claimed:
    """SQLite's texts as moments: here and not by the columns' type, which takes three times as long."""
    values = [*row, locked_at, lock_token]
    values[_RUN_AT] = from_text(values[_RUN_AT])
    if values[_PLANNED_FOR] is not None:
        values[_PLANNED_FOR] = from_text(values[_PLANNED_FOR])
    return Claimed._make(values)


def _priorities(connection: Connection, queue: str) -> list[int]:
    """The distinct priorities of a queue's waiting jobs."""
    return list(connection.execute(prepared(_PRIORITIES_OF_QUEUE), {"queue": queue}).scalars())


def _queues(connection: Connection) -> list[str]:
    """The distinct queues in which jobs wait, by jumps as well."""
    waiting = "SELECT queue FROM sched_jobs WHERE state = 'queued' AND NOT gated"
    statement = prepared(f"""
        WITH RECURSIVE lane(queue) AS (
            SELECT ({waiting} ORDER BY queue LIMIT 1)
            UNION ALL
            SELECT ({waiting} AND queue > lane.queue ORDER BY queue LIMIT 1)
            FROM lane WHERE lane.queue IS NOT NULL
        ) SELECT queue FROM lane WHERE queue IS NOT NULL""")
    return list(connection.execute(statement).scalars())


def _band_parameters(band: Band) -> dict[str, Any]:
    return {
        "min_priority": band.min_priority,
        "max_priority": band.max_priority,
        "queues": json.dumps(band.queues) if band.queues else None,
    }
