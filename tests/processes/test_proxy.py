"""The dashboard below a path of another site, behind nginx with the settings of deploy/."""

from __future__ import annotations

import base64
import http.client
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy_files import FOLDER
from services import Stage, eventually

# How browsers call the site.
NAME = "example.com"
PASSWORD = "twelve characters"


def test_every_link_of_a_page_leads_through_the_proxy(sqlite_stage: Stage) -> None:
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed (Debian, Ubuntu: apt install nginx-light)")
    ours, front = free_port(), free_port()
    with _web(sqlite_stage, ours), _nginx(program, sqlite_stage.folder, ours, front):
        eventually(lambda: get(front, "/sched/livez")[0] == 200, "the site")
        assert get(front, "/sched")[:2] == (301, f"http://{NAME}/sched/")
        _, _, page = get(front, "/sched/")
        links = set(re.findall(r'(?:href|src)="(/[^"#]*)', page))
        assert len(links) > 10
        assert get(front, "/sched/", signed_in=False)[0] == 401
        assert {link for link in links if not link.startswith("/sched/")} == set()
        assert {link for link in links if get(front, link.replace("&amp;", "&"))[0] != 200} == set()


def get(port: int, path: str, *, signed_in: bool = True) -> tuple[int, str, str]:
    """Status, Location, body; 0 as long as nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    known = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    headers = {"Host": NAME} | ({"Authorization": f"Basic {known}"} if signed_in else {})
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location", ""), answer.read().decode()
    except OSError:
        return 0, "", ""
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


@contextmanager
def _web(stage: Stage, port: int) -> Iterator[None]:
    command = [*stage.command("web"), "--root-path", "/sched", "--port", f"{port}"]
    environ = stage.environ({"SCHED_WEB_HOSTS": NAME, "SCHED_WEB_PASSWORD": PASSWORD})
    with (stage.folder / "web.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=stage.folder, env=environ, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _nginx(program: str, folder: Path, ours: int, front: int) -> Iterator[None]:
    locations = (FOLDER / "nginx/sched.conf").read_text().replace(":8321", f":{ours}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    server = f"server {{ listen 127.0.0.1:{front}; port_in_redirect off;\n{locations} }}"
    settings = folder / "nginx.conf"
    settings.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off;\n{paths}{server} }}\n"
    )
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen([program, "-p", folder, "-c", settings], stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()
