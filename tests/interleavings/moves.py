"""The core's transactions, each on rows that the others want as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError

from cronqueue import operations
from cronqueue.admission import admit
from cronqueue.claim import Band, claim, claim_unknown, find_lanes, new_token
from cronqueue.database import WRITE_TRIES, Database, is_transient
from cronqueue.enqueueing import enqueue
from cronqueue.exchange import Order, Reply, Request, exchange
from cronqueue.finish import Retention, hold_unknown, release
from cronqueue.lease import renew
from cronqueue.plugins import installed
from cronqueue.prune import expire, prune_until
from cronqueue.rescue import Death, rescue, return_jobs
from cronqueue.retry import Verdict
from cronsched import overrides, pausing
from cronsched.backfill import backfill
from cronsched.materializer import top_up
from cronsched.reconcile import apply
from cronsched.retention import prune_ledger
from interleavings.world import (
    ALIVE,
    AT,
    HOUR,
    LATEST,
    OPEN,
    RESTING,
    SETTINGS,
    STRICT,
    Move,
    World,
    definitions,
    manifest_of,
)
from job_rows import WORKER, claim_due, ended, hand_in

# Those after which a job may be gone.
DELETING = frozenset({"delete", "prune", "exchange, dropping"})
# Whoever keeps others' jobs safe must not stand behind one of them, nor must whoever looks for work.
NEVER_WAITING = frozenset(
    {"claim", "claim unknown", "claim, hold unknown", "admit", "renew", "rescue", "return", "expire",
     "prune", "prune ledger", "materialize"}
)  # fmt: skip
RETRY = Verdict("queued", delay=0.0, error="again", attempt_outcome="failed")
FAILED = Verdict("failed", error="no", attempt_outcome="failed")


def moves(world: World) -> dict[str, Move]:
    """By name."""
    return {**of_workers(world), **of_operators(world), **of_schedules(world)}


def of_workers(world: World) -> dict[str, Move]:
    """What workers do."""
    held = [*world.claimed, *world.lost]
    tokens = sorted({job.lock_token for job in held})
    some = [
        ended(job, v) for job, v in zip(held, (RETRY, *[Verdict("succeeded")] * 9), strict=False)
    ]
    order = Order(
        WORKER, Band(), "token-of-the-exchange", 8, 8, None, lambda task: True, ("foreign",)
    )
    request = Request(finished=some[::-1], order=order, guards=frozenset((STRICT, LATEST)))
    unknown = _in_transaction(
        lambda database, connection: claim_unknown(
            database, connection, ("foreign",), Band(), 5, WORKER, new_token()
        )
    )
    return {
        "claim": lambda database: claim_due(database, 6),
        "claim unknown": unknown,
        "exchange": lambda database: _exchange(database, request, Retention()),
        "exchange, dropping": lambda database: _exchange(database, request, Retention(True, True)),
        "finish": lambda database: hand_in(database, held),
        "fail": lambda database: hand_in(database, held[::-1], FAILED),
        "release": _in_transaction(
            lambda database, connection: [release(database, connection, each) for each in tokens]
        ),
        "claim, hold unknown": _in_transaction(_claim_and_hold),
        "renew": lambda database: renew(database, tokens, timedelta(seconds=60)),
        "rescue": rescue,
        "return": lambda database: return_jobs(
            database, ALIVE.worker_id, Death("it is gone", frozenset(job.id for job in held[:2]))
        ),
        "admit": lambda database: admit(database, (STRICT, LATEST), ("foreign",)),
        "expire": expire,
        "sweep": lambda database: [sweep(database) for sweep in installed("cronqueue.sweep")],
        "prune": lambda database: prune_until(database, AT),
        "enqueue": _in_transaction(
            lambda database, connection: [
                enqueue("work", session=connection, key=key) for key in (None, "k", "s")
            ]
        ),
    }


def of_operators(world: World) -> dict[str, Move]:
    """What people do."""
    everything = sorted(world.seeded)
    due, keyed = world.ids["due"], world.ids["keyed"]
    change = operations.Edit(run_at=AT - HOUR, priority=9)
    return {
        "cancel": lambda database: operations.cancel_jobs(database, everything, actor="me"),
        "cancel one": lambda database: operations.cancel_job(database, keyed, actor="me"),
        "retry": lambda database: operations.retry_jobs(database, everything, actor="me"),
        "retry one": lambda database: operations.retry_job(
            database, world.ids["cancelled"], actor="me"
        ),
        "delete": lambda database: operations.delete_jobs(database, everything, actor="me"),
        "run now": lambda database: operations.run_jobs_now(database, everything, actor="me"),
        "edit": lambda database: operations.edit_job(database, due, change, actor="me"),
        "pause queue": lambda database: operations.pause_queue(database, "default", actor="me"),
        "resume queue": lambda database: operations.resume_queue(database, "mail", actor="me"),
    }


def of_schedules(world: World) -> dict[str, Move]:
    """What daemons do, and people with schedules."""
    soon = AT.replace(minute=0, second=0, microsecond=0)
    times = manifest_of(definitions(every=2400))
    payload = manifest_of(definitions(priority=3))
    fewer = manifest_of(tuple(each for each in definitions() if each.name != STRICT))
    renamed = manifest_of(
        tuple(
            replace(each, name="renamed", renamed_from=STRICT) if each.name == STRICT else each
            for each in definitions()
        )
    )
    return {
        "materialize": lambda database: top_up(database, SETTINGS),
        "reconcile times": lambda database: apply(database, times, SETTINGS),
        "reconcile payload": lambda database: apply(database, payload, SETTINGS),
        "reconcile removal": lambda database: apply(database, fewer, SETTINGS, allow_removals=True),
        "reconcile rename": lambda database: apply(database, renamed, SETTINGS),
        "pause": lambda database: pausing.pause(database, STRICT, actor="me"),
        "resume": lambda database: pausing.resume(database, RESTING, actor="me"),
        "skip": lambda database: overrides.skip(database, STRICT, soon, actor="me"),
        "move": lambda database: overrides.move(database, STRICT, soon, AT, actor="me"),
        "edit occurrence": lambda database: overrides.edit(database, STRICT, soon, 7, actor="me"),
        "backfill": lambda database: backfill(
            database, OPEN, AT - 5 * HOUR, AT, SETTINGS, actor="me"
        ),
        "prune ledger": lambda database: prune_ledger(
            database, replace(SETTINGS, keep_occurrences=HOUR)
        ),
    }


def _exchange(database: Database, request: Request, retention: Retention) -> Reply:
    """As an executor does: it keeps what a deadlock or an outage threw back, and sends it again."""
    for _ in range(WRITE_TRIES):
        try:
            return exchange(database, request, retention)
        except DBAPIError as error:
            if not is_transient(error):
                raise
    raise AssertionError("thrown back again and again")


def _claim_and_hold(database: Database, connection: Any) -> None:
    """As an exchange does with what its worker does not know."""
    token = new_token()
    lanes = find_lanes(database, connection, Band())
    claimed = claim(database, connection, lanes, 6, WORKER, token)
    hold_unknown(database, connection, token, [job.id for job in claimed])


def _in_transaction(work: Callable[[Database, Any], Any]) -> Move:
    return lambda database: database.write(lambda connection: work(database, connection))
