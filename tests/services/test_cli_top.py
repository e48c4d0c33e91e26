"""`sched top`: printed once in a pipe, a live screen on a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from command import Project
from cronqueue.database import Database
from job_rows import add, now

SECOND = timedelta(seconds=1)


class Terminal:
    """A terminal with a command in it."""

    def __init__(self, process: subprocess.Popen[bytes], reader: int) -> None:
        self.process = process
        self._reader = reader
        self.seen = ""

    def until(self, sign: str) -> str:
        """All that it has shown, as soon as this is part of it."""
        while sign not in self.seen:
            self.seen += os.read(self._reader, 10_000).decode()
        return self.seen

    def type(self, keys: str) -> None:
        os.write(self._reader, keys.encode())


@contextmanager
def terminal(
    project: Project, *options: str, command: tuple[str, ...] = ("top",)
) -> Iterator[Terminal]:
    reader, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cronsched.cli", *command, *options],
        env=os.environ | {"SCHED_DATABASE_URL": project.url, "COLUMNS": "60", "LINES": "12"},
        cwd=project.folder,
        stdin=end,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    try:
        yield Terminal(process, reader)
    finally:
        process.kill()
        process.wait()
        os.close(reader)


def test_in_a_pipe_it_is_printed_once(project: Project) -> None:
    database = Database(project.url)
    add(database, queue="mail", run_at=now() - 90 * SECOND)
    add(database, queue="mail", run_at=now() + 3600 * SECOND, task="later.on", schedule="nightly")
    runs = add(
        database, queue="web", state="running", lock_token="t", started_at=now() - 5 * SECOND,
        locked_until=now() + 30 * SECOND, attempts=2, max_attempts=9, task="slow.one",
    )  # fmt: skip
    younger = add(
        database, queue="web", state="running", lock_token="u", started_at=now() - 2 * SECOND,
        locked_until=now() + 30 * SECOND, attempts=1,
    )  # fmt: skip
    for state in ("succeeded", "failed"):
        add(
            database, queue="mail", state=state, run_at=now() - 9 * SECOND,
            started_at=now() - 8 * SECOND, finished_at=now() - 5 * SECOND,
        )  # fmt: skip
    database.dispose()
    printed = project.run("top").stdout
    assert "\x1b" not in printed
    assert re.search(r"^mail +1 +1m 3\ds +0 +1 +0 +1 +2 +1 +3s$", printed, re.MULTILINE), printed
    assert re.search(rf"^ *{runs} +slow\.one +web +2 of 9 +\d+s$", printed, re.MULTILINE), printed
    assert re.search(r"nightly +mail +in (1h|59m \d+s)$", printed, re.MULTILINE), printed
    found = project.data("top")
    assert [each["id"] for each in found["running"]] == [runs, younger]
    assert {each["name"]: each["due"] for each in found["queues"]} == {"mail": 1, "web": 0}


def test_it_says_that_nothing_is_there(sqlite_project: Project) -> None:
    printed = sqlite_project.run("top", "--once").stdout
    assert "no jobs" in printed
    assert "no workers and no daemons" in printed


def test_on_a_terminal_it_goes_on_until_q(sqlite_project: Project) -> None:
    with terminal(sqlite_project, "--every", "100ms") as screen:
        screen.until("no jobs")
        sqlite_project.enqueue("tasks.greet", "--args", '["you"]', "--queue", "letters")
        shown = screen.until("letters")
        assert shown.startswith("\x1b[?1049h")
        assert "q ends it" in shown
        screen.type("q")
        assert screen.until("\x1b[?1049l").endswith("\x1b[?25h\x1b[?1049l")
        assert screen.process.wait(60) == 0


def test_a_list_of_jobs_is_watched_on_a_terminal_and_printed_once_in_a_pipe(
    sqlite_project: Project,
) -> None:
    with terminal(sqlite_project, command=("jobs", "list", "--watch")) as screen:
        screen.until("no jobs")
        add(Database(sqlite_project.url), task="letters")
        screen.until("letters")
        screen.type("q")
        assert screen.process.wait(60) == 0
    assert "letters" in sqlite_project.run("jobs", "list", "--watch").output
    assert len(sqlite_project.data("jobs", "list", "--watch")) == 1


def test_a_key_looks_at_once(sqlite_project: Project) -> None:
    with terminal(sqlite_project, "--every", "1h") as screen:
        screen.until("q ends it")
        sqlite_project.enqueue("tasks.greet", "--args", '["you"]', "--queue", "letters")
        screen.type(" ")
        screen.until("letters")


def test_nothing_is_wider_or_longer_than_the_terminal(sqlite_project: Project) -> None:
    database = Database(sqlite_project.url)
    for number in range(20):
        add(database, queue=f"{number} {'long ' * 20}", run_at=now())
    database.dispose()
    with terminal(sqlite_project) as screen:
        shown = screen.until("q ends it").rpartition("\x1b[H")[2]
    lines = [re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]", "", line) for line in shown.split("\r\n")]
    assert len(lines) == 12
    assert max(map(len, lines)) == 60


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_however_it_ends_the_terminal_is_as_before(
    sqlite_project: Project, sign: signal.Signals
) -> None:
    with terminal(sqlite_project, "--every", "1h") as screen:
        screen.until("q ends it")
        screen.process.send_signal(sign)
        screen.until("\x1b[?25h\x1b[?1049l")
        assert screen.process.wait(60) in (130, 143)
