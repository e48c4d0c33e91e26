"""Random deploys for simulations: who starts, dies and edits when, and what must come of it.

An order is a list of moves for a few daemons. Half of the orders have release numbers, and half of them
places that change with every start, as containers do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

Action = Literal["start", "stop", "kill", "edit"]


@dataclass(frozen=True)
class Move:
    """After this many seconds a daemon starts, stops, is killed, or finds other files in its folder."""

    after: float
    action: Action
    daemon: str
    version: str = ""
    release: int | None = None
    place: str = ""


@dataclass
class Order:
    """What happens, which version must be in force at the end, and how often that may change on the way.

    `settles_at_once`: a roll-back is known as such by its number, or by the place where it happens. Else it
    takes until nobody who held the newer version has been heard of for long.
    """

    moves: list[Move] = field(default_factory=list)
    version: str = "v1"
    most_switches: int = 1
    settles_at_once: bool = False


class Fleet(Protocol):
    """Daemons whose time passes when it is told to."""

    def move(self, move: Move) -> None: ...

    def turn(self, seconds: float) -> None:
        """Let time pass, and every daemon do what is due."""


def play(order: Order, fleet: Fleet, settle: float, step: float = 10.0) -> None:
    """Carry out the order, and let things settle for a while."""
    for move in [*order.moves, Move(settle, "edit", "")]:
        waited = 0.0
        while waited < move.after:
            fleet.turn(step)
            waited += step
        if move.daemon:
            fleet.move(move)


def random_order(seed: int, phases: int, daemons: int = 3) -> Order:
    """A number of deploys, roll-backs, crash loops and edits, one after the other."""
    return _Writer(random.Random(seed), daemons).write(phases)


class _Writer:
    def __init__(self, chance: random.Random, daemons: int) -> None:
        self._chance = chance
        self._daemons = [f"d{number}" for number in range(daemons)]
        self._release = 1 if chance.random() < 0.5 else None
        self._stays = chance.random() < 0.5
        self._order = Order(settles_at_once=self._stays or self._release is not None)
        self._versions = 1
        self._starts = 0
        self._before: list[str] = []

    def write(self, phases: int) -> Order:
        for daemon in self._daemons:
            self._add("start", daemon)
        kinds = [self._deploy, self._roll_back, self._crash_loop, self._edit]
        for _ in range(phases):
            self._chance.choice(kinds)()
        return self._order

    def _deploy(self) -> None:
        """A new version comes to one daemon after the other."""
        self._next_version()
        self._order.most_switches += 1
        for daemon in self._in_any_order():
            self._replace(daemon)

    def _roll_back(self) -> None:
        """The version before comes back."""
        if not self._before:
            self._deploy()
            return
        self._order.version = self._before.pop()
        self._raise_release()
        self._order.most_switches += 1
        for daemon in self._in_any_order():
            self._replace(daemon)

    def _crash_loop(self) -> None:
        """A new version dies again and again at its first daemon; it is healed, or rolled back."""
        self._next_version()
        self._order.most_switches += 1
        first, *others = self._in_any_order()
        for _ in range(self._chance.randint(2, 5)):
            self._replace(first)
            self._add(self._ending(), first, after=self._chance.choice([0, 10, 30]))
        if self._chance.random() < 0.5:
            self._add("start", first, after=30)
            for daemon in others:
                self._replace(daemon)
        else:
            self._order.version = self._before.pop()
            self._raise_release()
            self._order.most_switches += 1
            self._add("start", first, after=30)
            if self._release is not None:
                for daemon in others:
                    self._replace(daemon)

    def _edit(self) -> None:
        """Somebody edits at one machine, and undoes."""
        version = self._order.version
        daemon = self._chance.choice(self._daemons)
        self._next_version(deployed=False)
        self._add("edit", daemon, after=20)
        self._order.version = version
        self._add("edit", daemon, after=self._chance.choice([10, 30, 90]))
        self._order.most_switches += 2

    def _next_version(self, *, deployed: bool = True) -> None:
        if deployed:
            self._before.append(self._order.version)
            self._raise_release()
        self._versions += 1
        self._order.version = f"v{self._versions}"

    def _raise_release(self) -> None:
        if self._release is not None:
            self._release += 1

    def _replace(self, daemon: str) -> None:
        """The daemon ends, in order or not, and another begins in its stead."""
        self._add(self._ending(), daemon, after=self._chance.choice([0, 20]))
        self._add("start", daemon, after=self._chance.choice([0, 10, 60]))

    def _ending(self) -> Action:
        return "stop" if self._chance.random() < 0.5 else "kill"

    def _add(self, action: Action, daemon: str, after: float = 10) -> None:
        self._starts += action == "start"
        place = daemon if self._stays else f"{daemon}-{self._starts}"
        move = Move(after, action, daemon, self._order.version, self._release, place)
        self._order.moves.append(move if action == "start" else replace(move, place=""))

    def _in_any_order(self) -> Iterator[str]:
        return iter(self._chance.sample(self._daemons, len(self._daemons)))
