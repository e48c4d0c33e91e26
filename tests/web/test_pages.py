"""The dashboard: what its pages tell, what its buttons do, and that nothing stored gets out of its place."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from cronqueue import operations
from cronqueue.database import Database
from cronqueue.loglines import write_lines
from cronqueue.queries import Filter
from cronqueue.registration import Presence, heartbeat
from cronqueue.retry import Verdict
from cronqueue.settings import Settings
from cronsched.alerts import looking as alert_looks
from cronsched.alerts import outbox
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from cronsched.web import anybody, app, pages
from cronsched.web.page_acts import ACTS
from cronsched.web.problems import Refused
from cronsched.web.searching import as_search, read_search
from job_rows import NOW, add, at, claim_one, execute, get, hand_in, pass_time, query, said, states

BROWSER = {"accept": "text/html"}
FAILED = Verdict("failed", error="Traceback\nValueError: no", attempt_outcome="failed")
READS = [
    "/",
    "/timeline",
    "/timeline?range=7d",
    "/jobs",
    "/failures",
    "/alerts",
    "/schedules",
    "/queues",
    "/workers",
    "/audit",
    "/help",
]
CAUSE = {"target": "cause:failed:t:ValueError", "for": "1h"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"


class Page(HTMLParser):
    """What a browser would see: words, links, and forms with their fields."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append((tag, known))
        if tag == "form":
            self.forms.append((known.get("action") or "", {}))
        elif tag == "input" and known.get("type") == "hidden":
            self.forms[-1][1][known.get("name") or ""] = known.get("value") or ""

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def look(client: TestClient, path: str, status: int = 200) -> Page:
    found = client.get(path, headers=BROWSER)
    assert found.status_code == status, found.text
    return Page(found.text)


def press(client: TestClient, path: str, action: str, **fields: str | list[str]) -> Page:
    """Fill in and send the first form of a page that leads there, as a browser does."""
    hidden = next(known for to, known in look(client, path).forms if to == action)
    found = client.post(action, data={**hidden, **fields}, headers=BROWSER)
    assert found.status_code == 200, found.text  # after the way back
    return Page(found.text)


@pytest.mark.parametrize("path", READS)
def test_every_page_is_there_before_anything_has_happened(client: TestClient, path: str) -> None:
    look(client, path)


@pytest.mark.parametrize("path", [*READS, "/schedules/s"])
def test_every_page_tells_of_what_has_happened(
    client: TestClient, database: Database, schedule: str, path: str
) -> None:
    hand_in(database, claim_one(database, max_attempts=1), FAILED)
    claim_one(database, queue="mail")
    add(database, run_at=at(3600))
    operations.pause_queue(database, "slow", actor="ann", reason="repairs")
    pass_time(database, 300)
    look(client, path)


def start_worker(database: Database) -> None:
    """One that is alive, whatever the clock of this machine says."""
    heartbeat(database, [Presence("w", "worker", "w", 1, "running", Settings())])
    execute(database, "UPDATE sched_workers SET clock_skew = NULL")


def test_the_first_page_names_what_needs_somebody(client: TestClient, database: Database) -> None:
    start_worker(database)
    assert "All is well" in look(client, "/").text
    add(database, run_at=at(-600))
    text = look(client, "/").text
    assert "1 thing needs you" in text
    assert "1 due jobs are not claimed" in text


def test_a_worker_is_drained_by_a_button_which_has_its_command_beside_it(
    client: TestClient, database: Database
) -> None:
    start_worker(database)
    assert "sched workers drain w" in look(client, "/workers").text
    page = press(client, "/workers", "/workers/w/drain").text
    assert "Worker w is asked to drain" in page
    assert "sched workers drain" not in page
    assert heartbeat(database, [Presence("w", "worker", "w", 1, "running", Settings())])


def test_the_first_page_says_that_nobody_works(client: TestClient) -> None:
    text = look(client, "/").text
    assert "Nothing is urgent, 1 thing is odd" in text
    assert "none is alive: what is due waits" in text


def test_the_first_page_counts_who_is_silent(client: TestClient, database: Database) -> None:
    start_worker(database)
    assert "silent" not in look(client, "/").text
    pass_time(database, 60)
    assert "1 silent" in look(client, "/").text


