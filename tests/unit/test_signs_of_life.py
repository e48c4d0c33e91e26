"""What a service says of itself, heard at a real socket."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronqueue.signsoflife import PERIOD, SignsOfLife


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        yield manager


def heard(manager: socket.socket) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


def test_it_says_once_that_it_is_ready_and_at_the_end_that_it_stops(
    manager: socket.socket,
) -> None:
    signs = SignsOfLife(None, {"NOTIFY_SOCKET": manager.getsockname()})
    signs.ready("8 places")
    signs.ready("8 places")
    signs.stopping()
    assert heard(manager) == ["READY=1\nSTATUS=8 places", "STOPPING=1\nSTATUS=stopping"]


def test_it_is_alive_every_period_and_no_oftener(manager: socket.socket, tmp_path: Path) -> None:
    file = tmp_path / "alive"
    signs = SignsOfLife(str(file), {"NOTIFY_SOCKET": manager.getsockname()})
    for now in (0.0, 1.0, PERIOD - 0.1):
        signs.alive(now, at_work=True)
    assert heard(manager) == ["WATCHDOG=1"]
    file.unlink()
    signs.alive(PERIOD, at_work=True)
    assert heard(manager) == ["WATCHDOG=1"]
    assert file.exists()


def test_the_file_says_at_once_whether_the_service_is_at_work(
    manager: socket.socket, tmp_path: Path
) -> None:
    file = tmp_path / "alive"
    signs = SignsOfLife(str(file), {"NOTIFY_SOCKET": manager.getsockname()})
    words = []
    for at_work in (False, True, True, False):
        signs.alive(0.0, at_work=at_work)
        words.append(file.read_text())
    assert words == ["alive\n", "ready\n", "ready\n", "alive\n"]
    assert list(tmp_path.glob("alive*")) == [file]
    assert heard(manager) == ["WATCHDOG=1"], "and the manager is told no oftener"


def test_a_socket_may_be_in_no_folder(tmp_path: Path) -> None:
    name = f"{tmp_path.parent.name}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        SignsOfLife(None, {"NOTIFY_SOCKET": "@" + name}).ready("here")
        assert manager.recv(4096) == b"READY=1\nSTATUS=here"


def test_what_a_job_starts_does_not_speak_in_the_name_of_the_service() -> None:
    environ = {"NOTIFY_SOCKET": "/run/notify"}
    SignsOfLife(None, environ)
    assert environ == {}


@pytest.mark.parametrize("address", ["", "/nobody/there", "no/path"])
def test_who_cannot_be_told_is_not_told(address: str, tmp_path: Path) -> None:
    signs = SignsOfLife(str(tmp_path / "gone" / "alive"), {"NOTIFY_SOCKET": address})
    signs.ready("here")
    signs.alive(0, at_work=True)
    signs.alive(PERIOD, at_work=True)
    signs.stopping()


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    signs = SignsOfLife(None, {"NOTIFY_SOCKET": manager.getsockname()})
    for turn in range(5_000):
        signs.alive(turn * PERIOD, at_work=True)
    assert 0 < len(heard(manager)) < 5_000


def test_a_file_that_cannot_be_written_for_a_while_is_written_again_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "away" / "alive"
    signs = SignsOfLife(str(file), {})
    for turn in range(3):
        signs.alive(turn * PERIOD, at_work=True)
    file.parent.mkdir()
    signs.alive(3 * PERIOD, at_work=True)
    assert file.read_text() == "ready\n"
    assert len(caplog.records) == 1


def test_on_a_full_disk_the_file_goes_on_to_say_how_it_is(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    signs = SignsOfLife(str(file), {})
    signs.alive(0, at_work=False)
    os.utime(file, (0, 0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    try:
        signs.alive(PERIOD, at_work=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_text() == "ready\n"
    assert file.stat().st_mtime > 0
