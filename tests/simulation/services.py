"""The real supervisor, executors, housekeeping and daemon, each as a process of the simulated world."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cronqueue.board import Board
from cronqueue.children import Child
from cronqueue.clock import boottime
from cronqueue.errors import DatabaseUnreachable
from cronqueue.executor import Executor
from cronqueue.executorspec import ExecutorSpec
from cronqueue.housekeeping import Housekeeper, Housekeeping
from cronqueue.registry import all_tasks
from cronqueue.settings import Settings
from cronqueue.supervisor import Supervisor
from cronsched.daemon import Daemon, DaemonOptions
from cronsched.manifest import Manifest
from simulation.line import SimulatedDatabase
from simulation.wires import Bell, PipeEnd, VirtualEvent, pipe
from simulation.world import Machine, Process, World, me, sleep

SIGTERM = 15
# Seconds that a turn takes at least: time must not stand still.
A_MOMENT = 0.001


@dataclass
class Site:
    """Where everything runs: the database's file, the settings, which tasks which release knows."""

    world: World
    path: str
    settings: Settings
    #: Tasks that the executors of a machine do not know, by its name.
    unknown: dict[str, frozenset[str]]

    def process(self, machine: Machine, name: str, boss: Process | None = None) -> Process:
        """A new process with a database of its own."""
        number = sum(each.name.startswith(f"{name}.") for each in self.world.processes) + 1
        process = Process(self.world, machine, f"{name}.{number}", boss)
        SimulatedDatabase(process, self.path)
        return process


class SimulatedProcess:
    """An executor's process, as `multiprocessing` shows it to the supervisor."""

    def __init__(self, process: Process) -> None:
        self.inner = process
        self.sentinel = None

    @property
    def pid(self) -> int:
        return id(self.inner)

    @property
    def exitcode(self) -> int:
        return -9

    def is_alive(self) -> bool:
        return self.inner.is_alive

    def kill(self) -> None:
        self.inner.kill("killed by its supervisor")

    def join(self) -> None: ...

    def close(self) -> None: ...


class SimulatedChild(Child):
    """What the supervisor knows of an executor; /proc tells it whether that is stopped."""

    def is_frozen(self) -> bool:
        process: Any = self.process
        return bool(process.inner.is_stopped)

    def close(self) -> None:
        """Both sides have one mapping of the board here: the executor's must not be closed with it."""


class SimulatedExecutor(Executor):
    """The real executor; the tasks are there already."""

    def _load(self) -> None:
        unknown = me().process.unknown_tasks
        tasks = tuple(each for each in sorted(all_tasks()) if each not in unknown)
        self._correspondence.tasks = tasks
        self._correspondence.many_ended = (
            2  # as beside a server, and for as few jobs as there are here
        )
        self._send("ready", tasks, ())


class SimulatedSupervisor(Supervisor):
    """The real supervisor; it waits for a bell instead of file descriptors."""

    def __init__(self, site: Site, process: Process, template: ExecutorSpec) -> None:
        super().__init__(template, process.database)
        self.site = site
        self.process = process
        self.bell = Bell()
        self._housekeeper: Any = SimulatedHousekeeper(process, site.settings)

    def terminate(self) -> None:
        """Send TERM."""
        self._signals.append(SIGTERM)
        self.bell.ring()

    def _catch_signals(self) -> None: ...

    def _listen(self, now: float) -> None:
        """No hints: polling is the truth."""

    def _wait(self) -> None:
        pipes: list[Any] = [child.pipe for child in self._children]
        if not any(pipe.poll() for pipe in pipes) and not self._signals:
            self.bell.wait(max(self._longest_wait(), A_MOMENT))

    def _start_child(self, spec: ExecutorSpec) -> None:
        self._children.append(start_executor(self, spec))


class SimulatedHousekeeper(Housekeeper):
    """The real housekeeper, as an actor."""

    def __init__(self, process: Process, settings: Settings) -> None:
        super().__init__(Housekeeping(process.database, settings))
        self._process = process
        stop_asked: Any = VirtualEvent()
        self._stop_asked = stop_asked

    def start(self) -> None:
        self._process.spawn(self.run, f"{self._process.name}/housekeeping")

    def join(self, timeout: float | None = None) -> None: ...


def start_worker(site: Site, machine: Machine, name: str) -> tuple[Process, Callable[[], None]]:
    """Start `sched worker` on a machine; returns its process, and what sends it TERM."""
    process = site.process(machine, name)
    running: list[SimulatedSupervisor] = []

    def run() -> None:
        settings = site.settings
        template = ExecutorSpec(
            worker_id="",
            name=process.name,
            database_url="",
            settings=settings,
            schedules=None,
            imports=(),
            burst=False,
            max_jobs=None,
            board_path="",
            board_entries=settings.concurrency + 2 * settings.read_ahead,
            log_level=logging.CRITICAL,
            log_jobs=logging.CRITICAL,
        )
        made = SimulatedSupervisor(site, process, template)
        process.on_end.append(made.close)
        site.world.to_close.append(made.close)
        running.append(made)
        try:
            made.run()
        except DatabaseUnreachable:
            process.kill("exits: the database is away")
        process.kill("has left")

    process.spawn(run)
    return process, lambda: running[0].terminate() if running else None


def start_executor(boss: SimulatedSupervisor, template: ExecutorSpec) -> Child:
    """What `starting.Starter` does, with a process of this world."""
    board = Board.create(template.board_entries)
    board.forget_file()
    board.renewed_at = boottime()
    board.beat_at = boss.process.machine.monotonic()
    machine = boss.process.machine
    process = boss.site.process(machine, f"{boss.process.name}/x", boss.process)
    process.unknown_tasks = boss.site.unknown.get(machine.name, frozenset())
    spec = replace(template, worker_id=process.name)
    ours, theirs = pipe()
    ours.bell = boss.bell

    def run() -> None:
        made = SimulatedExecutor(spec, _as_connection(theirs), board, process.database)
        made.run()
        process.kill("has left")

    process.on_end.append(theirs.hang_up)
    boss.process.on_end.append(ours.hang_up)
    process.spawn(run)
    process_as_seen: Any = SimulatedProcess(process)
    return SimulatedChild(spec, process_as_seen, _as_connection(ours), board, boottime())


def _as_connection(end: PipeEnd) -> Any:
    return end


class SimulatedDaemon(Daemon):
    """The real daemon; `files` says what its folder declares at the time."""

    def __init__(self, process: Process, site: Site, files: Callable[[], Manifest]) -> None:
        options = DaemonOptions(site.settings, Path(f"/{process.machine.name}"), process.name)
        super().__init__(process.database, options)
        self._files = files

    def load(self) -> Manifest:
        """As slow as a fresh process is."""
        files = self._files()
        sleep(me().process.random.uniform(0.05, 0.5))
        return files


def start_daemon(
    site: Site, machine: Machine, name: str, files: Callable[[], Manifest]
) -> tuple[Process, Callable[[], None]]:
    """Start `sched daemon` on a machine, with what its folder declares; and what sends it TERM."""
    process = site.process(machine, name)
    process.files = files
    running: list[SimulatedDaemon] = []

    def run() -> None:
        made = SimulatedDaemon(process, site, files)
        running.append(made)
        while not made._is_stopping:
            sleep(max(made._turn_safely(), A_MOMENT))
        made._leave()
        process.kill("has left")

    process.spawn(run)
    return process, lambda: running[0].stop() if running else None