def test_a_retry_is_due_again_after_its_attempt(client: TestClient, database: Database) -> None:
    job_id = add(database, attempts=1, started_at=at(-50), run_at=at(600))
    shown = re.sub(r"\s+", " ", look(client, f"/jobs/{job_id}").text)
    assert shown.index("started 03:03:15") < shown.index("due again 03:14:05")


def test_the_audit_tells_details_in_words(client: TestClient, database: Database) -> None:
    until = NOW + timedelta(hours=2)
    operations.pause_queue(database, "mail", actor="ann", reason="repairs", until=until)
    shown = re.sub(r"\s+", " ", look(client, "/audit").text)
    assert "reason repairs" in shown
    assert "until 05:04:05" in shown


def test_the_hours_chart_counts_each_minute(client: TestClient, database: Database) -> None:
    for seconds in (-70, -64, -3):
        add(database, state="succeeded", finished_at=at(seconds))
    titles = re.findall(r"<title>(\d\d:\d\d: \d[^<]*)</title>", client.get("/").text)
    assert sorted(set(titles)) == ["03:02: 1 succeeded", "03:03: 1 succeeded", "03:04: 1 succeeded"]


def test_a_job_page_shows_its_way_its_error_and_why_it_waits(
    client: TestClient, database: Database
) -> None:
    failed = claim_one(database, task="charge", max_attempts=1)
    hand_in(database, failed, FAILED)
    text = look(client, f"/jobs/{failed.id}").text
    assert "ValueError: no" in text
    assert "attempt 1" in text
    waiting = add(database, run_at=at(3600))
    assert "it is not due before 2026-01-02 04:04:05 UTC" in look(client, f"/jobs/{waiting}").text
    assert "there is no job 99" in look(client, "/jobs/99", 404).text


def test_of_a_very_long_traceback_the_beginning_and_the_end_are_shown(
    client: TestClient, database: Database
) -> None:
    error = "the beginning\n" + "x" * 100_000 + "\nthe end"
    job_id = add(database, state="failed", finished_at=NOW, failed_at=NOW, last_error=error)
    page = look(client, f"/jobs/{job_id}")
    assert "the beginning" in page.text
    assert "80,022 characters are left out here" in page.text
    assert page.text.rindex("the end") > page.text.index("left out here")
    assert len(page.text) < 30_000


def test_progress_is_shown_while_a_job_runs(client: TestClient, database: Database) -> None:
    running = claim_one(database)
    told = json.dumps({"done": 3, "total": 12, "message": "page 3"})
    execute(database, "UPDATE sched_jobs SET progress = :told", told=told)
    for path in (f"/jobs/{running.id}", "/jobs", "/"):
        page = look(client, path)
        assert ("progress", {"max": "12", "value": "3"}) in page.tags
        assert "25 %" in page.text


def test_a_job_page_shows_the_end_of_its_log(client: TestClient, database: Database) -> None:
    claimed = claim_one(database)
    assert "Log" not in look(client, f"/jobs/{claimed.id}").text
    write_lines(database, [said(claimed, number, f"line-{number}-") for number in range(1, 300)])
    shown = look(client, f"/jobs/{claimed.id}").text
    assert "line-299-" in shown
    assert '">' not in shown
    assert "line-1-" not in shown
    assert f"sched jobs log {claimed.id}" in shown


def test_buttons_act_and_lead_back_to_their_page(client: TestClient, database: Database) -> None:
    job_id = add(database, run_at=at(3600))
    here = f"/jobs/{job_id}"
    assert f"Job {job_id} is due now." in press(client, here, f"{here}/run-now").text
    assert "is cancelled" in press(client, here, f"{here}/cancel").text
    assert "is queued again" in press(client, here, f"{here}/retry").text
    assert "is changed" in press(client, here, f"{here}/edit", priority="-7", queue="slow").text
    assert (get(database, job_id).priority, get(database, job_id).queue) == (-7, "slow")
    assert "is paused" in press(client, "/queues", "/queues/slow/pause").text
    assert "goes on" in press(client, "/queues", "/queues/slow/resume").text


