"""A storm: services are killed, frozen and cut off again and again while jobs run; then all adds up.

Two daemons, three workers and two programs that enqueue. Every second or so something is done to them or
to their database, and jobs among the others do to their workers what they can. What ended is started
again, as a service manager would. When it is calm, every job has ended, and its history holds.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from job_rows import query
from postgres_server import PostgresServer
from services import CLOCKS, Service, Stage, behind_proxy, eventually, stage_in
from torture import history
from torture.client import HARMLESS, POISONS
from torture.faults import EVERYWHERE, LEASE, OF_POSTGRESQL, OF_SQLITE, Fault, Scene

HERE = Path(__file__).parent
# Seconds until everything has ended once it is calm: suspects run alone, one after the other.
CALM = 300.0
# A log may hold a gigabyte that a job has printed: beyond this it is emptied.
LONGEST_LOG = 2**25
WORKER = ("--lease", f"{LEASE:g}s", "--concurrency", "4", "--shutdown-timeout", "3s")
QUICK = {"SCHED_BACKOFF": "0.2s,1s", "SCHED_KEEP_FINISHED": "1d"}
SLOW_CLOCK, FAST_CLOCK = (
    {"PYTHONPATH": str(CLOCKS), "WRONG_CLOCK": str(hours * 3600)} for hours in (-2, 2)
)
# The codes of an end in order, of one at a second signal, and of a start without a database. A signal
# that comes before a program has got that far, or after it is through, ends it as it ends any.
EXITS = {0, 6, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP}


def test_nothing_is_lost_or_doubled_in_a_storm_on_sqlite(
    sqlite_url: str, tmp_path: Path, pytestconfig: pytest.Config, tell: Callable[[str], None]
) -> None:
    with stage_in(tmp_path, sqlite_url) as stage:
        storm = Storm(Scene(stage, _chance(pytestconfig), [], []), EVERYWHERE + OF_SQLITE)
        seconds = _seconds(pytestconfig)
        storm.run(seconds)
        tell(storm.report(seconds))
        storm.must_hold()


def test_nothing_is_lost_or_doubled_in_a_storm_on_postgresql(
    own_postgres_server: PostgresServer,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    tell: Callable[[str], None],
) -> None:
    with behind_proxy(own_postgres_server, tmp_path) as (stage, proxy):
        scene = Scene(stage, _chance(pytestconfig), [], [], own_postgres_server, proxy)
        storm = Storm(scene, EVERYWHERE + OF_POSTGRESQL)
        seconds = _seconds(pytestconfig)
        storm.run(seconds)
        tell(storm.report(seconds))
        storm.must_hold()


@dataclass
class Storm:
    """The services, what happens to them, and what is to be said of it at the end."""

    scene: Scene
    faults: tuple[Fault, ...]
    happened: Counter[str] = field(default_factory=Counter)
    odd_ends: list[str] = field(default_factory=list)
    clients: list[subprocess.Popen[bytes]] = field(default_factory=list)
    starts: list[tuple[list[Service], int, Callable[[], Service]]] = field(default_factory=list)

    @property
    def stage(self) -> Stage:
        return self.scene.stage

    def run(self, seconds: float) -> None:
        """Let it rage for so long, and come to an end."""
        shutil.copy(HERE / "victims.py", self.stage.schedules)
        history.record(self.stage.database)
        history.make_effects(self.stage.database)
        self._start()
        try:
            self._rage(seconds)
            self._stop_clients()
            self._calm_down()
        finally:
            for client in self.clients:
                client.kill()
                client.wait()

    def must_hold(self) -> None:
        """Fail with everything that should not have happened."""
        if found := list(self.violations()):
            pytest.fail("\n".join([f"{len(found)} violations", *found[:50]]), pytrace=False)

    def violations(self) -> Iterator[str]:
        """Everything that should not have happened."""
        database = self.stage.database
        changes, rows = history.changes(database), history.rows(database)
        lines = history.journal(self.stage.folder / "journal")
        yield from self.odd_ends
        yield from history.wrong_changes(changes)
        yield from history.wrong_runs(rows, lines)
        yield from history.wrong_effects(database, rows, "victims.effect")
        yield from history.overlaps(changes, rows, "victims.alone")
        yield from history.gaps(rows, "victims.tick", timedelta(seconds=1))
        yield from _wrong_ends(rows)
        yield from _lost(rows, self._accepted())
        audit = self.stage.run("audit")
        if audit.returncode != 0:
            yield f"audit: {audit.stdout}{audit.stderr}"

    # While it rages.

    def _start(self) -> None:
        stage, scene = self.stage, self.scene
        # SQLite goes by the clock of its one machine: there are no two that could differ.
        slow, fast = (SLOW_CLOCK, FAST_CLOCK) if scene.server else ({}, {})
        self._keep(scene.workers, lambda: stage.worker(*WORKER, **QUICK))
        self._keep(scene.workers, lambda: stage.worker(*WORKER, "--processes", "2", **QUICK))
        self._keep(scene.workers, lambda: stage.worker(*WORKER, **QUICK, **slow))
        self._keep(scene.daemons, stage.daemon)
        self._keep(scene.daemons, lambda: stage.daemon(**fast))
        for _ in range(2):
            seed = str(scene.chance.randrange(10**6))
            with (stage.folder / f"client-{seed}.log").open("wb") as log:
                command = [sys.executable, str(HERE / "client.py"), str(stage.folder), seed]
                client = subprocess.Popen(command, env=stage.environ({}), stdout=log, stderr=log)
            self.clients.append(client)

    def _keep(self, services: list[Service], start: Callable[[], Service]) -> None:
        services.append(start())
        self.starts.append((services, len(services) - 1, start))

    def _rage(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            # Each once, then each again in another order: none is left out for long.
            for fault in self.scene.chance.sample(self.faults, len(self.faults)):
                if time.monotonic() > until:
                    return
                fault(self.scene)
                self.happened[fault.__name__] += 1
                self.scene.some_time(1.5)
                self._look_after_services()

    def _look_after_services(self) -> None:
        """Start again what has ended, as a service manager would; empty what was printed."""
        for services, index, start in self.starts:
            service = services[index]
            code = service.process.poll()
            if service.log.stat().st_size > LONGEST_LOG:
                service.log.write_bytes(b"")
            if code is None:
                continue
            if code not in EXITS:
                self.odd_ends.append(f"{service.name} ended with {code}: {service.lines()[-20:]}")
            services[index] = start()

    # When it is over.

    def _stop_clients(self) -> None:
        for client in self.clients:
            if client.poll() is not None:
                self.odd_ends.append(f"a client ended with {client.returncode}")
            client.terminate()
            client.wait()

    def _calm_down(self) -> None:
        """Wait until what has come is over; then end everything."""
        database = self.stage.database
        # Its sessions may have been ended, too.
        database.dispose()
        now = database.moment(database.server_now())

        def is_calm() -> bool:
            self._look_after_services()
            return query(database, _UNENDED, now=now) == [(0,)]

        try:
            eventually(is_calm, "the end of every job", within=CALM)
        except AssertionError:
            pytest.fail("\n".join(self._what_goes_on(now)), pytrace=False)
        for service in self.scene.daemons + self.scene.workers:
            if (code := service.stop()) not in EXITS:
                self.odd_ends.append(f"{service.name} was stopped and ended with {code}")

    def _what_goes_on(self, now: object) -> Iterator[str]:
        """The jobs that do not end, and what services said last."""
        unended = query(self.stage.database, _UNENDED.replace("COUNT(*)", "*"), now=now)
        yield f"{len(unended)} jobs did not end within {CALM:g} s:"
        yield from map(str, unended[:20])
        for service in self.scene.daemons + self.scene.workers:
            code = service.process.poll()
            yield f"{service.name}, {'which runs' if code is None else f'ended with {code}'}, said last:"
            yield from service.lines()[-20:]

    def _accepted(self) -> set[int]:
        lines = [
            line
            for path in self.stage.folder.glob("accepted-*")
            for line in path.read_text().splitlines()
        ]
        return {int(line.split()[0]) for line in lines}

    def report(self, seconds: float) -> str:
        """What happened, in one line."""
        ran = Counter(line.word for line in history.journal(self.stage.folder / "journal"))
        done = history.rows(self.stage.database)
        ended = Counter(row.state for row in done if row.state in history.ENDED)
        again = sum(max(row.claims - 1, 0) for row in done)
        return (
            f"{self.stage.database.dialect}, {seconds:.0f} s:"
            f" {self.happened.total()} faults ({_counted(self.happened)});"
            f" {len(self._accepted())} jobs accepted, {_counted(ended)} in all,"
            f" {ran['began']} runs, {again} claims more than jobs,"
            f" {0 if self.scene.proxy is None else self.scene.proxy.lost} replies to COMMIT lost"
        )


_UNENDED = """
SELECT COUNT(*) FROM sched_jobs
WHERE state IN ('queued', 'held', 'running') AND (schedule IS NULL OR planned_for <= :now)
"""


def _wrong_ends(rows: Sequence[history.Row]) -> Iterator[str]:
    """Ordinary jobs that did not succeed, and poisons that did."""
    fatal = {f"victims.{name}" for name, _ in POISONS if name not in HARMLESS}
    for row in rows:
        if row.schedule is not None:
            # An occurrence may be late, or in the way of another.
            continue
        expected = "failed" if row.task in fatal else "succeeded"
        if row.state != expected:
            yield f"job {row.id} ({row.task}): {row.state} after {row.attempts} attempts"


def _lost(rows: Sequence[history.Row], accepted: set[int]) -> Iterator[str]:
    for job_id in sorted(accepted.difference(row.id for row in rows)):
        yield f"job {job_id} was accepted, and is nowhere"


def _chance(config: pytest.Config) -> random.Random:
    return random.Random(config.getoption("--seed"))


def _seconds(config: pytest.Config) -> float:
    """A storm's share of the time."""
    minutes: float = config.getoption("--minutes")
    return minutes * 60 / 2


def _counted(numbers: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(numbers.items()))
