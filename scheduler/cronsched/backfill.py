"""Backfill: run a schedule for times that have passed.

It fills holes and re-opens what was missed, skipped or coalesced; what ran, or still will, it leaves alone.
So it can be repeated, and goes on where it was cut off.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import Connection, text

from cronqueue import wakeup
from cronqueue.audit import record
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now
from cronqueue.errors import DefinitionError, RunAtError
from cronqueue.insertion import NewJob, insert_jobs
from cronqueue.registry import check_priority
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.errors import no_such_schedule
from cronsched.ledger import NewOccurrence, new_job, write_backfill
from cronsched.planner import Planned
from cronsched.retention import is_counted, read_counted
from cronsched.timezones import utc_offset

MOST = 10_000
# The last of the most that are written then comes within twenty years.
LEAST_RATE = 0.001
# What may be run after all, by how its verdict begins.
REOPENED = ("missed:", "skipped:", "coalesced:")


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """How to run what is filled in. `rate`: at most so many jobs a minute. `force`: again what ran, too."""

    limit: int = 1000
    priority: int | None = None
    rate: float | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Backfill:
    """What is, or would be, filled in: new occurrences, re-opened ones, and how many more there are."""

    batch_id: str
    holes: tuple[datetime, ...]
    reopened: tuple[datetime, ...]
    left_alone: int
    beyond_limit: int

    @property
    def count(self) -> int:
        return len(self.holes) + len(self.reopened)


def backfill(
    database: Database,
    name: str,
    start: datetime,
    end: datetime,
    settings: Settings,
    *,
    actor: str,
    options: BackfillOptions = BackfillOptions(),
    dry_run: bool = False,
) -> Backfill:
    """Write jobs for the schedule's times in [start, end), as far as they have passed; oldest first.

    With `force` every time gets a job outside the ledger. Raises LookupError, RunAtError, DefinitionError.
    """
    _check(start, end, options)

    def work(connection: Connection) -> Backfill:
        now = read_now(database, connection)
        row = _find(database, connection, name)
        definition = Definition.from_json(row.definition)
        instants = list(_instants(definition, start, min(end, now), options.limit))
        verdicts = {} if options.force else _verdicts(database, connection, name, start, end)
        if not options.force:
            counted = read_counted(database, connection, start, end)
            verdicts |= {each: "counted" for each in instants if is_counted(counted, name, each)}
        plan = _plan(instants, verdicts, options)
        if not dry_run and plan.count:
            new = _new(definition, row.revision, plan, now, settings, options)
            if options.force:
                insert_jobs(database, connection, [each.job for each in new])
            else:
                write_backfill(database, connection, new)
            span = {"from": start.isoformat(), "to": end.isoformat()}
            told = {"batch": plan.batch_id, "jobs": plan.count, **span}
            target = f"schedule {name}"
            record(database, connection, actor=actor, action="backfill", target=target, detail=told)
        return plan

    done = database.write(work)
    wakeup.notify(database)
    return done


def undo_backfill(database: Database, batch_id: str, *, actor: str) -> int:
    """Cancel what a backfill has written and no worker has started; returns how many jobs."""

    def work(connection: Connection) -> int:
        parameters = {"batch": batch_id, **database.now_parameter()}
        no = "false" if database.is_postgresql else "0"
        statements = [
            text(each.format(now=database.now_sql, no=no)) for each in (_UNDO, _JUDGE_UNDONE)
        ]
        count = len(connection.execute(statements[0], parameters).all())
        connection.execute(statements[1], parameters)
        target = f"backfill {batch_id}"
        detail = {"jobs": count}
        record(database, connection, actor=actor, action="undo", target=target, detail=detail)
        return count

    return database.write(work)


_FIND = "SELECT definition, revision FROM sched_schedules WHERE name = :name {lock}"
# What a backfill wrote, and was taken back before it had started, is as if it had never been.
_VERDICTS = text("""
SELECT l.planned_for,
    CASE WHEN l.verdict = 'cancelled' AND j.origin = 'backfill' AND j.started_at IS NULL
        THEN 'skipped:undone' ELSE l.verdict END AS verdict