def test_the_plan_tells_what_the_files_would_change_and_writes_nothing(
    database: Database, schedule: str, tmp_path: Path
) -> None:
    folder = tmp_path / "schedules"
    folder.mkdir()
    (folder / "a.py").write_text(
        "from cronsched import cron, hourly\n"
        "@cron('7 * * * *', name='s')\ndef changed(): ...\n"
        "@hourly(name='new')\ndef new(): ...\n"
    )
    (folder / "b.py").write_text("1 / 0\n")
    site = app(authenticate=anybody, settings=Settings(), database=database, schedules=folder)
    before = query(database, "SELECT name, definition FROM sched_schedules")
    text = look(TestClient(site, base_url="http://localhost"), "/plan").text
    assert "2 schedules would change" in text
    assert "5 minutes past the hour" in text
    assert "7 minutes past the hour" in text
    assert "ZeroDivisionError" in text
    assert query(database, "SELECT name, definition FROM sched_schedules") == before


def test_what_has_been_done_is_told_once(client: TestClient, database: Database) -> None:
    here = f"/jobs/{add(database)}"
    assert "is cancelled." in press(client, here, f"{here}/cancel").text
    assert "is cancelled." not in look(client, here).text


def test_schedules_are_paused_resumed_triggered_and_skipped(
    client: TestClient, database: Database, schedule: str
) -> None:
    here = f"/schedules/{schedule}"
    assert "runs as job 25" in press(client, "/schedules", f"{here}/trigger").text
    page = press(client, here, f"{here}/pause", **{"reason": "repairs", "for": "2h"})
    assert "24 jobs are held" in page.text
    assert "repairs" in page.text
    assert "24 jobs queued" in press(client, here, f"{here}/resume").text
    press(client, here, f"{here}/skip")
    assert query(database, "SELECT verdict FROM sched_occurrences WHERE verdict IS NOT NULL") == [
        ("skipped:override",)
    ]
    press(client, here, f"{here}/restore")
    assert query(database, "SELECT action FROM sched_overrides") == []


def test_schedules_are_paused_together_after_their_number_and_every_page_says_so(
    client: TestClient, database: Database
) -> None:
    names = ("one", "two", "three")
    made = [Definition(each, "t", cron_trigger("5 * * * *"), source="a.py") for each in names]
    apply(database, make_manifest(made, [], []), Settings())
    asked = "/acts/schedules?which=all&act=pause"
    page = look(client, asked)
    assert "Pause 3 schedules?" in page.text
    assert "sched schedules pause --all" in page.text
    assert "Every schedule is paused" not in page.text
    page = press(client, asked, "/acts/schedules", reason="fire")
    assert "3 schedules paused, 72 jobs are held." in page.text
    assert "Every schedule is paused" in look(client, "/jobs").text
    resumed = "/acts/schedules?which=picked&act=resume&names=one&names=two&names=nobody"
    assert "Resume 2 schedules?" in look(client, resumed).text
    page = press(client, resumed, "/acts/schedules", names=["one", "two", "nobody"])
    assert "2 schedules resumed: 48 jobs queued" in page.text
    assert "Every schedule is paused" not in look(client, "/").text
    assert query(database, "SELECT name FROM sched_schedules WHERE paused_at IS NOT NULL") == [
        ("three",)
    ]
    few = "/acts/schedules?which=all&act=trigger&q=two"
    assert "1 schedule run now." in press(client, few, "/acts/schedules").text
    look(client, "/acts/schedules?which=picked&act=pause", 422)


def test_a_bar_leads_to_where_its_occurrence_is_skipped_moved_and_run(
    client: TestClient, database: Database
) -> None:
    made = Definition("s", "t", cron_trigger("5 * * * *"), source="a.py", tz="Europe/Berlin")
    apply(database, make_manifest([made], [], []), Settings(horizon=timedelta(hours=3)))
    links = [known.get("href") or "" for _, known in look(client, "/timeline?range=6h").tags]
    first, second = sorted({link for link in links if link.startswith("/jobs/")})[:2]
    unwritten = [link for link in links if link.startswith("/schedules/s/occurrence?")]
    assert "is due now" in press(client, first, f"{first}/run-now").text
    told = press(client, second, "/schedules/s/move", to="2026-01-02T05:30:00").text
    assert "runs at Fri 02 Jan 2026 05:30:00 Europe/Berlin" in told
    (moved,) = query(database, "SELECT run_at FROM sched_overrides")
    assert str(moved[0])[:19].replace("T", " ") == "2026-01-02 04:30:00"
    assert "not written yet" in look(client, unwritten[0]).text
    press(client, unwritten[0], "/schedules/s/skip")
    assert "Decided by hand" in look(client, unwritten[0]).text
    press(client, unwritten[0], "/schedules/s/restore")
    assert len(query(database, "SELECT action FROM sched_overrides")) == 1


