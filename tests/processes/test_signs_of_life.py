"""Services under a service manager: when they are ready, that they turn, that they stop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cronqueue import overview
from services import PATIENCE, Service, Stage, eventually

Start = Callable[..., Service]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        yield manager


def hear(manager: socket.socket, sign: str) -> None:
    """Listen until it is said."""
    while sign not in manager.recv(4096).decode().splitlines():
        pass


def test_a_worker_is_ready_when_it_can_take_jobs(
    sqlite_stage: Stage, manager: socket.socket
) -> None:
    worker = sqlite_stage.worker(NOTIFY_SOCKET=manager.getsockname())
    hear(manager, "READY=1")
    hear(manager, "WATCHDOG=1")
    hear(manager, "WATCHDOG=1")
    assert sqlite_stage.wait_for(sqlite_stage.enqueue("quick")).attempts == 1
    worker.send(signal.SIGTERM)
    hear(manager, "STOPPING=1")
    assert worker.wait() == 0


def test_a_daemon_is_ready_when_it_has_turned_once(
    sqlite_stage: Stage, manager: socket.socket
) -> None:
    daemon = sqlite_stage.daemon(NOTIFY_SOCKET=manager.getsockname())
    hear(manager, "READY=1")
    present = overview.list_workers(sqlite_stage.database)
    assert [each.name for each in present] == [daemon.name]
    hear(manager, "WATCHDOG=1")
    daemon.send(signal.SIGTERM)
    hear(manager, "STOPPING=1")
    assert daemon.wait() == 0


@pytest.mark.parametrize("kind", ["worker", "daemon"])
def test_a_probe_tells_a_service_that_turns_from_one_that_does_not(
    sqlite_stage: Stage, kind: str
) -> None:
    file = sqlite_stage.folder / "alive"
    start: Start = getattr(sqlite_stage, kind)
    assert sqlite_stage.run("probe", SCHED_ALIVE_FILE=str(file)).returncode == 4
    service = start(SCHED_ALIVE_FILE=str(file))
    eventually(file.exists, "a sign of life")
    # It asks no database.
    probe = sqlite_stage.run(
        "probe", SCHED_ALIVE_FILE=str(file), SCHED_DATABASE_URL="postgresql://127.0.0.1:1/no"
    )
    assert (probe.returncode, probe.stderr) == (0, "")
    eventually(
        lambda: sqlite_stage.run("probe", "ready", SCHED_ALIVE_FILE=str(file)).returncode == 0,
        "it is at work",
    )
    service.send(signal.SIGSTOP)
    file.touch()
    stopped = file.stat().st_mtime
    eventually(
        lambda: (
            sqlite_stage.run("probe", "--max-age", "1s", SCHED_ALIVE_FILE=str(file)).returncode == 4
        ),
        "the probe fails",
    )
    assert file.stat().st_mtime == stopped
    service.send(signal.SIGCONT)
