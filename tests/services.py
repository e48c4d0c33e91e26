"""Real `sched worker` and `sched daemon` processes for tests, on a stage of their own.

A stage is a database, a folder of schedule files, and a folder in which tasks note what they do and wait
for their cues. Whatever is started on it is gone when the test ends, executors included.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import insert, make_url

from cronqueue import Job, enqueue, overview, schema
from cronqueue.database import Database
from job_rows import configured, get
from postgres_proxy import Proxy
from postgres_server import PostgresServer

T = TypeVar("T")

TASKS = Path(__file__).parent / "processes" / "tasks.py"
# On the path of a process, this sets its clocks wrong.
CLOCKS = Path(__file__).parent / "clocks"
# Everything waited for comes in seconds; a machine under load may need many.
PATIENCE = 45.0
LOOK_EVERY = 0.01
NO_ARGUMENTS = '{"args": [], "kwargs": {}}'


def eventually(look: Callable[[], T], what: str = "", within: float = PATIENCE) -> T:
    """What `look` returns, once that is true."""
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, f"did not come within {within:g} s: {what or look}"
        time.sleep(LOOK_EVERY)
    return found


@dataclass(frozen=True)
class Note:
    """What a task has noted: a word, its job and attempt, its process, when."""

    word: str
    job_id: int
    attempt: int
    pid: int
    at: float


@dataclass
class Service:
    """A running `sched worker` or `sched daemon`."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    database: Database

    @property
    def pid(self) -> int:
        """The supervisor's, or the daemon's."""
        return self.process.pid

    def lines(self) -> list[str]:
        """What it has logged."""
        return self.log.read_text(errors="replace").splitlines()

    def said(self, pattern: str) -> list[str]:
        """The lines in which the pattern is found."""
        return [line for line in self.lines() if re.search(pattern, line)]

    def wait_for_line(self, pattern: str, times: int = 1) -> list[str]:
        """The lines in which the pattern is found, once there are as many."""

        def look() -> list[str]:
            found = self.said(pattern)
            return found if len(found) >= times else []

        try:
            return eventually(look, f"{pattern!r} from {self.name}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said:\n{self.log.read_text()}") from None

    def executors(self, number: int = 1) -> list[int]:
        """The processes of its executors, once there are as many that have signed on."""

        def look() -> list[int]:
            present = overview.list_workers(self.database)
            pids = [each.pid for each in present if each.name == self.name and is_alive(each.pid)]
            return pids if len(pids) == number else []

        return eventually(look, f"{number} executors of {self.name}")

    def others(self) -> list[int]:
        """Its processes but the first: executors, the server that forks them, what jobs have left."""
        return [pid for pid in _group(self.pid) if pid != self.pid]

    def send(self, number: signal.Signals) -> None:
        """Signal the supervisor alone."""
        self.process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        """Signal every process of the service, as a terminal or a service manager does."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} goes on:\n{self.log.read_text()}") from None

    def stop(self) -> int:
        """End it in order; returns its exit code."""
        self.send(signal.SIGTERM)
        return self.wait()

    def destroy(self) -> None:
        """End it and all that it has started."""
        self.send_all(signal.SIGKILL)
        self.process.wait()
        eventually(lambda: not any(_group(self.pid)), f"end of {self.name}")


@dataclass
class Stage:
    """A database, files, and the services that run on them."""

    database: Database
    url: str
    folder: Path
    services: list[Service] = field(default_factory=list)

    @property
    def schedules(self) -> Path:
        return self.folder / "schedules"

    def worker(self, *options: str, name: str = "", **environ: str) -> Service:
        """Start `sched worker`; it need not be ready yet."""
        name = name or f"worker-{len(self.services) + 1}"
        return self._start(name, "worker", "--name", name, *options, environ=environ)

    def daemon(self, *options: str, **environ: str) -> Service:
        """Start `sched daemon`."""
        name = f"daemon-{len(self.services) + 1}"
        return self._start(name, "daemon", "--name", name, *options, environ=environ)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command of `sched`, until its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ(environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def enqueue(self, task: str, *args: Any, **options: Any) -> int:
        """A job for one of the stage's tasks; returns its id."""
        with configured(self.database):
            return enqueue(f"tasks.{task}", args, **options).id

    def enqueue_quick(self, times: int, priority: int = 0) -> list[int]:
        """Short jobs at one go, without a word to the workers: behind them a buffer grows."""
        row = {"task": "tasks.quick", "args_json": NO_ARGUMENTS, "priority": priority}
        with self.database.begin() as connection:
            ids = connection.execute(insert(Job).returning(Job.id), [row] * times).scalars()
            return sorted(ids)

    def job(self, job_id: int) -> Job[Any]:
        """Its row."""
        return get(self.database, job_id)

    def wait_for(self, job_id: int, state: str = "succeeded") -> Job[Any]:
        """The row, once it is in this state."""
        eventually(lambda: self.job(job_id).state == state, f"job {job_id} {state}")
        return self.job(job_id)

    def cue(self, name: str) -> None:
        """Let the tasks go on that wait for it."""
        (self.folder / name).touch()

    def notes(self, word: str = "", job_id: int | None = None) -> list[Note]:
        """What tasks have noted, in its order."""
        path = self.folder / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        notes = [
            Note(text, int(job), int(attempt), int(pid), float(at))
            for text, job, attempt, pid, at in map(str.split, lines)
        ]
        return [note for note in notes if word in ("", note.word) and job_id in (None, note.job_id)]

    def wait_for_notes(self, word: str, times: int = 1, job_id: int | None = None) -> list[Note]:
        """The notes with this word, once there are as many."""

        def look() -> list[Note]:
            found = self.notes(word, job_id)
            return found if len(found) >= times else []

        return eventually(look, f"{times} notes {word!r}")

    def _start(self, name: str, *arguments: str, environ: dict[str, str]) -> Service:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environ(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        service = Service(name, process, log, self.database)
        self.services.append(service)
        return service

    def command(self, *arguments: str) -> list[str]:
        """How `sched` is called here."""
        return [sys.executable, "-m", "cronsched.cli", *arguments]

    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        """What surrounds the stage's programs: nothing of the outer settings, and this."""
        outer = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SCHED_", "PYTEST"))
        }
        return outer | {"SCHED_DATABASE_URL": self.url, "STAGE": str(self.folder)} | environ


