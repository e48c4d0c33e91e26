"""The world of a simulation: virtual time, machines, processes, and who goes on next.

Everything that in production is a thread is an actor here, a coroutine that runs until it waits. Time moves
only between two actors, to the moment at which the next one goes on. How long a statement takes is drawn
from its process's random numbers, so the seed alone decides in which order things happen.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from simulation.history import Gone, History, Note

if TYPE_CHECKING:
    from simulation.faults import Faults
    from simulation.line import Line

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# The machines have been up for so long when the world begins; each reads another time.
_UPTIME = 1000.0
# How a process ends when the simulation does.
THE_END = "the end"


class Killed(BaseException):
    """Ends the actors of dead processes when the world ends.

    Not when they die: what a process does as an exception leaves it would be done by a dead one.
    """


class Machine:
    """A host: its clocks, and whether it can reach the database."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.random = Random(f"{world.seed}/{name}")
        #: How far its wall clock is ahead of the database's. Nothing may depend on it.
        self.wall_offset = self.random.choice((-300.0, -5.0, 0.0, 5.0, 300.0))
        self._up_since = _UPTIME * self.random.random()
        self._slept = 0.0
        self.asleep_until = 0.0
        self.cut_until = 0.0

    def monotonic(self) -> float:
        """Stands still while the machine is suspended."""
        return self.boottime() - self._slept

    def boottime(self) -> float:
        return self._up_since + self.world.now

    def wall(self) -> datetime:
        """What it takes for the time."""
        return START + timedelta(seconds=self.world.now + self.wall_offset)

    def suspend(self, seconds: float) -> None:
        """Close the lid."""
        self.asleep_until = max(self.asleep_until, self.world.now + seconds)
        self._slept += seconds


class Process:
    """What is killed, stopped and cut off as a whole: its actors, its connections to the database."""

    def __init__(
        self, world: World, machine: Machine, name: str, boss: Process | None = None
    ) -> None:
        self.world = world
        self.machine = machine
        self.name = name
        self.boss = boss
        self.random = Random(f"{world.seed}/{name}")
        self.is_alive = True
        self.stopped_until = 0.0
        self.actors: list[Actor] = []
        self.lines: list[Line] = []
        #: The process's database, once it has opened it.
        self.database: Any = None
        #: Of an executor: tasks that its release does not have.
        self.unknown_tasks: frozenset[str] = frozenset()
        #: Of a daemon: what its folder declares at present.
        self.files: Callable[[], Any] | None = None
        #: Called when it has ended, however.
        self.on_end: list[Callable[[], None]] = []
        world.processes.append(self)

    @property
    def is_stopped(self) -> bool:
        return self.world.now < self.stopped_until

    def goes_on_at(self) -> float:
        """When its actors run again: now, unless it is stopped or its machine asleep."""
        return max(self.stopped_until, self.machine.asleep_until)

    def spawn(self, run: Callable[[], Any], name: str = "") -> Actor:
        """Start an actor: a thread of this process."""
        actor = Actor(self, run, name or self.name)
        self.actors.append(actor)
        self.world.resume_at(self.world.now, actor)
        return actor

    def kill(self, why: str) -> None:
        """End it this very moment: transactions are rolled back, nothing in it goes on."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.world.history.append(Gone(self.world.now, self.name, why))
        for line in list(self.lines):
            line.abandon()
        for call in self.on_end:
            self.world.at(self.world.now, call)
        if getcurrent() in self.actors:
            self.world.hub.switch()  # and never comes back
            raise Killed


class Actor(greenlet):  # type: ignore[misc]
    """A thread of a process."""

    def __init__(self, process: Process, run: Callable[[], Any], name: str) -> None:
        super().__init__(self._run, process.world.hub)
        self.process = process
        self.name = name
        self.ident = next(process.world.numbers)
        self._body = run
        #: Raised in it when it goes on, as `PyThreadState_SetAsyncExc` does.
        self.raises: type[BaseException] | None = None
        self.ticket = 0
        self.is_parked = False
        self.was_woken = False

    def _run(self) -> None:
        try:
            self._body()
        except Killed:
            pass
        except BaseException as error:
            self.process.world.failures.append((self.name, error))
            with suppress(Killed):
                self.process.kill(f"crashed: {error!r}")


class World:
    """Time, and everybody in it."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self.now = 0.0
        self.random = Random(f"{seed}/world")
        self.hub = getcurrent()
        self.numbers = count(1)
        self.history = History()
        self.processes: list[Process] = []
        self.failures: list[tuple[str, BaseException]] = []
        #: How far the database's clock is from the true time.
        self.clock_offset = 0.0
        #: Until when nobody reaches the database.
        self.away_until = 0.0
        self.statements = 0
        self.faults: Faults | None = None
        #: Who may write at present: SQLite has one writer at a time.
        self.writer: Line | None = None
        self.waiting_writers: list[Actor] = []
        #: What goes on when stopped processes and sleeping machines do.
        self.postponed: list[Callable[[], None]] = []
        #: What whoever lives to the end holds of the machine that plays all this.
        self.to_close: list[Callable[[], None]] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def clock(self) -> datetime:
        """The database's time."""
        return START + timedelta(seconds=self.now + self.clock_offset)

    def note(self, text: str, who: str = "world") -> None:
        """Write into the history what was done to the world."""
        self.history.append(Note(self.now, who, text))

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Call a function from the hub, which no actor is."""
        heapq.heappush(self._due, (moment, next(self.numbers), call))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= until:
            moment, _, call = heapq.heappop(self._due)
            self.now = max(self.now, moment)
            call()
        self.now = max(self.now, until)

    def resume_at(self, moment: float, actor: Actor) -> None:
        """Let an actor go on then, unless it has gone on before."""
        ticket = actor.ticket

        def resume() -> None:
            if actor.dead or actor.ticket != ticket or not actor.process.is_alive:
                return
            later = actor.process.goes_on_at()
            if later > self.now:
                self.postponed.append(resume)
                self.at(later, resume)
                return
            actor.ticket += 1
            actor.switch()

        self.at(moment, resume)

    def end(self) -> None:
        """Nobody goes on; connections are closed. What this leads to is no part of the history."""
        for process in self.processes:
            process.kill(THE_END)
        self._due.clear()
        told = list(self.history.events)
        for process in self.processes:
            for actor in process.actors:
                if bool(actor):  # it has begun, and has not ended
                    actor.throw(Killed)
        for close in self.to_close:
            close()
        self.history.events = told


def me() -> Actor:
    """The actor that runs."""
    actor = getcurrent()
    assert isinstance(actor, Actor), "nobody of the simulation runs"
    return actor


def park(seconds: float | None, *, can_be_woken: bool = True) -> bool:
    """Wait for so long, or until somebody wakes us; whether somebody did."""
    actor = me()
    _die_if_dead(actor)
    actor.was_woken = False
    actor.is_parked = can_be_woken
    world = actor.process.world
    if seconds is not None:
        world.resume_at(world.now + max(seconds, 0.0), actor)
    world.hub.switch()
    actor.is_parked = False
    _die_if_dead(actor)
    return actor.was_woken


def sleep(seconds: float) -> None:
    """Let time pass."""
    park(seconds, can_be_woken=False)


def wake(actor: Actor) -> None:
    """Let a parked actor go on."""
    if actor.is_parked and not actor.was_woken:
        actor.was_woken = True
        actor.process.world.resume_at(actor.process.world.now, actor)


def _die_if_dead(actor: Actor) -> None:
    if not actor.process.is_alive:
        raise Killed