def test_the_calendar_tells_of_one_schedule_or_queue(client: TestClient, schedule: str) -> None:
    assert client.get("/timeline.ics").text.count("SUMMARY:s\r\n") > 24
    assert client.get("/timeline.ics?for=3h&schedule=s").text.count("BEGIN:VEVENT") == 3
    for other in ("schedule=other", "queue=other"):
        assert "VEVENT" not in client.get(f"/timeline.ics?{other}").text
    assert "URL:http://localhost/jobs/1\r\n" in client.get("/timeline.ics").text
    look(client, "/timeline.ics?for=99d", 422)


def test_a_time_that_no_occurrence_has_is_refused(client: TestClient, schedule: str) -> None:
    asked = "/schedules/s/occurrence?planned_for=2026-01-05T03:06:00Z"
    assert "has no occurrence at 2026-01-05T03:06:00Z" in look(client, asked, 404).text
    look(client, "/schedules/s/occurrence", 422)


def test_a_waiting_job_is_moved_on_the_clock_that_the_page_shows(
    sqlite_database: Database,
) -> None:
    settings = Settings(tz="America/New_York")
    site = app(authenticate=anybody, settings=settings, database=sqlite_database)
    client = TestClient(site, base_url="http://localhost")
    job_id = add(sqlite_database, run_at=at(3600))
    here = f"/jobs/{job_id}"
    assert "America/New_York" in look(client, here).text
    press(client, here, f"{here}/edit", run_at="", priority="3")
    assert get(sqlite_database, job_id).run_at == at(3600)
    press(client, here, f"{here}/edit", run_at="2026-01-02T09:00:00")
    assert get(sqlite_database, job_id).run_at == datetime(2026, 1, 2, 14, tzinfo=UTC)


def test_every_button_shows_its_command(
    client: TestClient, database: Database, schedule: str
) -> None:
    waiting, ended = add(database, run_at=at(9)), add(database, state="failed", failed_at=at(0))
    for path in (
        f"/jobs/{waiting}",
        f"/jobs/{ended}",
        "/queues",
        "/schedules",
        f"/schedules/{schedule}",
    ):
        page = look(client, path)
        buttons = [
            known for tag, known in page.tags if tag == "button" and known.get("type") is None
        ]
        posting = [action for action, fields in page.forms if "form_token" in fields]
        shown = [each for each in buttons if (each.get("title") or "").startswith("sched ")]
        assert len(shown) == len(posting) > 0, path


def test_a_group_of_failures_shows_the_hours_in_which_they_came(
    client: TestClient, database: Database
) -> None:
    for hours in (0, 0, -5, -30):
        when = at(hours * 3600)
        add(database, state="failed", failed_at=when, finished_at=when, last_error="E: x")
    page = look(client, "/failures")
    bars = [known for tag, known in page.tags if tag == "rect" and known["class"] == "failed"]
    assert [(bar["x"], bar["height"]) for bar in bars] == [("18", "20.0"), ("23", "40.0")]
    (group,) = client.get("/api/v1/failures").json()["data"]
    assert group["by_hour"] == [*[0] * 18, 1, 0, 0, 0, 0, 2]


def test_alerts_are_shown_with_what_is_held_back_and_what_did_not_arrive(
    database: Database, schedule: str
) -> None:
    settings = replace(
        Settings(),
        alerts_command=("/usr/bin/tell", "--token=hidden"),
        alerts_webhook_url="https://hooks.example.com/hidden",
        alerts_daemon_ping="https://ping.example.com/hidden",
    )
    client = TestClient(
        app(authenticate=anybody, settings=settings, database=database),
        base_url="http://localhost",
    )
    assert "no worker and no daemon looks" in look(client, "/alerts").text
    hand_in(database, claim_one(database, max_attempts=1), FAILED)
    heard_looking(database, settings, 0)
    text = look(client, "/alerts").text
    for words in ("gathering", "1 to tell", "ValueError: no"):
        assert words in text
    assert (
        "is told of cause:failed:t:ValueError"
        in press(client, "/alerts", "/alerts/mute", **CAUSE).text
    )
    assert "muted" in look(client, "/alerts").text
    heard_looking(database, settings, 40)
    assert outbox.claim(database, ["command"]) is None
    assert "is told again" in press(client, "/alerts", "/alerts/unmute").text
    heard_looking(database, settings, 5)
    message = outbox.claim(database, ["command"])
    assert message is not None
    assert outbox.failed(database, message, "/usr/bin/tell ended with 1") is not None
    page = look(client, "/alerts")
    assert "/usr/bin/tell ended with 1" in page.text
    assert "t failed: ValueError: no" in page.text
    assert "hooks.example.com, not signed" in page.text
    assert "hidden" not in page.text
    answered = client.get("/api/v1/alerts").json()["data"]
    assert [each["state"] for each in answered if each["kind"] == "failed"] == ["told"]
    messages = client.get("/api/v1/alerts/messages").json()["data"]
    assert {each["state"] for each in messages} == {"waiting"}
    rules = client.get("/api/v1/alerts/rules").json()["data"]
    assert [each["name"] for each in rules["channels"]] == ["webhook", "command"]
    assert "hidden" not in json.dumps([answered, messages, rules])


