"""Alerts of real workers and daemons: a channel that hangs holds up nothing, and who dies is told of."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator

import pytest

from alert_sinks import WebSink, web_sink
from job_rows import execute
from services import Stage, eventually

DAILY = """
from cronsched import daily


@daily(at="04:00")
def nightly() -> None: ...
"""


@pytest.fixture
def web() -> Iterator[WebSink]:
    with web_sink() as sink:
        yield sink


def telling(web: WebSink) -> dict[str, str]:
    """The environment of a process that tells a webhook of this machine, as soon as it may."""
    return {
        "SCHED_ALERTS_WEBHOOK_URL": web.url,
        "SCHED_ALERTS_ALLOW": "127.0.0.0/8",
        "SCHED_ALERTS_WAIT": "1s",
    }


def kinds(web: WebSink) -> list[tuple[str, str]]:
    return [
        (each["kind"], each["status"])
        for got in web.received
        for each in json.loads(got.body)["alerts"]
    ]


def test_a_worker_runs_jobs_while_its_webhook_hangs(stage: Stage, web: WebSink) -> None:
    web.gate = threading.Event()
    stage.worker(**telling(web))
    stage.wait_for(stage.enqueue("fail", max_attempts=1), "failed")
    eventually(lambda: web.asked, "a message on its way")
    stage.wait_for(stage.enqueue("quick"))
    assert web.received == []
    web.gate.set()
    eventually(lambda: web.received, "the message")
    assert kinds(web) == [("failed", "firing")]


def test_a_daemon_that_dies_is_told_by_a_worker(sqlite_stage: Stage, web: WebSink) -> None:
    stage = sqlite_stage
    (stage.folder / "schedules" / "nightly.py").write_text(DAILY)
    daemon = stage.daemon()
    daemon.wait_for_line("applied")
    daemon.send(signal.SIGKILL)
    daemon.wait()
    # Half a minute without a sign of life.
    execute(
        stage.database,
        "UPDATE sched_workers SET heartbeat_at = '2026-01-01T00:00:00.000000Z' WHERE kind = 'daemon'",
    )
    stage.worker(**telling(web))
    eventually(lambda: ("daemon", "firing") in kinds(web), "the news")
    stage.daemon()
    eventually(lambda: ("daemon", "resolved") in kinds(web), "the good news")
