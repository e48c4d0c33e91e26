"""Roles: what each may do and is shown, who comes in as what, and that acts bear their names."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from cronqueue.database import Database
from cronqueue.retry import Verdict
from cronqueue.setting_values import ROLES
from cronqueue.settings import Settings
from cronsched.credentials import keep_password, keep_token
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from cronsched.web import User, app
from cronsched.web.sign_in import SignIn, anybody_here
from cronsched.web.throttle import EACH
from job_rows import add, at, claim_one, get, hand_in, query

CHEAP = (4, 8, 1)
PASSWORDS = {role: f"the password of {role}" for role in ROLES}
TOKENS = {role: f"the token of {role}" for role in ROLES}
SETTINGS = Settings(
    web_users=tuple(
        [(f"{role}s", f"{role}:{keep_password(PASSWORDS[role], CHEAP)}") for role in ROLES]
        + [(f"{role}-bot", f"{role}:{keep_token(TOKENS[role])}") for role in ROLES]
    )
)
JOBS = "/api/v1/jobs"
BROWSER = {"accept": "text/html"}

As = Callable[[str], TestClient]


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.fixture
def site(sqlite_database: Database) -> TestClient:
    return TestClient(app(settings=SETTINGS, database=sqlite_database), base_url="http://localhost")


@pytest.mark.parametrize("role", ROLES)
def test_a_user_comes_in_with_his_password_and_a_program_with_its_token(
    site: TestClient, role: str
) -> None:
    for headers, name in (
        (basic(f"{role}s", PASSWORDS[role]), f"{role}s@web"),
        ({"authorization": f"Bearer {TOKENS[role]}"}, f"{role}-bot@web"),
    ):
        text = site.get("/", headers={**headers, **BROWSER}).text
        assert f"you are <b>{name}</b>, {role}" in text


def test_a_password_is_its_users_alone_and_no_token(site: TestClient) -> None:
    for headers in (
        basic("viewers", PASSWORDS["admin"]),
        basic("nobody", PASSWORDS["admin"]),
        basic("admin-bot", TOKENS["admin"]),
        {"authorization": f"Bearer {PASSWORDS['admin']}"},
        basic("admins", dict(SETTINGS.web_users)["admins"].partition(":")[2]),
    ):
        assert site.get(JOBS, headers=headers).status_code == 401
    assert site.get(f"{JOBS}?token={TOKENS['admin']}").status_code == 401


def test_the_shared_password_is_an_admins_and_takes_no_users_name(
    sqlite_database: Database,
) -> None:
    settings = Settings(web_users=SETTINGS.web_users, web_password="shared by all of us")
    site = TestClient(app(settings=settings, database=sqlite_database), base_url="http://localhost")
    found = site.get("/", headers={**basic("guest", "shared by all of us"), **BROWSER})
    assert "you are <b>guest@web</b>, admin" in found.text
    assert site.get(JOBS, headers=basic("viewers", "shared by all of us")).status_code == 401


def test_a_viewer_sees_and_changes_nothing(site: TestClient, sqlite_database: Database) -> None:
    job_id = add(sqlite_database)
    headers = basic("viewers", PASSWORDS["viewer"])
    assert site.get(f"{JOBS}/{job_id}", headers=headers).status_code == 200
    found = site.post(f"{JOBS}/{job_id}/cancel", headers=headers, json={})
    assert (found.status_code, found.json()["code"]) == (403, "role")
    assert "viewers@web is viewer" in found.json()["detail"]
    assert get(sqlite_database, job_id).state == "queued"


def test_an_operator_cancels_and_only_an_admin_deletes(
    site: TestClient, sqlite_database: Database
) -> None:
    job_id = add(sqlite_database)
    operator, admin = (basic(f"{role}s", PASSWORDS[role]) for role in ("operator", "admin"))
    assert site.post(f"{JOBS}/{job_id}/cancel", headers=operator, json={}).status_code == 200
    kind = {"content-type": "application/json"}
    assert site.delete(f"{JOBS}/{job_id}", headers={**operator, **kind}).status_code == 403
    assert site.delete(f"{JOBS}/{job_id}", headers={**admin, **kind}).status_code == 200
    assert query(sqlite_database, "SELECT actor, action FROM sched_audit ORDER BY id") == [
        ("operators@web", "cancel"),
        ("admins@web", "delete"),
    ]


def test_many_jobs_are_deleted_by_an_admin_alone(
    site: TestClient, sqlite_database: Database
) -> None:
    job_id = add(sqlite_database, state="failed")
    asked = {"act": "delete", "which": "all", "q": "state:failed"}
    operator, admin = (
        {**basic(f"{role}s", PASSWORDS[role]), **BROWSER} for role in ("operator", "admin")
    )
    assert site.get("/jobs/confirm", params=asked, headers=operator).status_code == 403
    assert site.get("/jobs/confirm", params=asked, headers=admin).status_code == 200
    assert get(sqlite_database, job_id).state == "failed"


def test_an_application_says_which_role_somebody_has(sqlite_database: Database) -> None:
    def authenticate(request: Request) -> User | str:
        name = request.headers["x-user"]
        return name if name == "root" else User(name, "viewer")

    site = TestClient(
        app(authenticate=authenticate, database=sqlite_database), base_url="http://localhost"
    )
    job_id = add(sqlite_database)
    path = f"{JOBS}/{job_id}/cancel"
    assert site.post(path, headers={"x-user": "ann"}, json={}).status_code == 403
    assert site.post(path, headers={"x-user": "root"}, json={}).status_code == 200


def test_an_unknown_role_is_refused_where_it_is_given() -> None:
    with pytest.raises(ValueError, match="there is no role 'root'"):
        User("ann", "root")  # type: ignore[arg-type]


def test_wrong_passwords_have_to_wait_and_who_is_in_does_not(
    site: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    right = basic("viewers", PASSWORDS["viewer"])
    assert site.get(JOBS, headers=right).status_code == 200
    with caplog.at_level(logging.WARNING, "cronsched.web"):
        for _ in range(EACH.burst):
            assert site.get(JOBS, headers=basic("admins", "wrong guess")).status_code == 401
    assert "wrong guess" not in caplog.text
    assert caplog.text.count("a wrong password or token from testclient") == EACH.burst
    found = site.get(JOBS, headers=basic("admins", PASSWORDS["admin"]))
    assert (found.status_code, found.json()["code"]) == (429, "too_many")
    assert 0 < int(found.headers["retry-after"]) <= EACH.seconds
    assert site.get("/", headers={**basic("admins", "x"), **BROWSER}).status_code == 429
    assert site.get(JOBS, headers=right).status_code == 200


def test_asking_without_a_password_is_no_wrong_one(site: TestClient) -> None:
    for _ in range(EACH.burst + 1):
        assert site.get(JOBS).status_code == 401


def test_a_password_is_checked_once_and_known_again(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def count(password: str, kept: str) -> bool:
        checked.append(password)
        return True

    monkeypatch.setattr("cronsched.web.sign_in.is_password", count)
    sign_in = SignIn(SETTINGS)
    site = TestClient(
        app(authenticate=sign_in, database=sqlite_database), base_url="http://localhost"
    )
    for _ in range(3):
        assert site.get(JOBS, headers=basic("admins", "a")).status_code == 200
    assert checked == ["a"]


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "via"])
def test_what_a_proxy_passes_on_is_nobody_of_this_machine(
    sqlite_database: Database, header: str
) -> None:
    site = TestClient(
        app(authenticate=anybody_here, database=sqlite_database), base_url="http://localhost"
    )
    assert site.get(JOBS).status_code == 200
    found = site.get(JOBS, headers={header: "203.0.113.9"})
    assert (found.status_code, found.json()["code"]) == (403, "forwarded")


def test_what_is_signed_does_not_tell_the_password(sqlite_database: Database) -> None:
    settings = Settings(web_password="correct horse battery")
    made = [app(settings=settings, database=sqlite_database) for _ in range(2)]
    assert made[0].state.access.secret != made[1].state.access.secret
    settings = Settings(web_password="correct horse battery", web_secret="the same for both")
    made = [app(settings=settings, database=sqlite_database) for _ in range(2)]
    assert made[0].state.access.secret == made[1].state.access.secret


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_a_button_that_a_role_may_not_press_is_not_shown(
    site: TestClient, sqlite_database: Database, role: str
) -> None:
    failed = claim_one(sqlite_database, max_attempts=1)
    hand_in(sqlite_database, failed, Verdict("failed", error="E", attempt_outcome="failed"))
    waiting = add(sqlite_database, run_at=at(3600))
    made = Definition("s", "t", cron_trigger("5 * * * *"), source="a.py")
    apply(sqlite_database, make_manifest([made], [], []), Settings())
    pages = ("/", "/jobs", f"/jobs/{failed.id}", f"/jobs/{waiting}", "/failures", "/schedules")
    text = ""
    for path in (*pages, "/schedules/s", "/queues"):
        text += site.get(path, headers=basic(f"{role}s", PASSWORDS[role])).text
    assert "Delete" not in text
    for label in ("Cancel", "Run now", "Pause", "Skip", "Retry…", "Change it"):
        assert (f">{label}<" in text) == (role == "operator"), label