def heard_looking(database: Database, settings: Settings, seconds: float) -> None:
    """After a while somebody looks for what is to be told."""
    pass_time(database, seconds)
    present = [Presence(kind, kind, kind, 1, "running", settings) for kind in ("worker", "daemon")]
    heartbeat(database, present)
    assert alert_looks.look(database, settings)


def test_an_act_on_many_names_their_number_first(client: TestClient, database: Database) -> None:
    for _ in range(3):
        add(database, state="failed", failed_at=at(0), queue="mail")
    add(database, state="failed", failed_at=at(0))
    asked = "/jobs/confirm?which=all&act=retry&q=queue:mail"
    page = look(client, asked)
    assert "Retry 3 jobs?" in page.text
    assert "sched jobs retry" in page.text
    assert states(database) == ["failed"] * 4  # to look changes nothing
    assert "Retry: 3 jobs." in press(client, asked, "/jobs/act").text
    assert states(database) == ["queued"] * 3 + ["failed"]


def test_an_act_reaches_the_jobs_that_were_picked_and_no_others(
    client: TestClient, database: Database
) -> None:
    first, second, _ = (add(database) for _ in range(3))
    asked = f"/jobs/confirm?which=picked&act=cancel&ids={first}&ids={second}"
    assert "Cancel 2 jobs?" in look(client, asked).text
    press(client, asked, "/jobs/act")
    assert states(database) == ["cancelled", "cancelled", "queued"]
    assert "no job is selected" in look(client, "/jobs/confirm?which=picked&act=cancel", 422).text


def test_a_group_of_failures_is_retried_alone(client: TestClient, database: Database) -> None:
    same = "Traceback\nValueError: no"
    for error in (same, f"another frame\n{same}", "KeyError: 'a'"):
        add(database, state="failed", failed_at=at(0), last_error=error, task="charge")
    page = look(client, "/failures")
    assert re.findall(r"ValueError: no|KeyError: 'a'", page.text) == [
        "ValueError: no",
        "KeyError: 'a'",
    ]
    links = [known["href"] or "" for tag, known in page.tags if tag == "a"]
    retry = next(link for link in links if "act=retry" in link and "ValueError" in link)
    assert "Retry 2 jobs?" in look(client, retry).text
    press(client, retry, "/jobs/act")
    assert states(database) == ["queued", "queued", "failed"]


@pytest.mark.parametrize("path", sorted(ACTS))
def test_no_button_works_without_the_token_of_its_page(
    sqlite_client: TestClient, sqlite_database: Database, path: str
) -> None:
    add(sqlite_database)
    to = path.replace("{job_id:int}", "1").replace("{name:path}", "q").replace("{name}", "s")
    other = TestClient(sqlite_client.app, base_url="http://localhost")
    foreign = dict(look(other, "/jobs/1").forms)["/jobs/1/cancel"]["form_token"]
    sqlite_client.get("/jobs/1")  # has a cookie of its own
    for token in ({}, {"form_token": ""}, {"form_token": foreign}, {"form_token": "x" * 99}):
        found = sqlite_client.post(to, data={**token, "act": "delete", "which": "all"})
        assert (found.status_code, found.json()["code"]) == (403, "old_form")
    assert states(sqlite_database) == ["queued"]


def test_every_route_that_writes_is_one_of_those() -> None:
    routes = [each for each in pages.routes if isinstance(each, Route)]
    assert {each.path for each in routes if "GET" not in (each.methods or ())} == set(ACTS)


