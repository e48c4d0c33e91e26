"""Faults: what may befall a machine, a process or a statement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simulation.history import EVERYBODY, THE_DATABASE, Trouble
from simulation.world import Machine, Process, World

Blow = Literal["kill", "cut", "stop", "suspend"]


@dataclass
class Armed:
    """A blow that falls at a certain statement of a process: after `skip` of those that match."""

    who: str
    blow: Blow
    matching: str
    skip: int
    seconds: float = 0.0


@dataclass
class Faults:
    """What is to happen at statements, and what is done to machines and processes."""

    world: World
    armed: list[Armed] = field(default_factory=list)

    def strike(self, process: Process, statement: str) -> Blow | None:
        """What befalls this statement, if anything."""
        for each in self.armed:
            if process.name.startswith(each.who) and each.matching in statement:
                each.skip -= 1
                if each.skip >= 0:
                    continue
                self.armed.remove(each)
                if each.blow == "stop":
                    self.stop(process, each.seconds)
                elif each.blow == "suspend":
                    self.suspend(process.machine, each.seconds)
                else:
                    self._trouble(process.name, 0.0, f"{each.blow} at {statement[:60]!r}")
                return each.blow
        return None

    def stop(self, process: Process, seconds: float) -> None:
        """STOP, and CONT some time later."""
        process.stopped_until = max(process.stopped_until, self.world.now + seconds)
        self._trouble(process.name, seconds, f"stopped for {seconds:.2f} s")
        if self.world.writer is not None and self.world.writer.process is process:
            self._trouble(EVERYBODY, seconds, "nobody can write meanwhile")

    def suspend(self, machine: Machine, seconds: float) -> None:
        """The machine sleeps."""
        machine.suspend(seconds)
        self._trouble(machine.name, seconds, f"suspended for {seconds:.2f} s")
        if self.world.writer is not None and self.world.writer.process.machine is machine:
            self._trouble(EVERYBODY, seconds, "nobody can write meanwhile")

    def cut(self, machine: Machine, seconds: float) -> None:
        """The machine does not reach the database."""
        machine.cut_until = max(machine.cut_until, self.world.now + seconds)
        self._trouble(machine.name, seconds, f"cut off for {seconds:.2f} s")

    def outage(self, seconds: float) -> None:
        """The database is away. That is no trouble of anybody's: nobody may lose a job by it."""
        self.world.away_until = max(self.world.away_until, self.world.now + seconds)
        self._trouble(THE_DATABASE, seconds, f"away for {seconds:.2f} s")

    def move_clock(self, seconds: float) -> None:
        """The database's clock is set."""
        self.world.clock_offset += seconds
        self._trouble(EVERYBODY, 0.0, f"the database's clock is set by {seconds:+.2f} s")

    def end(self) -> None:
        """From now on there are none."""
        self.armed.clear()
        self.world.away_until = min(self.world.away_until, self.world.now)
        for process in self.world.processes:
            process.stopped_until = min(process.stopped_until, self.world.now)
            machine = process.machine
            machine.asleep_until = min(machine.asleep_until, self.world.now)
            machine.cut_until = min(machine.cut_until, self.world.now)
        for resume in self.world.postponed:
            self.world.at(self.world.now, resume)
        self.world.postponed.clear()

    def _trouble(self, who: str, seconds: float, what: str) -> None:
        now = self.world.now
        self.world.history.append(Trouble(now, who, what, now + seconds))
