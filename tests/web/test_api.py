"""The API: what a page polls, lists page by page, acts, one shape of problems, the document of it all."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from cronqueue import job, operations
from cronqueue.database import Database
from cronqueue.loglines import write_lines
from cronqueue.prune import forget_requests
from cronqueue.retry import Verdict
from cronsched.web import api_events
from job_rows import add, at, claim_one, execute, get, hand_in, pass_time, query, said

API = "/api/v1"
FAILED = Verdict("failed", error="Traceback\nValueError: no", attempt_outcome="failed")


def read(client: TestClient, path: str, **asked: Any) -> Any:
    found = client.get(API + path, params=asked)
    assert found.status_code == 200, found.text
    return found.json()


def do(client: TestClient, path: str, **body: Any) -> Any:
    found = client.post(API + path, json=body)
    assert found.status_code in (200, 201), found.text
    return found.json()["data"]


def refused(found: Any) -> tuple[int, str]:
    """Status and word of a problem, which has the one shape that all have."""
    assert found.headers["content-type"] == "application/problem+json"
    problem = found.json()
    assert problem.keys() == {"type", "title", "status", "code", "detail"}
    assert problem["status"] == found.status_code
    return found.status_code, problem["code"]


def test_a_page_polls_state_progress_and_result_of_a_job(
    client: TestClient, database: Database
) -> None:
    running = claim_one(database, task="report")
    execute(
        database,
        "UPDATE sched_jobs SET progress = :progress WHERE id = :id",
        id=running.id,
        progress='{"done": 3, "total": 10, "message": "page 3"}',
    )
    shown = read(client, f"/jobs/{running.id}")["data"]
    assert (shown["state"], shown["progress"]["done"], shown["result"]) == ("running", 3, None)
    hand_in(database, running, Verdict("succeeded", result_json='{"url": "/report.pdf"}'))
    shown = read(client, f"/jobs/{running.id}")["data"]
    assert (shown["state"], shown["result"]) == ("succeeded", {"url": "/report.pdf"})


def test_a_failed_job_shows_its_error_and_its_attempts(
    client: TestClient, database: Database
) -> None:
    running = claim_one(database, task="t", max_attempts=1)
    hand_in(database, running, FAILED)
    shown = read(client, f"/jobs/{running.id}")["data"]
    assert shown["last_error"].endswith("ValueError: no")
    assert [each["outcome"] for each in shown["failed_attempts"]] == ["failed"]
    (group,) = read(client, "/failures")["data"]
    assert (group["task"], group["error"], group["count"]) == ("t", "ValueError: no", 1)


@pytest.mark.parametrize("order", ["newest", "next", "ended"])
def test_pages_of_a_list_hold_every_job_once_although_times_are_equal(
    client: TestClient, database: Database, order: str
) -> None:
    for number in range(7):
        add(database, state="cancelled", run_at=at(number // 3), finished_at=at(number // 3))
    seen: list[int] = []
    after = None
    while True:
        asked = {"order": order, "limit": 2} | ({"after": after} if after else {})
        found = read(client, "/jobs", **asked)
        seen += [row["id"] for row in found["data"]]
        add(database, state="cancelled", run_at=at(-1), finished_at=at(9))  # comes in between
        if (after := found["next"]) is None or len(seen) > 20:
            break
    expected = list(range(1, 8)) if order == "next" else list(range(7, 0, -1))
    assert [job_id for job_id in seen if job_id <= 7] == expected


def test_jobs_are_found_by_state_queue_task_and_key(client: TestClient, database: Database) -> None:
    mail = add(database, queue="mail", task="send", key="k", unique_key="k")
    add(database)
    add(database, state="failed", failed_at=at(0))
    for asked in (
        {"queue": "mail"},
        {"task": "send"},
        {"key": "k"},
        {"state": "queued", "queue": "mail"},
    ):
        assert [row["id"] for row in read(client, "/jobs", **asked)["data"]] == [mail]
    assert len(read(client, "/jobs", state="queued,failed")["data"]) == 3


@pytest.mark.parametrize(
    "asked",
    [
        {"state": "lost"},
        {"limit": "0"},
        {"limit": "1e3"},
        {"after": "x"},
        {"after": "1~yesterday"},
        {"after": "9" * 30},
        {"since": "2026-01-01T00:00:00"},
        {"order": "best"},
        {"queue": "a\0b"},
        {"queue": ""},
        {"state": ""},
        {"due": "no"},
        {"limit": ["1", "2"]},
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    sqlite_client: TestClient, asked: dict[str, Any]
) -> None:
    assert refused(sqlite_client.get(f"{API}/jobs", params=asked)) == (422, "invalid")


def test_what_is_not_there_is_a_problem_of_the_same_shape(sqlite_client: TestClient) -> None:
    for path in (
        "/jobs/7",
        f"/jobs/{2**70}",
        "/schedules/none",
        "/nowhere",
        "/jobs/7/events",
        "/jobs/7/log",
    ):
        assert refused(sqlite_client.get(API + path)) == (404, "not_found"), path
    found = sqlite_client.put(f"{API}/jobs")
    assert refused(found) == (405, "method_not_allowed")
    assert set(found.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


def test_only_tasks_that_are_marked_for_it_are_enqueued(
    client: TestClient, database: Database
) -> None:
    @job(name="public", api=True, queue="reports")
    def public(month: str) -> None:
        """Make a report."""

    @job(name="private")
    def private() -> None: ...

    assert [each["name"] for each in read(client, "/tasks")["data"]] == ["public"]
    stored = do(client, "/jobs", task="public", args=["May"], delay="5m", priority=3)
    row = get(database, stored["id"])
    assert (row.queue, row.priority, row.run_at, stored["created"]) == ("reports", 3, at(300), True)
    for name in ("private", "unknown"):
        assert refused(client.post(f"{API}/jobs", json={"task": name})) == (403, "not_public")
    for body in (
        {"task": "public"},
        {"task": "public", "args": "May"},
        {"task": "public", "args": ["May"], "colour": "red"},
        {"task": "public", "args": ["May"], "run_at": "soon"},
        {"task": "public", "args": ["May"], "priority": True},
        {"task": "public", "args": ["May"], "queue": "a\0"},
        {"task": "public", "args": ["May"], "queue": None},
        {},
    ):
        assert refused(client.post(f"{API}/jobs", json=body)) == (422, "invalid"), body
    assert len(query(database, "SELECT id FROM sched_jobs")) == 1


def test_a_key_enqueues_once(client: TestClient, database: Database) -> None:
    @job(name="public", api=True)
    def public() -> None: ...

    first, second = (do(client, "/jobs", task="public", key="k") for _ in range(2))
    assert (first["id"], first["created"], second["created"]) == (second["id"], True, False)


def test_a_request_that_is_sent_again_enqueues_once_even_after_its_job_has_ended(
    client: TestClient, database: Database
) -> None:
    @job(name="public", api=True)
    def public(month: str) -> None: ...

    def send(month: str, key: str = "order-7") -> Any:
        asked = {"task": "public", "args": [month]}
        return client.post(f"{API}/jobs", json=asked, headers={"idempotency-key": key})

    first = send("May").json()["data"]
    execute(database, "UPDATE sched_jobs SET state = 'succeeded'")
    again = send("May").json()["data"]
    assert (first["created"], again) == (True, {**first, "state": "succeeded", "created": False})
    assert refused(send("June")) == (409, "conflict")
    assert refused(send("May", "x" * 201)) == (422, "invalid")
    assert len(query(database, "SELECT id FROM sched_jobs")) == 1
    pass_time(database, 25 * 3600)
    assert forget_requests(database, timedelta(days=1)) == 1
    assert send("May").json()["data"]["created"] is True


def test_a_request_that_fails_leaves_its_key_free(client: TestClient, database: Database) -> None:
    @job(name="public", api=True)
    def public(month: str) -> None: ...

    key = {"idempotency-key": "order-7"}
    asked = {"task": "public", "args": ["May"], "run_at": "1960-01-01T00:00:00Z"}
    assert refused(client.post(f"{API}/jobs", json=asked, headers=key)) == (422, "invalid")
    assert query(database, "SELECT key FROM sched_requests") == []


def test_acts_are_done_and_stand_in_the_audit_under_the_name_of_who_asked(
    client: TestClient, database: Database
) -> None:
    waiting = add(database, run_at=at(3600))
    assert do(client, f"/jobs/{waiting}/run-now") == {"done": "due now"}
    assert do(client, f"/jobs/{waiting}/cancel", reason="not needed") == {"done": "cancelled"}
    assert do(client, f"/jobs/{waiting}/retry") == {"done": "queued again"}
    gone = client.request("DELETE", f"{API}/jobs/{waiting}", json={})
    assert gone.json()["data"] == {"done": "deleted"}
    running = claim_one(database)
    assert do(client, f"/jobs/{running.id}/cancel") == {"done": "asked to stop"}
    assert refused(client.post(f"{API}/jobs/{running.id}/retry", json={})) == (409, "conflict")
    acts = read(client, "/audit")["data"]
    assert [each["action"] for each in acts] == ["cancel", "delete", "retry", "cancel", "run-now"]
    assert {each["actor"] for each in acts} == {"web@testclient"}
    assert acts[3]["detail"] == {"reason": "not needed"}


def test_queues_and_schedules_are_paused_and_resumed(
    client: TestClient, database: Database, schedule: str
) -> None:
    add(database, queue="a/b")
    assert do(client, "/queues/a%2Fb/pause", reason="repairs", until="2026-01-03T00:00:00Z")
    (queue,) = [each for each in read(client, "/queues")["data"] if each["name"] == "a/b"]
    assert (queue["paused"]["by"], queue["paused"]["reason"]) == ("web@testclient", "repairs")
    assert do(client, "/queues/a%2Fb/resume") == {"done": "resumed"}
    assert do(client, f"/schedules/{schedule}/pause") == {"done": "paused", "held": 24}
    assert read(client, f"/schedules/{schedule}")["data"]["state"] == "paused"
    assert do(client, f"/schedules/{schedule}/resume")["queued"] == 24
    triggered = do(client, f"/schedules/{schedule}/trigger")["id"]
    assert get(database, triggered).origin == "manual"
    skipped = do(client, f"/schedules/{schedule}/skip", planned_for="2026-01-02T03:05:00Z")
    assert skipped["reached"] == "done"
    moved = {"planned_for": "2026-01-02T04:05:00Z", "to": "2026-01-02T04:30:00Z"}
    assert do(client, f"/schedules/{schedule}/move", **moved)["reached"] == "done"
    assert (
        str(query(database, "SELECT run_at FROM sched_overrides WHERE action = 'move'")[0][0])[
            14:16
        ]
        == "30"
    )
    del moved["to"]
    assert do(client, f"/schedules/{schedule}/restore", **moved)["done"] == "restored"
    pass_time(database, 120)
    (newest,) = read(client, f"/schedules/{schedule}")["data"]["history"]
    assert newest["verdict"] == "skipped:override"


def test_all_schedules_are_paused_and_resumed_after_their_number_was_asked_for(
    client: TestClient, database: Database, schedule: str
) -> None:
    def ask(act: str, **body: Any) -> Any:
        return client.post(f"{API}/{act}", json=body).json()["data"]

    assert ask("pause", dry_run=True) == {"done": "nothing", "schedules": 1}
    assert read(client, f"/schedules/{schedule}")["data"]["state"] == "active"
    done = ask("pause", reason="repairs", until="2090-01-01T00:00:00Z")
    assert (done["done"], done["schedules"]) == ("paused", 1)
    assert done["held"] > 0
    assert read(client, f"/schedules/{schedule}")["data"]["state"] == "paused"
    assert ask("pause", dry_run=True)["schedules"] == 0
    assert ask("resume", dry_run=True) == {"done": "nothing", "schedules": 1}
    assert ask("resume")["schedules"] == 1
    assert read(client, f"/schedules/{schedule}")["data"]["state"] == "active"


def test_an_explanation_says_why_a_job_waits(client: TestClient, database: Database) -> None:
    operations.pause_queue(database, "default", actor="ann")
    codes = [each["code"] for each in read(client, f"/jobs/{add(database)}/explanation")["data"]]
    assert codes == ["queue_paused", "no_worker"]


def test_what_looks_like_a_secret_is_not_shown(client: TestClient, database: Database) -> None:
    arguments = {"args": [{"api_key": "s3cret"}], "kwargs": {"password": "s3cret", "name": "Ann"}}
    job_id = add(database, args_json=json.dumps(arguments))
    found = client.get(f"{API}/jobs/{job_id}")
    assert "s3cret" not in found.text
    assert found.json()["data"]["args"]["kwargs"] == {"password": "***", "name": "Ann"}


def test_events_of_a_job_end_with_it(client: TestClient, database: Database) -> None:
    running = claim_one(database)
    hand_in(database, running)
    with client.stream("GET", f"{API}/jobs/{running.id}/events") as stream:
        told = "".join(stream.iter_text())
    head, _, data = told.partition("\ndata: ")
    assert head == "event: job"
    assert json.loads(data)["state"] == "succeeded"


def test_the_log_of_a_job_is_read_a_page_at_a_time(client: TestClient, database: Database) -> None:
    claimed = claim_one(database)
    write_lines(database, [said(claimed, number, str(number)) for number in range(1, 6)])
    first = read(client, f"/jobs/{claimed.id}/log", limit=3)
    assert [each["message"] for each in first["data"]] == ["1", "2", "3"]
    assert first["data"][0].keys() == {"claim", "number", "attempt", "at", "level", "message"}
    rest = read(client, f"/jobs/{claimed.id}/log", limit=3, after=first["next"])
    assert ([each["message"] for each in rest["data"]], rest.get("next")) == (["4", "5"], None)
    last = rest["data"][-1]
    known = f"{last['claim']}.{last['number']}"
    assert read(client, f"/jobs/{claimed.id}/log", after=known)["data"] == []
    for wrong in ("7", "1.", "x.1", "1.²", "1." + "9" * 30):
        found = client.get(f"{API}/jobs/{claimed.id}/log", params={"after": wrong})
        assert refused(found) == (422, "invalid")


def test_events_of_a_job_tell_what_it_logs_from_where_somebody_has_read(
    client: TestClient, database: Database
) -> None:
    claimed = claim_one(database)
    many = api_events.LINES + 2
    write_lines(database, [said(claimed, number, f"n{number}") for number in range(1, many + 1)])
    hand_in(database, claimed)

    def told(**headers: str) -> list[str]:
        with client.stream("GET", f"{API}/jobs/{claimed.id}/events", headers=headers) as stream:
            return re.findall(r'"message": "n(\d+)"', "".join(stream.iter_text()))

    assert told() == [str(number) for number in range(1, many + 1)]
    assert told(**{"last-event-id": f"{claimed.token}.{many - 1}"}) == [str(many)]
    assert told(**{"last-event-id": f"{claimed.token}.{many}"}) == []


def test_the_document_names_every_route_and_fits_the_answers(
    client: TestClient, database: Database, schedule: str
) -> None:
    job_id = add(database)
    document = client.get(f"{API}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    places = {"{job_id}": str(job_id), "{name}": schedule}
    for path, methods in document["paths"].items():
        if "get" not in methods or path.endswith(("events", "openapi.json")):
            continue
        for place, value in places.items():
            path = path.replace(place, value)  # noqa: PLW2901
        answer = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert misfits(client.get(path).json(), answer, path) == []


def misfits(value: Any, schema: dict[str, Any], place: str) -> list[str]:
    """Where a value is not what its schema says; as far as we use schemas."""
    if "anyOf" in schema:
        fits = any(not misfits(value, each, place) for each in schema["anyOf"])
        return [] if fits else [f"{place}: {value!r}"]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    named = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    kind = named.get(type(value), "object" if isinstance(value, dict) else "array")
    if kinds and kind not in kinds and not (kind == "integer" and "number" in kinds):
        return [f"{place}: {kind}, not {kinds}"]
    found = []
    if isinstance(value, dict) and "properties" in schema:
        required = set(schema["required"])
        found = [] if required == value.keys() else [f"{place}: {required ^ value.keys()}"]
        for name, each in value.items():
            found += misfits(each, schema["properties"].get(name, {}), f"{place}.{name}")
    if isinstance(value, list):
        for number, each in enumerate(value):
            found += misfits(each, schema.get("items", {}), f"{place}[{number}]")
    return found


def test_a_waiting_job_is_changed(client: TestClient, database: Database) -> None:
    job_id = add(database)
    done = do(
        client, f"/jobs/{job_id}/edit", priority=9, queue="mail", run_at="2090-01-01T00:00:00Z"
    )
    assert done == {"done": "changed"}
    row = get(database, job_id)
    assert (row.priority, row.queue, row.run_at.year) == (9, "mail", 2090)
    ended = add(database, state="failed", failed_at=at(0))
    answer = client.post(f"{API}/jobs/{ended}/edit", json={"priority": 1})
    assert refused(answer) == (409, "conflict")
    assert refused(client.post(f"{API}/jobs/{job_id}/edit", json={})) == (422, "invalid")


def test_arguments_are_changed_of_a_task_that_may_be_enqueued_here_and_of_no_other(
    client: TestClient, database: Database
) -> None:
    @job(name="edited.public", api=True)
    def public(user_id: int) -> None: ...

    @job(name="edited.private")
    def private(user_id: int) -> None: ...

    job_id, other = (add(database, task=each.name) for each in (public, private))
    do(client, f"/jobs/{job_id}/edit", kwargs={"user_id": 7})
    assert json.loads(get(database, job_id).args_json) == {"args": [], "kwargs": {"user_id": 7}}
    unfit = client.post(f"{API}/jobs/{job_id}/edit", json={"args": [1, 2]})
    assert refused(unfit) == (422, "invalid")
    answer = client.post(f"{API}/jobs/{other}/edit", json={"args": [7]})
    assert refused(answer) == (403, "not_public")
    assert json.loads(get(database, other).args_json)["args"] == []
