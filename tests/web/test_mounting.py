"""The dashboard within applications of other frameworks: everything is found below its place, and acts."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.web import anybody, app, wsgi
from job_rows import add, at, states

PLACE = "/tools/sched"


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served_wsgi(site: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, site, handler_class=_Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def served_asgi(site: Any) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(site, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@contextmanager
def served(framework: str, **options: Any) -> Iterator[str]:
    """The address of an application of this framework that has mounted ours."""
    if framework == "flask":
        shop = Flask("shop")
        shop.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
            shop.wsgi_app, {PLACE: wsgi.app(**options)}
        )
        with served_wsgi(shop) as address:
            yield address
        return
    if framework == "fastapi":
        site: Any = FastAPI()
        site.mount(PLACE, app(**options))
    else:
        site = Starlette(routes=[Mount(PLACE, app(**options))])
    with served_asgi(site) as address:
        yield address


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "flask"])
def test_a_mounted_site_finds_all_that_is_its_own_below_its_place(
    sqlite_database: Database, framework: str
) -> None:
    job_id = add(sqlite_database, run_at=at(3600))
    options = {"authenticate": anybody, "database": sqlite_database, "settings": Settings()}
    with (
        served(framework, **options) as address,
        httpx2.Client(base_url=address, follow_redirects=True, timeout=60) as client,
    ):
        seen: set[tuple[str, str]] = set()
        for path in ("/", "/timeline", f"/jobs/{job_id}", "/jobs", "/schedules", "/help"):
            page = client.get(PLACE + path, headers={"accept": "text/html"})
            assert page.status_code == 200, path
            seen |= set(re.findall(r'(href|src|action)="(/[^"#]*)"', page.text))
        assert [link for _, link in seen if not link.startswith(f"{PLACE}/")] == []
        for kind, link in seen:
            if kind != "action":
                assert client.get(unescape(link)).status_code == 200, link
        here = f"{PLACE}/jobs/{job_id}"
        (token, *_) = re.findall(r'name="form_token" value="([^"]+)"', client.get(here).text)
        form = {"form_token": token, "back": f"/jobs/{job_id}"}
        told = client.post(f"{here}/cancel", data=form, headers={"accept": "text/html"})
        assert f"Job {job_id} is cancelled." in told.text
        assert str(told.url) == address + here
        document = client.get(f"{PLACE}/api/v1/openapi.json").json()
        assert f"{PLACE}/api/v1/jobs" in document["paths"]
        events = client.get(f"{PLACE}/api/v1/jobs/{job_id}/events").text
        assert '"state":"cancelled"' in events.replace(" ", "")
        calendar = client.get(f"{PLACE}/timeline.ics").text
        assert calendar.startswith("BEGIN:VCALENDAR")
    assert states(sqlite_database) == ["cancelled"]


def test_flask_decides_who_comes_in(sqlite_database: Database) -> None:
    def authenticate(request: Any) -> str | None:
        name = request.scope["wsgi_environ"].get("HTTP_X_USER")
        return None if name is None else str(name)

    options = {"authenticate": authenticate, "database": sqlite_database, "settings": Settings()}
    with served("flask", **options) as address:
        assert httpx2.get(f"{address}{PLACE}/", timeout=60).status_code == 401
        page = httpx2.get(f"{address}{PLACE}/", headers={"x-user": "ann"}, timeout=60)
        assert "you are <b>ann</b>" in page.text
