"""The stage: a scenario played, from the empty database to the calm after it."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cronqueue import configuration
from cronqueue.enqueueing import enqueue
from cronqueue.errors import CronqueueError
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.ledger_audit import audit
from cronsched.manifest import Manifest, SourceFile, make_manifest
from cronsched.triggers import Every
from simulation import tasks
from simulation.faults import Armed, Faults
from simulation.history import Accepted, Calm, History
from simulation.invariants import check, is_stuck
from simulation.line import make_template
from simulation.operators import ACTS
from simulation.replay import Rules, Violation, unfinished_rows
from simulation.scenario import LEASE, LENGTH, WORK, Declared, Scenario, Step
from simulation.services import Site, start_daemon, start_worker
from simulation.wires import substitutes
from simulation.world import START, Machine, Process, World

# Seconds after the last fault within which everything that is due must have ended.
CALM = 100.0
# Between two looks at how it goes.
PIECE = 5.0
SETTINGS = Settings(
    lease=timedelta(seconds=LEASE),
    concurrency=2,
    read_ahead=4,
    sleep_delay=timedelta(seconds=2),
    backoff=(timedelta(seconds=2),),
    shutdown_timeout=timedelta(seconds=3),
    horizon=timedelta(seconds=60),
    takeover_after=timedelta(seconds=40),
    keep_finished=timedelta(seconds=30),
)


@dataclass
class Played:
    """What a scenario came to. `findings`: what its end shows, beside its history."""

    scenario: Scenario
    history: History
    findings: list[Violation]
    statements: int = 0
    seconds: float = 0.0

    def violations(self) -> list[tuple[str, Violation]]:
        """Everything that must not be, with the name of what it contradicts."""
        rules = Rules(LEASE, SETTINGS.concurrency, self.scenario.kind == "clocks")
        return check(self.history, rules) + [
            ("the_end_is_in_order", each) for each in self.findings
        ]


@dataclass
class Unit:
    """A service, started again whenever it has ended, as a service manager does."""

    name: str
    machine: Machine
    start: Callable[[], tuple[Process, Callable[[], None]]]
    process: Process | None = None
    terminate: Callable[[], None] = lambda: None


@dataclass
class Stage:
    """Everybody of a scenario. Its steps are the methods without an underscore."""

    world: World
    site: Site
    faults: Faults
    units: dict[str, Unit] = field(default_factory=dict)
    files: dict[str, tuple[Declared, ...]] = field(default_factory=dict)
    findings: list[Violation] = field(default_factory=list)

    # Services.

    def start_worker(self, name: str) -> None:
        machine = Machine(self.world, name)
        self._add(Unit(name, machine, lambda: start_worker(self.site, machine, name)))

    def start_daemon(self, name: str, files: tuple[Declared, ...]) -> None:
        machine = Machine(self.world, name)
        self.files[name] = files

        def declared() -> Manifest:
            return _manifest(self.files[name])

        self._add(Unit(name, machine, lambda: start_daemon(self.site, machine, name, declared)))

    def edit_files(self, name: str, files: tuple[Declared, ...]) -> None:
        self.files[name] = files

    def forget_task(self, name: str, task: str) -> None:
        """This worker starts anew, with a release that does not have the task."""
        self.site.unknown[name] = frozenset({task})
        self.terminate(name)

    def terminate(self, name: str) -> None:
        """TERM."""
        if name in self.units:
            self.units[name].terminate()

    # Visitors.

    def enqueue(
        self, task: str, times: int, seconds: float, outcomes: list[str], options: dict[str, Any]
    ) -> None:
        """A client comes, enqueues and goes."""

        def run(process: Process) -> None:
            for _ in range(times):
                made = enqueue(task, [seconds, outcomes], **options)
                self.world.history.append(Accepted(self.world.now, process.name, made.id))

        self._visit("client", run)

    def operate(self, act: str, number: int) -> None:
        """An operator does one thing to one of the jobs or schedules."""
        self._visit("operator", lambda process: ACTS[act](process, self.world.history, number))

    # Faults.

    def kill(self, name: str, part: str) -> None:
        for process in self._processes(name, part):
            process.kill("killed")

    def stop(self, name: str, part: str, seconds: float) -> None:
        for process in self._processes(name, part):
            self.faults.stop(process, seconds)

    def kill_at(self, who: str, matching: str, skip: int) -> None:
        self.faults.armed.append(Armed(who, "kill", matching, skip))

    def cut_at(self, who: str, matching: str, skip: int) -> None:
        self.faults.armed.append(Armed(who, "cut", matching, skip))

    def stop_at(self, who: str, matching: str, skip: int, seconds: float) -> None:
        self.faults.armed.append(Armed(who, "stop", matching, skip, seconds))

    def suspend_at(self, who: str, matching: str, skip: int, seconds: float) -> None:
        self.faults.armed.append(Armed(who, "suspend", matching, skip, seconds))

    def cut(self, name: str, seconds: float) -> None:
        if name in self.units:
            self.faults.cut(self.units[name].machine, seconds)

    def suspend(self, name: str, seconds: float) -> None:
        if name in self.units:
            self.faults.suspend(self.units[name].machine, seconds)

    def outage(self, seconds: float) -> None:
        self.faults.outage(seconds)

    def move_clock(self, seconds: float) -> None:
        self.faults.move_clock(seconds)

    # How it is done.

    def _add(self, unit: Unit) -> None:
        self.units[unit.name] = unit
        self._start(unit)

    def _start(self, unit: Unit) -> None:
        if unit.process is not None and unit.process.is_alive:
            return
        unit.process, unit.terminate = unit.start()
        self.world.note("started", unit.process.name)
        pause = unit.machine.random.choice((0.5, 3.0, 25.0))
        unit.process.on_end.append(
            lambda: self.world.at(self.world.now + pause, lambda: self._start(unit))
        )

    def _processes(self, name: str, part: str) -> list[Process]:
        """Of a unit: the service itself, its executors ("/x"), or "all"."""
        living = [each for each in self.world.processes if each.is_alive]
        ours = [each for each in living if each.machine.name == name]
        if part == "all":
            return ours
        return [each for each in ours if ("/x" in each.name) == (part == "/x")]

    def _visit(self, name: str, run: Callable[[Process], None]) -> None:
        """Somebody comes, does one thing and goes; what is refused is no fault."""
        process = self.site.process(Machine(self.world, name), name)

        def visit() -> None:
            with suppress(CronqueueError, LookupError):
                run(process)
            process.kill("goes")

        process.spawn(visit)

    def _calm_down(self) -> None:
        """No more faults; every service runs, every release is the newest, nothing is paused."""
        self.faults.end()
        self.world.history.append(Calm(self.world.now, "world", "calm from now on"))
        for unit in self.units.values():
            if self.site.unknown.pop(unit.name, None):
                unit.terminate()
            self._start(unit)
        self._visit("operator", lambda process: ACTS["resume_all"](process, self.world.history, 0))

    def _find_stuck(self) -> None:
        for row in unfinished_rows(self.world.history):
            if is_stuck(row, self.world.clock()):
                what = f"job {row.id} is stuck: {row.state} {row.held_reason or ''}"
                self.findings.append(Violation(self.world.now, what, row.id))

    def _audit(self, process: Process) -> None:
        """What the project itself finds out about its ledger."""
        hours = timedelta(hours=1)
        found = audit(process.database, START - hours, START + hours).findings
        self.findings += [Violation(self.world.now, f"audit: {each}") for each in found]


def play(scenario: Scenario, *, stops_early: bool = False) -> Played:
    """Let it happen; to the end, or with `stops_early` until something is wrong."""
    world = World(f"{scenario.kind}/{scenario.seed}")
    with ExitStack() as stack:
        path = _database_in(stack.enter_context(tempfile.TemporaryDirectory(dir=_memory())))
        shutil.copy(_database_in(template_folder().name), path)
        stack.enter_context(substitutes(world))
        stack.enter_context(tasks.registered())
        stack.enter_context(_silence())
        stack.callback(configuration.use_database, None)
        configuration.use_settings(SETTINGS)
        world.faults = Faults(world)
        stage = Stage(world, Site(world, str(path), SETTINGS, {}), world.faults)
        played = Played(scenario, world.history, stage.findings)
        for _ in _acts(stage, scenario):
            if stops_early and played.violations():
                break
        played.statements, played.seconds = world.statements, world.now
        world.end()
    return played


def _acts(stage: Stage, scenario: Scenario) -> Iterator[None]:
    """The time of troubles, then the calm, then the audit; in pieces."""
    world = stage.world
    for step in scenario.steps:
        world.at(step.at, _bound(stage, step))
    while world.now < LENGTH:
        world.run(world.now + PIECE)
        yield
    stage._calm_down()
    least = CALM / 2 if stage.files else 0.0
    while world.now < LENGTH + CALM and (world.now < LENGTH + least or _has_work(world)):
        world.run(world.now + PIECE)
        yield
    if world.now >= LENGTH + CALM:
        stage._find_stuck()
    stage._visit("auditor", stage._audit)
    world.run(world.now + PIECE)
    yield
    for who, error in world.failures:
        stage.findings.append(Violation(world.now, f"{who} crashed: {error!r}"))


def _has_work(world: World) -> bool:
    """Whether something that is due has not ended."""
    return any(is_stuck(row, world.clock(), 0.0) for row in unfinished_rows(world.history))


def _bound(stage: Stage, step: Step) -> Callable[[], None]:
    return lambda: getattr(stage, step.act)(*step.values)


def _manifest(files: tuple[Declared, ...]) -> Manifest:
    """What `sched` would read in the files."""
    definitions = [
        Definition(
            name=each.name,
            task=WORK,
            trigger=Every(each.every),
            args_json=json.dumps({"args": [each.seconds, each.outcomes], "kwargs": {}}),
            source=f"{each.name[0]}.py",
            priority=each.priority,
            overlap=each.overlap,  # type: ignore[arg-type]
            catch_up=each.catch_up,  # type: ignore[arg-type]
            start_within=None
            if each.start_within is None
            else timedelta(seconds=each.start_within),
        )
        for each in files
    ]
    return make_manifest(
        definitions, (), [SourceFile(f"{name}.py", f"{name}.py", "") for name in "sf"]
    )


@cache
def template_folder() -> tempfile.TemporaryDirectory[str]:
    """The empty database's; made once, and gone at the end of the process that made it."""
    folder = tempfile.TemporaryDirectory(prefix="simulation-")
    make_template(str(_database_in(folder.name)))
    return folder


def _database_in(folder: str) -> Path:
    return Path(folder) / "sched.db"


def _memory() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _silence() -> ExitStack:
    """What services log is no news here."""
    stack = ExitStack()
    for name in ("cronqueue", "cronsched"):
        logger = logging.getLogger(name)
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    return stack
