"""The command `sched` for tests: run in this process, in a project folder of its own."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cronqueue import configuration
from cronsched.cli import sched

TASKS = '''\
"""Tasks and a schedule for tests of the command."""

from cronqueue import job
from cronsched import hourly


@hourly(tz="Europe/London")
def refresh() -> None: ...


@job
def greet(name: str) -> str:
    print("the task speaks")
    return f"Hello, {name}!"


@job(max_attempts=1)
def boom(text: str) -> None:
    raise ValueError(text)


@job(queue="mail", priority=5)
async def add(a: int, *, b: int = 1) -> int:
    return a + b
'''


class Project:
    """A folder with tasks and a database; runs the command there as its user would."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.url = database_url

    def run(self, *arguments: str, code: int = 0, **settings: Any) -> Result:
        """What the command prints; its exit code must be the expected one."""
        result = self.answer(*arguments, **settings)
        assert result.exit_code == code, f"{result.exit_code}: {result.output}"
        return result

    def answer(self, *arguments: str, **settings: Any) -> Result:
        """What the command prints, and how it ends."""
        configuration.use_database(None)
        handlers, path = logging.root.handlers[:], sys.path[:]
        try:
            return CliRunner().invoke(sched, arguments, **settings)
        finally:
            logging.root.handlers[:], sys.path[:] = handlers, path
            for name in [name for name in sys.modules if name.split(".")[0] == "schedules"]:
                del sys.modules[name]
            configuration.use_database(None)

    def data(self, *arguments: str, code: int = 0) -> Any:
        """The document that `--json` prints; there must be nothing else on standard output."""
        printed = self.run(*arguments, "--json", code=code).stdout
        document = json.loads(printed)
        assert printed.count("\n") == 1
        assert document.keys() == {"format_version", "data"}
        assert document["format_version"] == 1
        return document["data"]

    def refused(self, *arguments: str, code: int = 2) -> str:
        """The one line on standard error that says what is wrong; standard output must be empty."""
        result = self.run(*arguments, code=code)
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        (line,) = result.stderr.splitlines()
        assert line.startswith("sched: ")
        return line.removeprefix("sched: ")

    def enqueue(self, *arguments: str) -> int:
        """Enqueue a job; returns its id."""
        job_id: int = self.data("enqueue", *arguments)["id"]
        return job_id