FROM sched_ledger l LEFT JOIN sched_jobs j ON j.id = l.job_id
WHERE l.schedule = :name AND l.planned_for >= :start AND l.planned_for < :end
""").columns(planned_for=Instant())
_UNDO = """
UPDATE sched_jobs SET state = 'cancelled', reason = 'cancelled', held_reason = NULL, slot = NULL,
    gated = {no}, finished_at = {now}, updated_at = {now}
WHERE batch_id = :batch AND origin = 'backfill' AND schedule IS NOT NULL AND state IN ('queued', 'held')
    AND started_at IS NULL
RETURNING id
"""
_JUDGE_UNDONE = """
UPDATE sched_occurrences SET verdict = 'cancelled', decided_at = {now}
WHERE verdict IS NULL AND job_id IN (
    SELECT id FROM sched_jobs WHERE batch_id = :batch AND state = 'cancelled')
"""


def _check(start: datetime, end: datetime, options: BackfillOptions) -> None:
    for what, moment in (("from", start), ("to", end)):
        if moment.utcoffset() is None:
            raise RunAtError(f"{what} {moment.isoformat()} has no time zone: use an aware datetime")
    if start >= end:
        raise RunAtError(f"from {start.isoformat()} is not before to {end.isoformat()}")
    if not 1 <= options.limit <= MOST:
        raise DefinitionError(f"limit {options.limit}: give a number from 1 to {MOST}")
    if options.rate is not None and not options.rate >= LEAST_RATE:  # no number is less than NaN
        raise DefinitionError(
            f"rate {options.rate:g}: give a number of jobs a minute, at least {LEAST_RATE:g}"
        )
    if options.priority is not None:
        check_priority(options.priority)


def _find(database: Database, connection: Connection, name: str) -> Any:
    lock = "FOR UPDATE" if database.is_postgresql else ""
    row = connection.execute(text(_FIND.format(lock=lock)), {"name": name}).one_or_none()
    if row is None:
        raise no_such_schedule(name)
    return row


def _instants(
    definition: Definition, start: datetime, end: datetime, limit: int
) -> Iterator[datetime]:
    """Enough of them to see whether the limit is reached, whatever of them is left alone."""
    return islice(replace(definition, enabled=True).occurrences(start, end), 100 * limit)


def _verdicts(
    database: Database, connection: Connection, name: str, start: datetime, end: datetime
) -> dict[datetime, str]:
    parameters = {"name": name, "start": database.moment(start), "end": database.moment(end)}
    return {row.planned_for: row.verdict for row in connection.execute(_VERDICTS, parameters)}


def _plan(
    instants: Sequence[datetime], verdicts: dict[datetime, str], options: BackfillOptions
) -> Backfill:
    wanted = [
        each for each in instants if each not in verdicts or verdicts[each].startswith(REOPENED)
    ]
    chosen = wanted[: options.limit]
    return Backfill(
        secrets.token_hex(8),
        tuple(each for each in chosen if each not in verdicts),
        tuple(each for each in chosen if each in verdicts),
        len(instants) - len(wanted),
        len(wanted) - len(chosen),
    )


def _new(
    definition: Definition,
    revision: int,
    plan: Backfill,
    now: datetime,
    settings: Settings,
    options: BackfillOptions,
) -> list[NewOccurrence]:
    pause = timedelta(minutes=1 / options.rate) if options.rate else timedelta(0)
    new = []
    for number, instant in enumerate(sorted((*plan.holes, *plan.reopened))):
        offset = int(utc_offset(definition.tz, instant).total_seconds())
        planned = Planned(instant, now + number * pause, offset)
        job = new_job(definition, planned, settings, paused=False)
        changed: NewJob = replace(
            job,
            origin="backfill",
            batch_id=plan.batch_id,
            priority=job.priority if options.priority is None else options.priority,
            # By hand it passes the gate for overlap only.
            guard=None if definition.overlap == "allow" else job.guard,
            gated=definition.overlap != "allow",
        )
        new.append(NewOccurrence(definition.name, revision, planned, changed))
    return new
