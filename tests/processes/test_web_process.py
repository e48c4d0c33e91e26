"""`sched web` and `sched up` as processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services import eventually

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(sqlite_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a command of `sched`; whatever still runs at the end is ended."""
    started: list[subprocess.Popen[bytes]] = []
    (tmp_path / "schedules").mkdir()

    def run(
        *arguments: str, url: str = sqlite_url, says: Path | None = None
    ) -> subprocess.Popen[bytes]:
        environment = os.environ | {"SCHED_DATABASE_URL": url}
        command = [sys.executable, "-m", "cronsched.cli", *arguments]
        with (says or Path(os.devnull)).open("w") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=log))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
    return number


def answers(port: int, path: str) -> str:
    """What the site says; nothing as long as nobody listens there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as found:
            text: str = found.read().decode()
            return text
    except OSError:
        return ""


def test_it_serves_until_term_and_ends_cleanly(start: Start, port: int) -> None:
    web = start("web", "--port", str(port))
    assert eventually(lambda: answers(port, "/readyz")) == '{"ready":true}'
    assert '"by_state"' in answers(port, "/api/v1/overview")
    stream = socket.create_connection(("127.0.0.1", port))
    stream.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert stream.recv(100).startswith(b"HTTP/1.1 200")
    web.send_signal(signal.SIGTERM)  # a stream that is open does not hold it up
    assert web.wait(60) == 0
    stream.close()


def test_it_starts_and_lives_without_its_database(start: Start, port: int) -> None:
    start("web", "--port", str(port), url="postgresql://nobody@127.0.0.1:1/none")
    assert eventually(lambda: answers(port, "/livez")) == '{"live":true}'


def test_up_brings_the_web_and_goes_on_without_it(start: Start, port: int, tmp_path: Path) -> None:
    up, second = (
        start("up", "--port", str(port), says=tmp_path / name) for name in ("first", "second")
    )
    eventually(lambda: answers(port, "/livez"))
    said = [tmp_path / "first", tmp_path / "second"]
    # The port is taken: one of them has no page, and runs.
    eventually(lambda: any("web page has ended" in each.read_text() for each in said))
    for sign in ("with 8 places", "daemon"):
        eventually(lambda: all(sign in each.read_text() for each in said))  # noqa: B023
    for process in (up, second):
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
