"""What Prometheus reads of a site."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from cronqueue.database import Database
from cronqueue.operations import pause_queue
from cronqueue.settings import Settings
from cronsched import metrics
from cronsched.metrics import LAG, LONGEST_GAP, MOST_QUEUES, Totals, collect, exposition
from cronsched.web import anybody, app
from job_rows import add, at, execute, pass_time, recorded_statements

PASSWORD, TOKEN = "correct horse battery", "0123456789abcdef"
LINE = re.compile(r'(\w+)(\{(?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[0-9.]+)')
Scrape = Callable[[], dict[str, float]]


def read(text: str) -> dict[str, float]:
    """Every line's value; a line that is no metric fails."""
    lines = [line for line in text.splitlines() if not line.startswith("# ")]
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    assert text.endswith("\n")
    return {each[1] + (each[2] or ""): float(each[3]) for each in found if each}


@pytest.fixture
def scrape(database: Database) -> Scrape:
    """One process that is asked again and again."""
    totals = Totals()
    return lambda: read(exposition(collect(database, totals)))


def register(database: Database, kind: str, heard: float = 0.0, **values: object) -> None:
    row = {
        "id": f"{kind} {heard}", "kind": kind, "name": "w", "host": "h", "pid": 7, "version": "1",
        "state": "running", "concurrency": 8, "clock_skew": 0.5,
        "started_at": database.moment(at(0)), "heartbeat_at": database.moment(at(heard)),
    } | values  # fmt: skip
    names = ", ".join(row)
    values_sql = ", ".join(f":{name}" for name in row)
    execute(database, f"INSERT INTO sched_workers ({names}) VALUES ({values_sql})", **row)


def test_the_site_serves_them_as_text(client: TestClient, database: Database) -> None:
    add(database)
    found = client.get("/metrics")
    assert found.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    served = read(found.text)
    assert served["sched_database_up"] == 1
    assert served['sched_jobs_due{queue="default"}'] == 1


def test_every_metric_has_its_meaning_and_its_kind(database: Database) -> None:
    text = exposition(collect(database, Totals()))
    helped = re.findall(r"^# HELP (\w+) \S", text, re.MULTILINE)
    typed = re.findall(r"^# TYPE (\w+) (?:gauge|counter|histogram)$", text, re.MULTILINE)
    assert helped == typed
    assert len(set(helped)) == len(helped) > 15
    assert all(name.startswith("sched_") for name in helped)


