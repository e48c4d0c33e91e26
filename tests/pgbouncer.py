"""PgBouncer in transaction mode before a PostgreSQL of the tests, where the machine has it.

It runs on the settings of deploy/, but for where it listens, who may come in, and how few sessions it has.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import make_url

from deploy_files import FOLDER

# Few, so that each transaction gets another session of the server than the one before.
SESSIONS = 3
START_SECONDS = 20.0


def find_pgbouncer() -> str | None:
    """Its program; distributions put it where only root looks."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def pgbouncer(program: str, server_url: str, folder: Path) -> Iterator[str]:
    """Start it; yields the URL of the same database through it."""
    server, port = make_url(server_url), _free_port()
    settings = folder / "pgbouncer.ini"
    adapted = ConfigParser()
    adapted.read(FOLDER / "pgbouncer/pgbouncer.ini")
    adapted["databases"] = {"*": f"host={server.host} port={server.port} user={server.username}"}
    adapted.remove_option("pgbouncer", "auth_file")
    own = {"listen_port": f"{port}", "unix_socket_dir": "", "auth_type": "any"}
    adapted["pgbouncer"].update(own, default_pool_size=str(SESSIONS))
    with settings.open("w") as file:
        adapted.write(file)
    account = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to be root
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([program, *account, str(settings)], stdout=log, stderr=log)
    try:
        _wait_until_it_listens(port, process)
        yield (
            server.set(port=port)
            .update_query_dict({"pooler": "transaction"})
            .render_as_string(hide_password=False)
        )
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise RuntimeError("pgbouncer did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