@contextmanager
def stage_in(folder: Path, url: str) -> Iterator[Stage]:
    """A stage with the tasks of `processes/tasks.py`; everything on it ends with the block."""
    (folder / "schedules").mkdir()
    shutil.copy(TASKS, folder / "schedules")
    stage = Stage(Database(url), url, folder)
    try:
        yield stage
    finally:
        for service in stage.services:
            service.destroy()
        stage.database.dispose()


@contextmanager
def behind_proxy(server: PostgresServer, folder: Path) -> Iterator[tuple[Stage, Proxy]]:
    """A stage whose programs reach the server through a proxy; the test itself goes past it."""
    url = make_url(server.url())
    assert url.port is not None
    database = Database(url)
    schema.upgrade(database)
    database.dispose()
    proxy = Proxy(url.port)
    try:
        with stage_in(folder, server.url()) as stage:
            stage.url = url.set(port=proxy.port).render_as_string(hide_password=False)
            yield stage, proxy
    finally:
        proxy.close()


@contextmanager
def few_connections(server: PostgresServer, folder: Path, limit: int) -> Iterator[Stage]:
    """A stage whose programs have so many connections together; the test itself is not counted."""
    url = make_url(server.url())
    owner = Database(url)
    with owner.autocommit() as connection:
        connection.exec_driver_sql(f"CREATE ROLE app LOGIN CONNECTION LIMIT {limit}")
        connection.exec_driver_sql("GRANT CREATE ON SCHEMA public TO app")
    owner.dispose()
    app = url.set(username="app").render_as_string(hide_password=False)
    database = Database(app)
    schema.upgrade(database)
    database.dispose()
    with stage_in(folder, server.url()) as stage:
        stage.url = app
        yield stage


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _group(leader: int) -> Iterator[int]:
    """The processes of a group, without zombies that nobody has fetched."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) == leader and state not in "ZX":
                yield int(path.parent.name)
