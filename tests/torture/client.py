"""A program that enqueues: `python client.py FOLDER SEED`. What was accepted, it writes down.

It repeats what failed because the database was away, as programs do; anything else ends it.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cronqueue import enqueue
from cronqueue.database import is_outage

PAUSE = 0.05
# One in so many does what jobs should not do.
POISON_EVERY = 40
POISONS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("kill_itself", ()),
    ("kill_parent", ()),
    ("crash", ()),
    ("leave", (0,)),
    ("leave", (7,)),
    ("raise_to_leave", ("SystemExit",)),
    ("raise_to_leave", ("KeyboardInterrupt",)),
    ("raise_to_leave", ("GeneratorExit",)),
    ("raise_to_leave", ("CancelledError",)),
    ("exhaust_memory", ()),
    ("recurse", ()),
    ("hold_interpreter", (5,)),
    ("fork_children", ()),
    ("print_a_gigabyte", ()),
)
# These end well, if they are left alone.
HARMLESS = frozenset({"hold_interpreter", "fork_children", "print_a_gigabyte"})


def main(folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    poisons = _shuffled_again_and_again(chance)
    with (folder / f"accepted-{seed}").open("a", buffering=1) as accepted:
        while True:
            if chance.randrange(POISON_EVERY) == 0:
                name, args = next(poisons)
                attempts = 25 if name in HARMLESS else 3
            else:
                (name, args), attempts = _ordinary(chance), 25
            options = {"max_attempts": attempts, "priority": chance.randrange(3)}
            print(_accepted(name, args, options), name, file=accepted)
            time.sleep(chance.uniform(0, 2 * PAUSE))


def _shuffled_again_and_again(chance: random.Random) -> Iterator[tuple[str, tuple[Any, ...]]]:
    while True:
        yield from chance.sample(POISONS, len(POISONS))


def _ordinary(chance: random.Random) -> tuple[str, tuple[Any, ...]]:
    match chance.randrange(6):
        case 0:
            return "work_async", (chance.uniform(0, 0.3),)
        case 1:
            return "effect", ()
        case 2:
            return "fail_first", (chance.randrange(3),)
        case _:
            return "work", (chance.uniform(0, 0.2) ** 2,)


def _accepted(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> int:
    while True:
        try:
            return enqueue(f"victims.{name}", args, **options).id
        except Exception as error:
            if not is_outage(error):
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
