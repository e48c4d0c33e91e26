"""A hundred random deploys, without a database: the schedules converge and do not go to and fro."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from cronsched.deploys import Brought, Decision, Holder, Known, Situation, decide
from deploy_orders import Action, Move, Order, play, random_order

TAKEOVER = timedelta(minutes=5)


@dataclass
class Running:
    """A daemon, what it holds, and whether it follows."""

    brought: Brought
    is_follower: bool = False


class Model:
    """What `manifests` keeps in tables, kept in two dictionaries."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.known: dict[str, Known] = {}
        self.holders: dict[str, Holder] = {}
        self.running: dict[str, Running] = {}
        self.switches = 0
        self.starts = 0

    def situation(self) -> Situation:
        return Situation(tuple(self.known.values()), tuple(self.holders.values()), self.now)

    def turn(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for each in self.running.values():
            self._heartbeat(each)
            decision = self._decide(each)
            if decision.applies and decision.in_force != each.brought.hash:
                self._bring(each)

    def move(self, move: Move) -> None:
        if move.action in ("stop", "kill"):
            each = self.running.pop(move.daemon, None)
            if each is not None and move.action == "stop":
                self._sign_off(each.brought)
            return
        if move.action == "start":
            self.starts += 1
            brought = Brought(f"{move.daemon}-{self.starts}", move.place, move.version)
        else:
            brought = replace(self.running[move.daemon].brought, hash=move.version)
        in_force = self.situation().in_force
        under = None if in_force is None else in_force.hash
        each = Running(replace(brought, release=move.release, loaded_under=under))
        self.running[move.daemon] = each
        self._bring(each)
        self._heartbeat(each)

    def _decide(self, each: Running) -> Decision:
        decision = decide(each.brought, self.situation(), TAKEOVER)
        each.brought = replace(each.brought, contact=decision.contact)
        each.is_follower = not decision.applies
        return decision

    def _bring(self, each: Running) -> None:
        decision, brought = self._decide(each), each.brought
        mine = self.known.get(brought.hash) or Known(brought.hash, brought.release, self.now)
        releases = [each for each in (mine.release, brought.release) if each is not None]
        self.known[mine.hash] = mine = replace(mine, release=max(releases, default=None))
        if decision.applies and not mine.is_in_force:
            self.known = {
                name: replace(each, is_in_force=False) for name, each in self.known.items()
            }
            self.known[mine.hash] = replace(mine, is_in_force=True, brought_by=brought.place)
            self.switches += 1
        if decision.applies:
            self.known[mine.hash] = replace(self.known[mine.hash], held_at=self.now)

    def _heartbeat(self, each: Running) -> None:
        brought = each.brought
        self.holders[brought.daemon] = Holder(brought.daemon, brought.hash, self.now)

    def _sign_off(self, brought: Brought) -> None:
        self.holders.pop(brought.daemon)
        self.known[brought.hash] = replace(self.known[brought.hash], held_at=self.now)


def played(order: Order) -> Model:
    model = Model()
    soon, late = 60.0, TAKEOVER.total_seconds() + 60
    play(order, model, settle=soon if order.settles_at_once else late)
    return model


@pytest.mark.parametrize("seed", range(100))
def test_deploys_in_any_order_converge_and_do_not_flap(seed: int) -> None:
    order = random_order(seed, phases=4)
    model = played(order)
    in_force = model.situation().in_force
    assert in_force is not None
    assert in_force.hash == order.version
    assert not any(each.is_follower for each in model.running.values())
    assert model.switches <= order.most_switches


def crash_loop(times: int, pause: float, ending: Action) -> Iterator[Move]:
    yield Move(0, "start", "old", "v1", None, "old")
    for number in range(times):
        yield Move(pause, "start", "new", "v2", None, f"new-{number}")
        yield Move(10, ending, "new")


def in_force(model: Model) -> list[str]:
    return [each.hash for each in model.known.values() if each.is_in_force]


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_a_version_that_crashes_for_hours_switches_once(ending: Action) -> None:
    last = Move(120, "start", "new", "v2", None, "n")
    model = played(Order([*crash_loop(60, 120, ending), last], settles_at_once=True))
    assert (model.switches, in_force(model)) == (2, ["v2"])


@pytest.mark.parametrize("ending", ["kill", "stop"])
def test_a_version_that_stays_away_is_taken_over_from_once(ending: Action) -> None:
    model = played(Order([*crash_loop(5, 60, ending)]))
    assert (model.switches, in_force(model)) == (3, ["v1"])
