"""What is done about alerts by hand: a test of a channel, and a mute from the page of a schedule."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cronqueue.audit import list_acts
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.alerts.muting import list_mutes
from cronsched.web import anybody, app

BROWSER = {"accept": "text/html"}


def site(database: Database, *command: str) -> TestClient:
    settings = replace(Settings(), alerts_command=command)
    return TestClient(
        app(authenticate=anybody, settings=settings, database=database),
        base_url="http://localhost",
    )


def press(client: TestClient, path: str, action: str, **fields: str) -> str:
    """Press the button of a page that leads there; returns the page that follows."""
    page = client.get(path, headers=BROWSER).text
    assert f'action="{action}"' in page
    token = re.findall('name="form_token" value="([^"]+)"', page)[0]
    sent = {"form_token": token, "back": path, **fields}
    return client.post(action, data=sent, headers=BROWSER).text


def test_a_test_is_sent_by_a_channel_from_its_page_and_stands_in_the_audit(
    sqlite_database: Database, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    client = site(sqlite_database, "sh", "-c", f"cat > '{told}'")
    assert "sched alerts test command" in client.get("/alerts", headers=BROWSER).text
    answer = press(client, "/alerts", "/alerts/test", channel="command")
    assert "A test has been sent by command." in answer
    assert "this is a test" in told.read_text(encoding="utf-8")
    (act,) = list_acts(sqlite_database)
    assert (act.action, act.target) == ("test", "alerts channel:command")


def test_a_test_that_does_not_arrive_says_why_and_stands_in_the_audit_too(
    sqlite_database: Database,
) -> None:
    client = site(sqlite_database, "false")
    answer = client.post("/api/v1/alerts/test", json={"channel": "command"})
    assert (answer.status_code, answer.json()["code"]) == (502, "not_sent")
    assert "false" in answer.json()["detail"]
    assert len(list_acts(sqlite_database)) == 1


@pytest.mark.parametrize("channel", ["email", "ping", 7])
def test_a_channel_that_is_not_set_up_is_refused(
    sqlite_database: Database, channel: object
) -> None:
    client = site(sqlite_database, "true")
    answer = client.post("/api/v1/alerts/test", json={"channel": channel})
    assert answer.status_code == 422, answer.text
    assert list_acts(sqlite_database) == []
    assert json.loads(client.post("/api/v1/alerts/test", json={"channel": "command"}).text) == {
        "data": {"done": "sent"}
    }


def test_alerts_of_a_schedule_are_muted_from_its_page(
    sqlite_database: Database, sqlite_client: TestClient, sqlite_schedule: str
) -> None:
    here, target = f"/schedules/{sqlite_schedule}", f"schedule:{sqlite_schedule}"
    answer = press(sqlite_client, here, "/alerts/mute", target=target, **{"for": "1h"})
    assert "alerts muted" in answer
    assert f"sched alerts unmute {target}" in answer
    assert [each.target for each in list_mutes(sqlite_database)] == [target]
    assert "alerts muted" not in press(sqlite_client, here, "/alerts/unmute", target=target)
    assert list_mutes(sqlite_database) == []