def test_a_queue_tells_what_it_holds(database: Database, scrape: Scrape) -> None:
    add(database, queue="mail", run_at=at(-90))
    add(database, queue="mail", run_at=at(-30))
    add(database, queue="mail", run_at=at(119), gated=True, guard="g")
    add(database, queue="mail", run_at=at(121))
    add(database, queue="mail", state="held", held_reason="unknown_task")
    add(database, queue="mail", state="failed", finished_at=at(-5))
    add(database, queue="mail", state="succeeded", finished_at=at(-5))
    add(database, queue="web", state="running", lock_token="t", locked_until=at(9))
    pause_queue(database, "web", actor="ann")
    found = scrape()
    expected = {
        'sched_jobs{queue="mail",state="queued"}': 4,
        'sched_jobs{queue="mail",state="held"}': 1,
        'sched_jobs{queue="mail",state="failed"}': 1,
        'sched_jobs{queue="mail",state="running"}': 0,
        'sched_jobs{queue="web",state="running"}': 1,
        'sched_jobs_held{queue="mail",reason="unknown_task"}': 1,
        'sched_jobs_due{queue="mail"}': 2,
        'sched_jobs_due_soon{queue="mail"}': 1,
        'sched_oldest_due_age_seconds{queue="mail"}': 90,
        'sched_oldest_due_age_seconds{queue="web"}': 0,
        'sched_queue_paused{queue="mail"}': 0,
        'sched_queue_paused{queue="web"}': 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert not any("succeeded" in name for name in found if name.startswith("sched_jobs{"))


def test_what_ends_is_counted_from_the_first_scrape_on(database: Database, scrape: Scrape) -> None:
    add(database, queue="mail", state="succeeded", finished_at=at(-20), started_at=at(-21))
    scrape()
    add(
        database, queue="mail", state="succeeded", run_at=at(0), started_at=at(4), finished_at=at(5)
    )
    add(database, queue="mail", state="failed", finished_at=at(6))
    pass_time(database, 6 + LAG.total_seconds())
    for _ in range(2):  # what was counted is not counted again
        found = scrape()
        assert found['sched_jobs_ended_total{queue="mail",state="succeeded"}'] == 1
        assert found['sched_jobs_ended_total{queue="mail",state="failed"}'] == 1
        assert found['sched_jobs_ended_total{queue="mail",state="skipped"}'] == 0
        assert found['sched_job_wait_seconds_sum{queue="mail"}'] == pytest.approx(4, abs=0.001)
        assert found['sched_job_run_seconds_bucket{queue="mail",le="0.5"}'] == 0
        assert found['sched_job_run_seconds_bucket{queue="mail",le="5"}'] == 1
        assert found['sched_job_run_seconds_bucket{queue="mail",le="+Inf"}'] == 1
        assert found['sched_job_run_seconds_count{queue="mail"}'] == 1


def test_an_end_is_counted_once_those_that_began_before_it_have_committed(
    database: Database, scrape: Scrape
) -> None:
    scrape()
    pass_time(database, 20)
    scrape()
    for seconds in (15, 16):  # the second commits later than one that is counted next
        add(database, state="failed", finished_at=at(seconds))
        pass_time(database, 3)
        scrape()
    pass_time(database, LAG.total_seconds())
    assert scrape()['sched_jobs_ended_total{queue="default",state="failed"}'] == 2


def test_what_ended_while_nobody_asked_for_long_is_left_out(
    database: Database, scrape: Scrape
) -> None:
    scrape()
    add(database, state="failed", finished_at=at(5))
    pass_time(database, LONGEST_GAP.total_seconds() + 60)
    assert scrape()['sched_jobs_ended_total{queue="default",state="failed"}'] == 0


def test_a_database_whose_clock_goes_back_is_counted_on_from_there(
    database: Database, scrape: Scrape
) -> None:
    pass_time(database, 86_400)
    scrape()
    pass_time(database, -86_400)
    scrape()
    add(database, state="failed", finished_at=at(1))
    pass_time(database, 30)
    assert scrape()['sched_jobs_ended_total{queue="default",state="failed"}'] == 1


def test_processes_are_told_by_what_they_are(database: Database, scrape: Scrape) -> None:
    register(database, "worker")
    register(database, "worker", heard=-31)
    register(database, "daemon", clock_skew=-2.0)
    found = scrape()
    assert found['sched_workers{state="running"}'] == 1
    assert found['sched_workers{state="silent"}'] == 1
    assert (found["sched_places"], found["sched_daemons"]) == (8, 1)
    assert found["sched_clock_skew_seconds"] == 2


@pytest.mark.usefixtures("schedule")
def test_schedules_that_nobody_writes_on_are_late(database: Database, scrape: Scrape) -> None:
    found = scrape()
    assert found['sched_schedules{state="active"}'] == 1
    assert (found["sched_schedules_late"], found["sched_files_faulty"]) == (0, 0)
    covered = found["sched_covered_seconds"]
    assert covered > 3600
    pass_time(database, 86_400)
    execute(database, "UPDATE sched_schedules SET paused_at = valid_from")
    found = scrape()
    assert found["sched_schedules_late"] == 1
    assert found["sched_covered_seconds"] == covered - 86_400
    assert found['sched_schedules{state="paused"}'] == 1


def test_names_that_need_it_are_escaped(database: Database, scrape: Scrape) -> None:
    add(database, queue='a"b\\c\nd')
    assert scrape()['sched_jobs_due{queue="a\\"b\\\\c\\nd"}'] == 1


def test_many_queues_are_summed_up_behind_the_first(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_QUEUES == 200
    monkeypatch.setattr(metrics, "MOST_QUEUES", 2)
    totals = Totals()
    for queue in "abcd":
        add(sqlite_database, queue=queue)
    collect(sqlite_database, totals)
    execute(sqlite_database, "DELETE FROM sched_jobs WHERE queue = 'a'")
    found = read(exposition(collect(sqlite_database, totals)))
    due = {name: value for name, value in found.items() if name.startswith("sched_jobs_due{")}
    assert due == {
        'sched_jobs_due{queue="b"}': 1,
        'sched_jobs_due{queue="(others)"}': 2,
    }, "and those behind do not come forward"


def test_many_scrapers_ask_the_database_once(
    sqlite_client: TestClient, sqlite_database: Database
) -> None:
    sqlite_client.get("/metrics")
    with recorded_statements(sqlite_database) as seen:
        texts = {sqlite_client.get("/metrics").text for _ in range(5)}
    assert (len(texts), seen) == (1, [])


def test_without_the_database_they_say_so(caplog: pytest.LogCaptureFixture) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    client = TestClient(app(authenticate=anybody, database=away), base_url="http://localhost")
    found = client.get("/metrics")
    assert found.status_code == 200
    assert read(found.text)["sched_database_up"] == 0
    assert "sched_jobs" not in found.text
    assert "no metrics from the database: the database does not answer" in caplog.text


def test_they_are_for_those_who_may_come_in_unless_the_settings_open_them(
    sqlite_database: Database,
) -> None:
    def site(**more: bool) -> TestClient:
        settings = Settings(web_password=PASSWORD, web_token=TOKEN, **more)  # type: ignore[arg-type]
        made = app(settings=settings, database=sqlite_database)
        return TestClient(made, base_url="http://localhost")

    assert site().get("/metrics").status_code == 401
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert site().get("/metrics", headers=bearer).status_code == 200
    opened = site(web_open_metrics=True)
    assert opened.get("/metrics").status_code == 200
    assert opened.get("/metrics", headers={"host": "10.0.0.7:8321"}).status_code == 200
    assert opened.get("/").status_code == 401
