"""Who may come in, from where; and what browsers are told of our pages."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from cronqueue.database import Database
from cronqueue.errors import ConfigurationError
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from cronsched.web import anybody, app
from job_rows import add, get, query

JOBS = "/api/v1/jobs"
PASSWORD, TOKEN = "correct horse battery", "0123456789abcdef"
SECRET = "0123456789abcdef0123456789abcdef"

NewClient = Callable[..., TestClient]


@pytest.fixture
def new_client(sqlite_database: Database) -> NewClient:
    def make(site: str = "http://localhost", **options: object) -> TestClient:
        made = app(database=sqlite_database, **{"settings": Settings(), **options})  # type: ignore[arg-type]
        return TestClient(made, base_url=site)

    return make


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_a_site_without_password_and_token_is_not_made_by_accident(new_client: NewClient) -> None:
    with pytest.raises(ConfigurationError, match="nobody may come in"):
        new_client()


def test_nobody_comes_in_without_the_password(new_client: NewClient) -> None:
    client = new_client(settings=Settings(web_password=PASSWORD))
    for headers in ({}, basic("ann", "wrong"), basic("ann", ""), {"authorization": "Basic ?"}):
        found = client.get(JOBS, headers=headers)
        assert (found.status_code, found.json()["code"]) == (401, "unauthorized")
        assert found.headers["www-authenticate"].startswith("Basic")
    assert client.get(JOBS, headers=basic("ann", PASSWORD)).status_code == 200
    assert client.get(JOBS, headers={"authorization": f"Bearer {PASSWORD}"}).status_code == 401


def test_the_token_opens_the_door_too(new_client: NewClient) -> None:
    client = new_client(settings=Settings(web_token=TOKEN))
    assert client.get(JOBS, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.get(JOBS, headers={"authorization": "Bearer"}).status_code == 401
    assert client.get(JOBS, headers=basic("ann", TOKEN)).status_code == 401


def test_the_user_name_stands_in_the_audit(
    new_client: NewClient, sqlite_database: Database
) -> None:
    client = new_client(settings=Settings(web_password=PASSWORD))
    job_id = add(sqlite_database)
    done = client.post(f"{JOBS}/{job_id}/cancel", headers=basic("ann", PASSWORD), json={})
    assert done.status_code == 200
    assert query(sqlite_database, "SELECT actor FROM sched_audit") == [("ann@web",)]


def test_a_site_answers_to_its_own_names_only(new_client: NewClient) -> None:
    options = {"authenticate": anybody, "settings": Settings(web_hosts=("jobs.example.com",))}
    for site in (
        "http://localhost:8321",
        "http://127.0.0.1",
        "http://[::1]:8321",
        "https://Jobs.example.com",
    ):
        assert new_client(site, **options).get(JOBS).status_code == 200, site
    for site in (
        "http://evil.example",
        "http://localhost.evil.example",
        "http://jobs.example.com.evil",
    ):
        assert new_client(site, **options).get(JOBS).json()["code"] == "wrong_host", site


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(
    new_client: NewClient, sqlite_database: Database, headers: dict[str, str]
) -> None:
    job_id = add(sqlite_database)
    found = new_client(authenticate=anybody).post(
        f"{JOBS}/{job_id}/cancel", headers=headers, json={}
    )
    assert (found.status_code, found.json()["code"]) == (403, "foreign")
    assert get(sqlite_database, job_id).state == "queued"


def test_a_write_without_json_is_refused_since_a_form_of_another_site_can_send_it(
    new_client: NewClient, sqlite_database: Database
) -> None:
    job_id = add(sqlite_database)
    client = new_client(authenticate=anybody)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        found = client.post(f"{JOBS}/{job_id}/cancel", content="{}", headers={"content-type": kind})
        assert (found.status_code, found.json()["code"]) == (415, "no_json")
    assert get(sqlite_database, job_id).state == "queued"


def test_a_read_only_site_changes_nothing(new_client: NewClient, sqlite_database: Database) -> None:
    job_id = add(sqlite_database)
    client = new_client(authenticate=anybody, read_only=True)
    assert client.get(f"{JOBS}/{job_id}").status_code == 200
    assert client.post(f"{JOBS}/{job_id}/cancel", json={}).json()["code"] == "read_only"


def test_every_answer_tells_browsers_to_run_nothing_that_is_not_ours(new_client: NewClient) -> None:
    client = new_client(authenticate=anybody)
    for path in ("/", JOBS, "/nowhere", "/livez", "/static/sched.css"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_a_badge_is_shown_elsewhere_by_a_link_that_opens_nothing_else(
    new_client: NewClient, sqlite_database: Database
) -> None:
    made = [
        Definition(each, "t", cron_trigger("5 * * * *"), source="a.py") for each in ("a:b", "other")
    ]
    apply(sqlite_database, make_manifest(made, [], []), Settings())
    client = new_client(settings=Settings(web_password=PASSWORD))
    page = client.get("/schedules/a:b", auth=("ann", PASSWORD)).text
    (link,) = re.findall(r'<img class="badge" src="([^"]+)"', page)
    found = client.get(link)
    assert found.headers["content-type"] == "image/svg+xml"
    assert found.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "a:b: not yet" in found.text
    token = link.partition("?")[2]
    for path in ("/badge/other.svg", "/timeline.ics", "/schedules/a:b", "/api/v1/schedules"):
        assert client.get(f"{path}?{token}").status_code == 401


def test_the_link_of_the_calendar_opens_the_calendar_and_nothing_else(
    new_client: NewClient,
) -> None:
    client = new_client(settings=Settings(web_password=PASSWORD, web_secret=SECRET))
    page = client.get("/timeline", auth=("ann", PASSWORD)).text
    (link,) = re.findall(r'href="(/timeline\.ics\?token=[^"]+)"', page)
    token = link.partition("?")[2]
    found = client.get(link)
    assert found.headers["content-type"] == "text/calendar; charset=utf-8"
    assert found.text.startswith("BEGIN:VCALENDAR")
    for path in ("/timeline", "/", "/api/v1/jobs"):
        assert client.get(f"{path}?{token}").status_code == 401
    assert client.post(link, json={}).status_code == 401
    for wrong in ("/timeline.ics", "/timeline.ics?token=", "/timeline.ics?token=x", f"{link}x"):
        assert client.get(wrong).status_code == 401
    assert client.get("/timeline.ics", auth=("ann", PASSWORD)).status_code == 200
    again = new_client(settings=Settings(web_password="another battery", web_secret=SECRET))
    assert again.get(link).status_code == 200
    other = new_client(settings=Settings(web_password=PASSWORD, web_secret=SECRET[::-1]))
    assert other.get(link).status_code == 401  # it ends with the secret that it was made with


def test_probes_need_no_password_and_no_name(new_client: NewClient) -> None:
    client = new_client("http://10.0.0.7:8321", settings=Settings(web_password=PASSWORD))
    assert client.get("/livez").json() == {"live": True}
    assert client.get("/readyz").json() == {"ready": True}


def test_livez_does_not_ask_the_database_and_readyz_does() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    client = TestClient(app(authenticate=anybody, database=away), base_url="http://localhost")
    assert client.get("/livez").status_code == 200
    found = client.get("/readyz")
    assert (found.status_code, found.json()["code"]) == (503, "database_unreachable")
    assert client.get(JOBS).json()["code"] == "database_unreachable"


def test_a_fault_of_ours_tells_nothing_of_itself(
    new_client: NewClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("s3cret")

    monkeypatch.setattr("cronqueue.queries.select_page", fail)
    found = new_client(authenticate=anybody).get(JOBS)
    assert (found.status_code, found.json()["code"]) == (500, "internal")
    assert "s3cret" not in found.text
    assert "content-security-policy" in found.headers
    assert "s3cret" in caplog.text


def test_over_tls_the_forms_cookie_is_this_hosts_alone(new_client: NewClient) -> None:
    client = new_client("https://localhost", authenticate=anybody)
    job_id = add(client.app.state.database)  # type: ignore[attr-defined]
    kept = client.get(f"/jobs/{job_id}").headers["set-cookie"]
    assert kept.startswith("__Host-sched_form=")
    assert kept.endswith("; Path=/; HttpOnly; SameSite=Strict; Secure")
    kept = new_client(authenticate=anybody).get(f"/jobs/{job_id}").headers["set-cookie"]
    assert kept.startswith("sched_form=")
    assert kept.endswith("; Path=/; HttpOnly; SameSite=Strict")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/jobs/1/cancel", "application/x-www-form-urlencoded"),
        ("/jobs/1/cancel", "multipart/form-data; boundary=b"),
        (f"{JOBS}/1/cancel", "application/json"),
    ],
)
def test_a_body_that_is_too_large_is_refused_of_a_form_as_of_a_program(
    new_client: NewClient, path: str, kind: str
) -> None:
    parts = (b"a" * 100_000 for _ in range(11))  # of a length that nobody tells before
    found = new_client(authenticate=anybody).post(
        path, content=parts, headers={"content-type": kind}
    )
    assert (found.status_code, found.json()["code"]) == (413, "too_large")
