"""Every route: its role is written down and enforced, and each write comes from somebody who is known."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from httpx2 import Response
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

import route_table
from cronqueue import job, operations
from cronqueue.database import Database
from cronqueue.registration import Presence, heartbeat
from cronqueue.setting_values import ROLES
from cronqueue.settings import Settings
from cronsched import overrides, pausing
from cronsched.alerts import muting
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from cronsched.web import User, app
from job_rows import add, at, query
from route_table import API, Line

LINES = route_table.lines()
WRITES = [each for each in LINES if each.method != "GET"]
PAGE_WRITES = [each for each in WRITES if not each.path.startswith(API)]
API_WRITES = [each for each in WRITES if each.path.startswith(API)]
OCCURRENCE = "2026-01-02T04:05:00Z"
LATER = "2090-01-01T10:30:00Z"
# What each act needs to have something to do: the state of job 1, and fields.
ACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "act": ("failed", {"act": "retry", "which": "all", "q": "state:failed"}),
    "retry": ("failed", {}),
    "cancel": ("queued", {}),
    "run-now": ("queued", {}),
    "delete": ("failed", {}),
    "edit": ("queued", {"priority": "3"}),
    "pause": ("queued", {}),
    "resume": ("queued", {}),
    "trigger": ("queued", {}),
    "skip": ("queued", {"planned_for": OCCURRENCE}),
    "move": ("queued", {"planned_for": OCCURRENCE, "to": LATER}),
    "drain": ("queued", {}),
    "schedules": ("queued", {"act": "pause", "which": "all"}),
    "restore": ("queued", {"planned_for": OCCURRENCE}),
    "jobs": ("queued", {"task": "asked"}),
    "mute": ("queued", {"target": "schedule:s"}),
    "unmute": ("queued", {"target": "all"}),
    "test": ("queued", {"channel": "command"}),
}


def told(line: Line) -> str:
    return f"{line.method} {line.path}"


def as_user(request: Request) -> User | None:
    """By a header: the door of a test."""
    role = request.headers.get("x-role")
    return User(f"{role}-ann", role) if role else None  # type: ignore[arg-type]


@pytest.fixture
def site(sqlite_database: Database) -> TestClient:
    settings = replace(Settings(), alerts_command=("true",))
    made = app(authenticate=as_user, settings=settings, database=sqlite_database)
    return TestClient(made, base_url="http://localhost")


def ask(
    site: TestClient, line: Line, role: str | None, method: str | None = None, **sent: Any
) -> Response:
    """The answer about job 1, schedule s or queue s."""
    path = line.path.replace("{job_id:int}", "1").replace("{name}", "s")
    path = path.replace("{name:path}", "s")
    headers = {**({"x-role": role} if role else {}), **sent.pop("headers", {})}
    return site.request(method or line.method, path, headers=headers, **sent)


def test_the_page_of_routes_is_what_the_application_has() -> None:
    assert route_table.PAGE.read_text(encoding="utf-8") == route_table.page(), "make routes"


def test_a_route_without_a_role_is_found() -> None:
    with pytest.raises(TypeError, match="does not say which role"):
        list(route_table._lines([Route("/new", lambda request: None)], ""))


def test_every_route_asks_a_stranger_who_he_is(site: TestClient) -> None:
    for each in LINES:
        expected = 200 if each.role is None else 401
        assert ask(site, each, None).status_code == expected, told(each)


def test_every_route_refuses_a_lesser_role_and_no_other(
    site: TestClient, sqlite_database: Database
) -> None:
    for each in LINES:
        if each.role is None or each.path == f"{API}/events":  # which has no end
            continue
        body: Any = {"json": {}} if each in API_WRITES else {}
        needed = ROLES.index(each.role)
        for role in ROLES[max(needed - 1, 0) : needed + 1]:
            found = ask(site, each, role, **body)
            is_refused = found.status_code == 403 and found.json()["code"] == "role"
            assert is_refused == (role != each.role), (told(each), role)
    assert query(sqlite_database, "SELECT count(*) FROM sched_jobs") == [(0,)]


def test_every_write_of_a_page_needs_the_token_of_its_form(
    site: TestClient, sqlite_database: Database
) -> None:
    add(sqlite_database)
    for each in PAGE_WRITES:
        for form in ({}, {"form_token": "wrong"}):
            found = ask(site, each, "admin", data=form)
            assert (found.status_code, found.json()["code"]) == (403, "old_form"), told(each)
    assert query(sqlite_database, "SELECT count(*) FROM sched_audit") == [(0,)]


def test_every_write_of_the_api_needs_json_which_no_form_can_send(site: TestClient) -> None:
    for each in API_WRITES:
        for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
            found = ask(site, each, "admin", content="{}", headers={"content-type": kind})
            assert (found.status_code, found.json()["code"]) == (415, "no_json"), told(each)


def test_no_write_is_done_by_a_read(site: TestClient, sqlite_database: Database) -> None:
    add(sqlite_database)
    for each in WRITES:
        for method in ("GET", "HEAD", "OPTIONS", "TRACE"):
            ask(site, each, "admin", method)
    assert query(sqlite_database, "SELECT count(*) FROM sched_audit") == [(0,)]


@pytest.mark.parametrize("line", WRITES, ids=told)
def test_each_write_leaves_one_line_in_the_audit_with_the_name_of_its_user(
    site: TestClient, sqlite_database: Database, line: Line
) -> None:
    @job(name="asked", api=True)
    def asked() -> None: ...

    made = Definition("s", "t", cron_trigger("5 * * * *"), source="a.py")
    act = "delete" if line.method == "DELETE" else line.path.rpartition("/")[2]
    state, fields = ACTS[act]
    assert add(sqlite_database, state=state, finished_at=at(-1) if state == "failed" else None) == 1
    apply(sqlite_database, make_manifest([made], [], []), Settings())
    if act == "resume":
        operations.pause_queue(sqlite_database, "s", actor="bob")
        pausing.pause(sqlite_database, "s", actor="bob")
    elif act == "restore":
        overrides.skip(sqlite_database, "s", datetime.fromisoformat(OCCURRENCE), actor="bob")
    elif act == "drain":
        heartbeat(sqlite_database, [Presence("s", "worker", "s", 1, "running", Settings())])
    elif act == "unmute":
        muting.mute(sqlite_database, "all", until=datetime.fromisoformat(LATER), actor="bob")
    elif act == "mute":  # the API asks for a time, as elsewhere, and the form for a duration
        fields = {**fields, **({"until": LATER} if line in API_WRITES else {"for": "2h"})}
    elif act == "edit" and line in API_WRITES:
        fields = {**fields, "priority": 3}
    before = len(query(sqlite_database, "SELECT id FROM sched_audit"))
    if line in API_WRITES:
        found = ask(site, line, "admin", json=fields)
    else:
        page = site.get("/schedules/s", headers={"x-role": "admin"}).text
        token = re.findall('name="form_token" value="([^"]+)"', page)[0]
        found = ask(site, line, "admin", data={**fields, "form_token": token})
    assert found.status_code < 300, found.text
    acts = query(sqlite_database, "SELECT actor FROM sched_audit ORDER BY id")
    assert acts[before:] == [("admin-ann",)]
