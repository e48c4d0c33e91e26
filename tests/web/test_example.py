"""The example of a loading bar does what it shows."""

from __future__ import annotations

import sys

import pytest
from starlette.testclient import TestClient

from cronqueue.testing import SchedQueue


def test_a_page_starts_a_report_and_polls_it_to_its_end(
    sched_queue: SchedQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("examples.progress.app", "examples.progress.tasks"):
        monkeypatch.delitem(
            sys.modules, name, raising=False
        )  # its task is registered by the import
    from examples.progress.app import site

    monkeypatch.setattr("time.sleep", lambda seconds: None)
    client = TestClient(site, base_url="http://localhost")
    script = client.get("/progress.js").text
    assert "/progress.js" in client.get("/").text
    asked = {"task": "shop.report", "args": ["2026-10"]}
    assert "/sched/api/v1/jobs" in script
    job_id = client.post("/sched/api/v1/jobs", json=asked).json()["data"]["id"]
    waiting = client.get(f"/sched/api/v1/jobs/{job_id}").json()["data"]
    assert (waiting["state"], waiting["progress"]) == ("queued", None)
    sched_queue.drain()
    ended = client.get(f"/sched/api/v1/jobs/{job_id}").json()["data"]
    assert (ended["state"], ended["result"]) == ("succeeded", {"month": "2026-10", "pages": 40})
    assert ended["progress"]["done"] == 40
