"""The tasks of the simulated workers: each tells the history when its body begins and when it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from cronqueue import registry
from cronqueue.context import current_job
from cronqueue.errors import Discard, Retry, Snooze
from cronqueue.registry import job
from simulation.history import Body
from simulation.scenario import NEW_WORK, WORK
from simulation.world import Killed, World, me, park


@contextmanager
def registered() -> Iterator[None]:
    """The tasks are known for a while, and no others. `new_work` is what only some releases have."""
    begun: Counter[int] = Counter()

    def run(seconds: float = 0.1, outcomes: list[str] | None = None) -> None:
        _run(begun, seconds, outcomes or ["ok"])

    with patch.dict(registry._tasks, clear=True):
        for name in (WORK, NEW_WORK):
            job(name=name, max_attempts=4, backoff="2s")(run)
        yield


def _run(begun: Counter[int], seconds: float, outcomes: list[str]) -> None:
    running, actor = current_job(), me()
    world, who = actor.process.world, actor.process.name
    begun[running.id] += 1
    outcome = outcomes[min(begun[running.id], len(outcomes)) - 1]

    def tell(outcome: str | None) -> None:
        told = Body(
            world.now, who, running.id, running._claimed.lock_token, running.attempt, outcome
        )
        world.history.append(told)

    tell(None)
    try:
        linger(world, seconds)
    except Killed:
        raise
    except BaseException as error:
        tell(type(error).__name__)
        raise
    tell(outcome)
    match outcome:
        case "fails":
            raise RuntimeError("it failed")
        case "retries":
            raise Retry(delay=1.0)
        case "snoozes":
            raise Snooze(1.5)
        case "discards":
            raise Discard("it makes no sense")
        case "dies":
            actor.process.kill("killed by its own job")


def linger(world: World, seconds: float) -> None:
    """What a body does all the time; an interruption reaches it here."""
    actor, until = me(), world.now + seconds
    while world.now < until:
        park(until - world.now)
        if actor.raises is not None:
            exception, actor.raises = actor.raises, None
            raise exception
