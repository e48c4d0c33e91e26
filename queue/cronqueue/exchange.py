"""The exchange: one transaction in which an executor hands in what ended and takes what is due.

Finish and next claim share a commit, since commits are what a queue's speed is made of. A claim that
fails never takes the finishes with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from cronqueue.admission import find_waiting, is_due
from cronqueue.claim import Band, Claimant, Claimed, Lane, claim, claim_unknown, find_lanes
from cronqueue.database import Database, is_outage
from cronqueue.finish import Finished, Retention, finish, hold_unknown, release
from cronqueue.retry import Verdict
from cronqueue.search import Found
from cronqueue.tracebacks import describe_exception
from cronqueue.waiting import where_jobs_wait

log = logging.getLogger("cronqueue.worker")

# In a line of the log.
LISTED_JOBS = 10


@dataclass(frozen=True, slots=True)
class Order:
    """What to claim: at most `room` jobs, of which `free` can start at once."""

    claimant: Claimant
    band: Band
    lock_token: str
    room: int
    free: int
    lanes: tuple[Lane, ...] | None  # None: sweep, look which there are
    knows: Callable[[str], bool]
    known_tasks: tuple[str, ...]
    alone: bool = True  # jobs that must run alone, too
    looks_at_gate: bool = True  # take nothing while a job has come to it


@dataclass(frozen=True, slots=True)
class Request:
    """What ended, what goes back unstarted (ids by token), what is wanted."""

    finished: Sequence[Finished] = ()
    releases: Sequence[tuple[str, Sequence[int] | None]] = ()  # None: all of the token's
    order: Order | None = None
    guards: frozenset[str] = frozenset()  # those of what ended


@dataclass(frozen=True, slots=True)
class Reply:
    """What the database did.

    `found`: what a claim brought. `gate_due`: a job has come to the gate, so nothing was taken. `freed`:
    guards that what has ended has freed, and others wait for.
    """

    ours: frozenset[int] = frozenset()
    claimed: Sequence[Claimed] = ()
    found: Found | None = None
    gate_due: bool = False
    freed: frozenset[str] = frozenset()
    claim_error: DBAPIError | None = field(default=None)


def exchange(database: Database, request: Request, retention: Retention) -> Reply:
    """Carry out a request. Raises only what `is_outage` calls one; then nothing is known to have happened."""
    try:
        with database.begin() as connection:
            ours = _hand_in(database, connection, request, retention)
            freed = find_waiting(database, connection, request.guards)
            taken = _take(database, connection, request.order)
            return replace(taken, ours=frozenset(ours), freed=freed)
    except DBAPIError as error:
        if is_outage(error):
            raise
        if request.order is None:
            return Reply(frozenset(_hand_in_one_by_one(database, request, retention)))
        reply = exchange(database, replace(request, order=None), retention)
        return replace(reply, claim_error=error)


def give_back_all(database: Database, tokens: Iterable[str]) -> None:
    """Give back unstarted what was claimed under these tokens; raises what `is_outage` calls one."""
    for lock_token in tokens:
        exchange(database, Request(releases=((lock_token, None),)), Retention())


def in_words(ids: list[int]) -> str:
    """Any number of jobs in one line of a log."""
    if len(ids) == 1:
        return f"[job {ids[0]}] was"
    more = ", ..." if len(ids) > LISTED_JOBS else ""
    return f"{len(ids)} jobs ({', '.join(map(str, ids[:LISTED_JOBS]))}{more}) were"


def _hand_in(
    database: Database, connection: Connection, request: Request, retention: Retention
) -> set[int]:
    for lock_token, ids in request.releases:
        release(database, connection, lock_token, ids)
    return finish(database, connection, request.finished, retention) if request.finished else set()


def _take(database: Database, connection: Connection, order: Order | None) -> Reply:
    if order is None:
        return Reply()
    began = time.monotonic()
    waiting, lanes = None, order.lanes
    if lanes is None:
        waiting = where_jobs_wait(database, connection)
        looks_at_gate = order.looks_at_gate and waiting.at_gate
        if looks_at_gate and is_due(database, connection, order.known_tasks):
            return Reply(gate_due=True)
        lanes = find_lanes(database, connection, order.band, waiting)
    jobs = claim(
        database,
        connection,
        lanes,
        order.room,
        order.claimant,
        order.lock_token,
        alone=order.alone,
    )
    if waiting is not None and waiting.unknown and len(jobs) < order.room:
        room = order.room - len(jobs)
        jobs += claim_unknown(
            database,
            connection,
            order.known_tasks,
            order.band,
            room,
            order.claimant,
            order.lock_token,
            alone=order.alone,
        )
    seconds = time.monotonic() - began
    kept, gave_back = _keep(database, connection, order, jobs)
    short = len(jobs) < order.room
    found = Found(lanes, kept, order.lanes is None, short, gave_back, began, seconds)
    return Reply(claimed=kept, found=found)


def _keep(
    database: Database, connection: Connection, order: Order, jobs: list[Claimed]
) -> tuple[list[Claimed], bool]:
    """Give back, before anybody can see them claimed, the jobs that this worker must not hold."""
    unknown = [job.id for job in jobs if not order.knows(job.task)]
    if unknown:
        hold_unknown(database, connection, order.lock_token, unknown)
        jobs = [job for job in jobs if order.knows(job.task)]
    # A last attempt that waits in a buffer would be spent if the worker died, without having begun.
    too_early = [job.id for job in jobs[max(order.free, 0) :] if job.is_last_attempt]
    if too_early:
        release(database, connection, order.lock_token, too_early)
        jobs = [job for job in jobs if job.id not in set(too_early)]
    return jobs, bool(too_early)


def _hand_in_one_by_one(database: Database, request: Request, retention: Retention) -> set[int]:
    """Halve the batch until what the database refuses stands alone; its job fails, the rest commit."""
    for lock_token, ids in request.releases:
        _release_one_by_one(database, lock_token, ids)
    if request.releases:
        return set(exchange(database, replace(request, releases=()), retention).ours)
    if len(request.finished) > 1:
        half = len(request.finished) // 2
        first = exchange(database, replace(request, finished=request.finished[:half]), retention)
        second = exchange(database, Request(request.finished[half:]), retention)
        return set(first.ours | second.ours)
    return set().union(*(_fail_alone(database, each, retention) for each in request.finished))


def _release_one_by_one(database: Database, lock_token: str, ids: Sequence[int] | None) -> None:
    """What cannot go back is left to its lease; the others do not wait for it."""
    for chosen in (None,) if ids is None else [[job_id] for job_id in ids]:
        try:
            database.write(partial(release, database, lock_token=lock_token, ids=chosen))
        except DBAPIError as error:
            if is_outage(error):
                raise
            log.error("the database refused to take back jobs %s: %s", chosen or "", error.orig)


def _fail_alone(database: Database, refused: Finished, retention: Retention) -> set[int]:
    try:
        return database.write(lambda connection: finish(database, connection, [refused], retention))
    except DBAPIError as error:
        if is_outage(error):
            raise
        log.error(
            "[job %d] the database refused its outcome: %s",
            refused.job_id,
            error.orig,
            extra={"job_id": refused.job_id},
        )
        verdict = Verdict(
            "failed",
            error=describe_exception(error),
            reason="the database refused its outcome",
            attempt_outcome="failed",
        )
        failed = refused._replace(verdict=verdict)
        return database.write(lambda connection: finish(database, connection, [failed], retention))
