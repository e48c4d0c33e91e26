"""What the storm does to services and their database, one fault at a time; each is over when it returns."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy import make_url, text

from postgres_proxy import Proxy
from postgres_server import PostgresServer
from services import Service, Stage

LEASE = 2.0


@dataclass
class Scene:
    """Whom a fault may hit. On PostgreSQL all of them talk to it through the proxy."""

    stage: Stage
    chance: random.Random
    workers: list[Service]
    daemons: list[Service]
    server: PostgresServer | None = None
    proxy: Proxy | None = None

    def any_worker(self) -> Service:
        return self.chance.choice(self.workers)

    def any_service(self) -> Service:
        return self.chance.choice(self.workers + self.daemons)

    def any_executor(self) -> int | None:
        """A process below a worker, mostly an executor; None where it has none yet."""
        return self.chance.choice(self.any_worker().others() or [None])

    def some_time(self, longest: float) -> None:
        time.sleep(self.chance.uniform(0, longest))


Fault = Callable[[Scene], None]


def kill_service(scene: Scene) -> None:
    scene.any_service().send_all(signal.SIGKILL)


def kill_supervisor(scene: Scene) -> None:
    scene.any_worker().send(signal.SIGKILL)


def kill_executor(scene: Scene) -> None:
    _signal(scene.any_executor(), signal.SIGKILL)


def kill_supervisor_and_executor(scene: Scene) -> None:
    worker = scene.any_worker()
    executors = worker.others()
    worker.send(signal.SIGKILL)
    for pid in executors:
        _signal(pid, signal.SIGKILL)


def stop_in_order(scene: Scene) -> None:
    """And often twice: the second time at once."""
    service = scene.any_service()
    service.send(signal.SIGTERM)
    scene.some_time(1)
    if scene.chance.random() < 0.5:
        service.send(signal.SIGTERM)


def start_executors_anew(scene: Scene) -> None:
    scene.any_worker().send(signal.SIGHUP)


def freeze_service(scene: Scene) -> None:
    """For longer than the lease."""
    service = scene.any_service()
    service.send_all(signal.SIGSTOP)
    _outlast_the_lease(scene)
    service.send_all(signal.SIGCONT)


def freeze_supervisor(scene: Scene) -> None:
    worker = scene.any_worker()
    worker.send(signal.SIGSTOP)
    _outlast_the_lease(scene)
    worker.send(signal.SIGCONT)


def freeze_executor(scene: Scene) -> None:
    pid = scene.any_executor()
    _signal(pid, signal.SIGSTOP)
    _outlast_the_lease(scene)
    _signal(pid, signal.SIGCONT)


def restart_server(scene: Scene) -> None:
    """It crashes, and is away for up to three leases."""
    assert scene.server is not None
    scene.server.stop("immediate")
    scene.some_time(3 * LEASE)
    scene.server.start()


def terminate_sessions(scene: Scene) -> None:
    with _administrator(scene) as admin:
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM ({_SESSIONS} LIMIT 3) AS chosen")


def kill_session(scene: Scene) -> None:
    """The server ends all others with it, and recovers."""
    with _administrator(scene) as admin:
        found = admin.execute(f"{_SESSIONS} LIMIT 1").fetchone()
    _signal(found[0] if found else None, signal.SIGKILL)


def lose_commits(scene: Scene) -> None:
    assert scene.proxy is not None
    with scene.proxy.losing_commits(0.3):
        scene.some_time(3)


def cut_lines(scene: Scene) -> None:
    assert scene.proxy is not None
    scene.proxy.cut()


def stall_lines(scene: Scene) -> None:
    assert scene.proxy is not None
    with scene.proxy.stalled():
        _outlast_the_lease(scene)


def lock_rows(scene: Scene) -> None:
    """Somebody looks at jobs with FOR UPDATE, and thinks."""
    with _administrator(scene) as admin, admin.transaction():
        admin.execute(
            "SELECT id FROM sched_jobs WHERE state IN ('queued', 'running') LIMIT 5 FOR UPDATE"
        )
        scene.some_time(LEASE)


def hold_write_lock(scene: Scene) -> None:
    """Somebody else writes to the file, and takes his time."""
    with scene.stage.database.begin() as connection:
        connection.execute(text("SELECT 1"))
        _outlast_the_lease(scene)


def fill_disk(scene: Scene) -> None:
    """No file grows any more: what is written beyond fails."""
    log = Path(f"{make_url(scene.stage.url).database}-wal")
    limit = log.stat().st_size if log.exists() else 0
    with _file_limit(scene, limit):
        scene.some_time(3)


EVERYWHERE: tuple[Fault, ...] = (
    kill_service,
    kill_supervisor,
    kill_executor,
    kill_supervisor_and_executor,
    stop_in_order,
    start_executors_anew,
    freeze_service,
    freeze_supervisor,
    freeze_executor,
)
OF_POSTGRESQL: tuple[Fault, ...] = (
    restart_server,
    terminate_sessions,
    kill_session,
    lose_commits,
    cut_lines,
    stall_lines,
    lock_rows,
)
OF_SQLITE: tuple[Fault, ...] = (hold_write_lock, fill_disk)

_SESSIONS = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'sched' AND pid <> pg_backend_pid()"
    " ORDER BY random()"
)


def _outlast_the_lease(scene: Scene) -> None:
    time.sleep(LEASE + scene.chance.uniform(0.2, 2))


def _administrator(scene: Scene) -> psycopg.Connection[tuple[int, ...]]:
    """A connection past the proxy that no fault takes for one of theirs."""
    assert scene.server is not None
    return psycopg.connect(scene.server.url().replace("+psycopg", ""), autocommit=True)


@contextmanager
def _file_limit(scene: Scene, size: int) -> Iterator[None]:
    _limit(scene, size)
    try:
        yield
    finally:
        # Those that were started meanwhile have it from their parents, and so has who is started just now.
        while _limit(scene, resource.RLIM_INFINITY):
            pass


def _limit(scene: Scene, size: int) -> int:
    """Let no file of the services grow beyond this; returns how many processes had another limit."""
    changed = 0
    for pid in [
        pid for each in scene.workers + scene.daemons for pid in (each.pid, *each.others())
    ]:
        with suppress(ProcessLookupError):
            before, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
            changed += before != size
    return changed


def _signal(pid: int | None, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, number)
