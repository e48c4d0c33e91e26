"""Jobs found by what they carry, and lists of jobs as files."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from cronqueue.database import Database
from cronqueue.queries import Filter
from cronsched import job_search
from cronsched.job_search import Carried, find_all, find_page
from cronsched.web.searching import carried_as_search, take_carried
from job_rows import add, at, states

BROWSER = {"accept": "text/html"}


def add_with(
    database: Database, *args: Any, tags: dict[str, str] | None = None, **named: Any
) -> int:
    return add(
        database,
        args_json=json.dumps({"args": args, "kwargs": named}),
        tags_json=None if tags is None else json.dumps(tags),
    )


def found(database: Database, **carried: str) -> list[int]:
    return [row.id for row in find_page(database, Filter(), Carried(**carried)).rows]


def test_a_job_is_found_by_the_name_or_the_value_of_a_tag_or_by_both(database: Database) -> None:
    acme = add_with(database, tags={"customer": "acme"})
    other = add_with(database, tags={"customer": "other", "of": "acme"})
    add_with(database)
    assert found(database, tag="customer") == [other, acme]
    assert found(database, tag="customer=acme") == [acme]
    assert found(database, tag="acme") == [other, acme]
    assert found(database, tag="cust") == []


def test_a_job_is_found_by_an_argument_at_any_depth(database: Database) -> None:
    seven = add_with(database, 7, [{"order": "No. A-17"}])
    named = add_with(database, user_id=7, at={"$type": "datetime", "value": "2026-01-02T03:04:05"})
    seventeen = add_with(database, 17, True, None)
    assert found(database, argument="7") == [named, seven]
    assert found(database, argument="user_id=7") == [named]
    assert found(database, argument="order=a-17") == [seven]
    assert found(database, argument="at=2026-01") == [named]
    assert found(database, argument="true") == found(database, argument="null") == [seventeen]
    assert found(database, argument="datetime") == []


def test_what_redaction_hides_is_not_found(database: Database) -> None:
    add_with(database, password="hunter2", tags={"api_key": "hunter2"})
    add_with(database, {"$type": "secret", "value": "hunter2"})
    assert found(database, argument="hunter") == found(database, argument="password=h") == []
    assert found(database, tag="hunter2") == []


def test_a_damaged_row_and_a_deep_one_are_passed(sqlite_database: Database) -> None:
    add(sqlite_database, args_json="{")
    add(sqlite_database, args_json="[" * 900 + "7" + "]" * 900)
    sound = add_with(sqlite_database, 7)
    assert sound in found(sqlite_database, argument="7")


def test_a_search_looks_at_so_many_and_says_where_to_go_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_search, "LOOKED_AT", 4)
    monkeypatch.setattr(job_search, "_AT_ONCE", 2)
    first = add_with(database, "wanted")
    for _ in range(5):
        add_with(database, "other")
    wanted = Carried(argument="wanted")
    page = find_page(database, Filter(), wanted)
    assert page.rows == []
    assert page.next is not None
    page = find_page(database, Filter(), wanted, after=page.next)
    assert ([row.id for row in page.rows], page.next) == ([first], None)
    assert [row.id for row in find_all(database, Filter(), wanted)] == [first]


def test_pages_of_what_is_found_follow_each_other(database: Database) -> None:
    ids = [add_with(database, "wanted") for _ in range(5)]
    seen, after = [], None
    for _ in range(3):
        page = find_page(database, Filter(), Carried(argument="wanted"), after=after, limit=2)
        seen += [row.id for row in page.rows]
        after = page.next
    assert (seen, after) == (ids[::-1], None)
    everything = find_all(database, Filter(), Carried(argument="wanted"), limit=3)
    assert [row.id for row in everything] == ids[:1:-1]


def test_the_page_of_jobs_finds_by_priority_tag_and_argument(
    client: TestClient, database: Database
) -> None:
    job_id = add_with(database, "order-17", tags={"customer": "acme"})
    high = add(database, priority=9)
    for search, expected in [
        ("tag:customer=acme arg:ORDER-17", {job_id}),
        ('arg:"order-18"', set()),
        ("priority:9", {high}),
        ("priority:1.. state:queued", {high}),
        ("priority:..0", {job_id}),
    ]:
        text = client.get("/jobs", params={"q": search}, headers=BROWSER).text
        assert {each for each in (job_id, high) if f'"/jobs/{each}"' in text} == expected, search


def test_what_jobs_carry_is_to_look_for_and_not_to_act_by(
    client: TestClient, database: Database
) -> None:
    add_with(database, "order-17")
    asked = {"act": "cancel", "which": "all", "q": "arg:order-17"}
    answer = client.get("/jobs/confirm", params=asked, headers=BROWSER)
    assert answer.status_code == 422
    assert "select them" in answer.text
    page = client.get("/jobs", params={"q": "arg:order-17"}, headers=BROWSER).text
    assert 'value="all"' not in page
    assert states(database) == ["queued"]


def test_an_act_by_priority_shows_its_command(client: TestClient, database: Database) -> None:
    add(database, priority=0)
    add(database, priority=-5)
    asked = {"act": "cancel", "which": "all", "q": "priority:0.."}
    page = client.get("/jobs/confirm", params=asked, headers=BROWSER).text
    assert "Cancel 1 job?" in page
    assert "sched jobs cancel" in page
    assert "--min-priority 0" in page


def test_the_api_finds_by_priority_tag_and_argument(client: TestClient, database: Database) -> None:
    job_id = add_with(database, 7, tags={"customer": "acme"})
    high = add(database, priority=9)

    def ids(**asked: Any) -> list[int]:
        answer = client.get("/api/v1/jobs", params=asked)
        assert answer.status_code == 200, answer.text
        return [each["id"] for each in answer.json()["data"]]

    assert ids(tag="acme", argument="7") == [job_id]
    assert ids(min_priority=1) == [high]
    assert ids(max_priority=-1) == []
    for asked in ({"min_priority": "high"}, {"max_priority": 2**31}, {"tag": ""}):
        assert client.get("/api/v1/jobs", params=asked).status_code == 422


def test_a_search_for_what_jobs_carry_reads_back() -> None:
    rest, carried = take_carried('queue:"a b" tag:customer=acme due arg:"two words"')
    assert rest == 'queue:"a b" due'
    assert carried == Carried("customer=acme", "two words")
    assert take_carried(carried_as_search(carried)) == ("", carried)


def test_the_jobs_of_a_search_are_downloaded_as_csv_that_no_spreadsheet_carries_out(
    client: TestClient, database: Database
) -> None:
    add(database, state="failed", queue="mail", key="=1+1", finished_at=at(0), priority=-5)
    add(database, queue="other")
    answer = client.get("/jobs.csv", params={"q": "queue:mail"})
    assert answer.headers["content-disposition"] == 'attachment; filename="jobs.csv"'
    assert answer.headers["content-type"].startswith("text/csv")
    (row,) = csv.DictReader(answer.text.splitlines())
    assert (row["state"], row["priority"], row["key"]) == ("failed", "-5", "'=1+1")
    assert row["finished_at"].endswith("Z")


def test_the_jobs_of_a_search_are_downloaded_as_lines_of_json_without_secrets(
    client: TestClient, database: Database
) -> None:
    ids = [add_with(database, 7, tags={"token": "hunter2"}) for _ in range(2)]
    answer = client.get("/jobs.jsonl", params={"q": "arg:7"})
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["id"] for row in rows] == ids[::-1]
    assert rows[0]["tags"] == {"token": "***"}
    assert client.get("/jobs.xml").status_code == 404
    assert client.get("/jobs.csv", params={"q": "colour:red"}).status_code == 422


def test_a_download_ends_where_its_page_says(
    client: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronsched.web.job_pages._EXPORTED", 2)
    for _ in range(3):
        add(database)
    assert len(client.get("/jobs.jsonl").text.splitlines()) == 2
    assert "at most 2:" in client.get("/jobs", headers=BROWSER).text
