"""Every pair of the core's transactions, switched at every statement.

`make interleavings` plays all of them, `make test` some, drawn from one seed. With
SCHED_TEST_INTERLEAVINGS="delete | claim" it is those of one pair.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from cronqueue.clock import ManualClock
from cronqueue.database import Database
from interleavings.moves import DELETING, NEVER_WAITING, moves
from interleavings.stepping import Stage, staged
from interleavings.world import AT, World, faults, make_world

SAMPLE = os.environ.get("SCHED_TEST_INTERLEAVINGS", "50")
SHARDS = 1 if len(SAMPLE) < 3 else 4


@pytest.fixture
def world(postgres_url: str) -> Iterator[World]:
    """The rows."""
    clock = ManualClock(AT)
    database = Database(postgres_url, clock=clock)
    yield make_world(database, clock)
    database.dispose()


@pytest.fixture
def stage(postgres_url: str, world: World) -> Iterator[Stage]:
    """The two connections."""
    with staged(postgres_url, world.clock) as stage:
        yield stage


def test_each_transaction_alone_leaves_all_in_order(world: World, stage: Stage) -> None:
    for name, move in moves(world).items():
        world.restore()
        stage.count(move)
        assert (stage.first.error, stage.first.refusal) == (None, None), name
        assert list(faults(world, name in DELETING)) == [], name


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_two_transactions_switched_at_any_statement_leave_all_in_order(
    world: World, stage: Stage, shard: int, record_property: Callable[[str, object], None]
) -> None:
    known = moves(world)
    cases: list[tuple[str, str, int]] = []
    for first, move in known.items():
        world.restore()
        statements = stage.count(move)
        cases += [(first, second, at) for second in known for at in range(1, statements)]
    random.Random(1).shuffle(cases)
    chosen = _chosen(cases)
    record_property("all", len(cases))
    wrong: list[str] = []
    repeated = 0
    for first, second, at in chosen[shard::SHARDS]:
        world.restore()
        stage.play(known[first], known[second], at)
        sides = (stage.first, stage.second)
        repeated += sum(len(side.deadlocks) for side in sides)
        deletes = any(name in DELETING for name in (first, second))
        found = [f"raised: {side.error!r}" for side in sides if side.error is not None]
        if second in NEVER_WAITING and stage.second_waited:
            found.append("waited for a lock")
        found += [] if found else faults(world, deletes)
        wrong += [f"{first} stopped at {at}, {second} in between: {each}" for each in found]
    record_property("played", len(chosen[shard::SHARDS]))
    record_property("repeated after a deadlock", repeated)
    assert not wrong, "\n".join(wrong)


def _chosen(cases: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    if SAMPLE == "all":
        return cases
    if "|" in SAMPLE:
        pair = tuple(name.strip() for name in SAMPLE.split("|"))
        return [case for case in cases if case[:2] == pair]
    return cases[: int(SAMPLE)]