def test_the_way_back_leads_nowhere_else(
    sqlite_client: TestClient, sqlite_database: Database
) -> None:
    here = f"/jobs/{add(sqlite_database)}"
    token = dict(look(sqlite_client, here).forms)[f"{here}/cancel"]["form_token"]
    for back in (
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
    ):
        found = sqlite_client.post(
            f"{here}/run-now", data={"form_token": token, "back": back}, follow_redirects=False
        )
        assert (found.status_code, found.headers["location"]) == (303, "/")


def test_a_read_only_site_has_no_buttons(
    sqlite_database: Database, sqlite_client: TestClient
) -> None:
    job_id = add(sqlite_database)
    site = app(authenticate=anybody, database=sqlite_database, settings=Settings(), read_only=True)
    client = TestClient(site, base_url="http://localhost")
    for path in (*READS, f"/jobs/{job_id}"):
        assert not any("form_token" in fields for _, fields in look(client, path).forms), path


def test_what_is_stored_stays_text(client: TestClient, database: Database, schedule: str) -> None:
    values = {
        "task": HOSTILE,
        "queue": HOSTILE,
        "reason": HOSTILE,
        "key": HOSTILE,
        "locked_by": HOSTILE,
    }
    values |= {"args_json": json.dumps({"args": [HOSTILE]}), "last_error": HOSTILE}
    for state in ("queued", "failed", "succeeded"):
        ended = {"finished_at": at(0), "failed_at": at(0)} if state != "queued" else {}
        add(database, **values, state=state, result_json=json.dumps(HOSTILE), **ended)
    operations.pause_queue(database, "q", actor=HOSTILE, reason=HOSTILE)
    execute(database, "UPDATE sched_schedules SET description = :hostile", hostile=HOSTILE)
    jobs = [
        f"/jobs/{job_id}"
        for (job_id,) in query(database, "SELECT id FROM sched_jobs WHERE schedule IS NULL")
    ]
    asked = [f"/jobs?q={HOSTILE}", f"/audit?target={HOSTILE}", f"/schedules?q={HOSTILE}"]
    for path in (*READS, *jobs, *asked, f"/schedules/{schedule}"):
        text = client.get(path, headers=BROWSER).text
        page = Page(text)
        assert [
            known for tag, known in page.tags if tag == "script" and "src" not in known
        ] == [], path
        assert not any(name.startswith("on") for _, known in page.tags for name in known), path
        images = [known["src"] for tag, known in page.tags if tag == "img"]
        assert all((source or "").startswith("/badge/") for source in images), path
        assert "49" not in re.findall(r"onerror=alert\(2\)&gt;(\d\d)", text), path
        assert not re.search(r"\sstyle=", text), "the policy of our pages allows none"


def test_a_search_reads_back_as_it_was_meant() -> None:
    text = 'id:7 state:failed,held queue:mail task:t schedule:s worker:"a b" key:k priority:2..5 since:2h due'
    chosen = read_search(text, NOW)
    assert chosen == Filter(
        ids=(7,),
        states=("failed", "held"),
        queue="mail",
        task="t",
        schedule="s",
        worker="a b",
        key="k",
        min_priority=2,
        max_priority=5,
        due=True,
        since=at(-7200),
    )
    assert read_search(as_search(chosen), NOW) == chosen
    assert read_search("7 mail.welcome", NOW) == Filter(ids=(7,), task="mail.welcome")


@pytest.mark.parametrize(
    "text",
    [
        "colour:red",
        "state:lost",
        "id:x",
        "since:soon",
        "since:2026-01-01",
        "priority:..",
        "priority:high",
    ],
)
def test_a_search_that_cannot_be_read_says_so(sqlite_client: TestClient, text: str) -> None:
    with pytest.raises(Refused):
        read_search(text, NOW)
    assert text in sqlite_client.get("/jobs", params={"q": text}, headers=BROWSER).text


def test_a_page_of_what_went_wrong_is_a_page(sqlite_client: TestClient) -> None:
    assert "Not Found" in look(sqlite_client, "/nowhere", 404).text
    assert "there is no schedule" in look(sqlite_client, "/schedules/none", 404).text


def test_pages_say_that_the_database_is_away() -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    client = TestClient(app(authenticate=anybody, database=away), base_url="http://localhost")
    assert "the database does not answer" in look(client, "/", 503).text
