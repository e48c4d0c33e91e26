"""Alerts from the row to the channel: found once, sent once, tried again, whoever dies over it."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alert_sinks import MailSink, WebSink, mail_sink, web_sink
from cronqueue import configuration
from cronqueue.database import Database
from cronqueue.errors import DefinitionError, StateError
from cronqueue.registration import Presence, heartbeat, sign_off
from cronqueue.settings import Settings
from cronsched import sweeps
from cronsched.alerts import muting, outbox
from cronsched.alerts.looking import LOOK_PERIOD, look, ping_of_daemon
from cronsched.alerts.recent import recent_alerts
from cronsched.alerts.sending import send_due
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.sweeps import sweep_schedules
from cronsched.triggers import Every
from job_rows import NOW, add, configured, execute, opened, pass_time, query

SOON = timedelta(seconds=30)
MINUTELY = Definition(name="m", task="t", trigger=Every(60), source="a.py")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still, with a daemon and a worker that were heard of just now."""
    for database in opened(database_url):
        with configured(database):
            say_we_are_there(database)
            yield database


@pytest.fixture
def web() -> Iterator[WebSink]:
    with web_sink() as sink:
        yield sink


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


def posting(web: WebSink, **values: Any) -> Settings:
    """Settings with a webhook of this machine."""
    return replace(
        Settings(), alerts_webhook_url=web.url + "/hook", alerts_allow=("127.0.0.0/8",), **values
    )


def say_we_are_there(database: Database, *, daemon: bool = True, worker: bool = True) -> None:
    settings = Settings()
    present = [Presence("w", "worker", "w", 1, "running", settings)] * worker
    present += [Presence("d", "daemon", "d", 2, "running", settings)] * daemon
    heartbeat(database, present)


def fail(database: Database, **values: Any) -> int:
    """A job that has just failed for good."""
    now = database.server_now()
    error = 'Traceback (most recent call last):\n  File "x.py", line 1, in t\nValueError: no card'
    ended = {"state": "failed", "finished_at": now, "failed_at": now, "last_error": error}
    secret = '{"args": ["the-argument"], "kwargs": {}}'
    return add(database, **{"args_json": secret, **ended, **values})


def turn(database: Database, settings: Settings, seconds: float, **there: bool) -> int:
    """Time passes in which the processes give their signs of life; then a look, and what is due is sent."""
    pass_time(database, seconds)
    say_we_are_there(database, **there)
    look(database, settings)
    return send_due(database, settings)


def alerts(web: WebSink) -> list[dict[str, Any]]:
    """What the webhook has been told, alert by alert."""
    return [each for got in web.received for each in json.loads(got.body)["alerts"]]


def test_a_failed_job_reaches_every_channel_without_its_arguments(
    database: Database, web: WebSink, mail: MailSink, tmp_path: Path
) -> None:
    script, written = tmp_path / "tell.py", tmp_path / "told.json"
    script.write_text("import sys; open(sys.argv[1], 'w').write(sys.stdin.read())")
    settings = posting(
        web,
        alerts_webhook_secret="a key of some length",
        alerts_email_to=("ops@example.com",),
        alerts_smtp_url=f"smtp://127.0.0.1:{mail.port}",
        alerts_command=(sys.executable, str(script), str(written)),
    )
    number = fail(database)
    assert turn(database, settings, 5) == 0
    assert turn(database, settings, 30) == 3
    (told,) = alerts(web)
    assert (told["kind"], told["status"], told["named"]) == ("failed", "firing", [number])
    assert told["message"] == "ValueError: no card"
    assert written.read_bytes() == web.received[0].body
    assert mail.mails[0]["Subject"] == "[sched] t failed: ValueError: no card"
    assert mail.recipients == ["<ops@example.com>"]
    everything = web.received[0].body.decode() + mail.mails[0].as_string()
    assert "the-argument" not in everything
    assert turn(database, settings, 60) == 0


@pytest.mark.parametrize("target", ["all", "task:t", "cause:failed:t:ValueError"])
def test_what_is_muted_is_counted_and_told_when_the_mute_has_ended(
    database: Database, web: WebSink, target: str
) -> None:
    settings = posting(web)
    muting.mute(database, target, until=NOW + timedelta(minutes=5), actor="ann", reason="known")
    fail(database)
    fail(database, task="other") if target != "all" else None
    for _ in range(3):
        turn(database, settings, 40)
    assert [each["subject"] for each in alerts(web)] == ([] if target == "all" else ["other"])
    (muted,) = [each for each in recent_alerts(database, 9) if each.subject == "t"]
    assert (muted.untold, muted.muted_until) == (1, NOW + timedelta(minutes=5))
    fail(database)
    turn(database, settings, 5 * 60)
    (told,) = [each for each in alerts(web) if each["subject"] == "t"]
    assert told["count"] == 2
    assert muting.list_mutes(database) == []


def test_a_mute_outlasts_what_is_forgotten_and_ends_when_somebody_ends_it(
    database: Database, web: WebSink
) -> None:
    settings = posting(web)
    muting.mute(database, "schedule:s", until=NOW + timedelta(days=9), actor="ann", reason="known")
    pass_time(database, (timedelta(days=3) - timedelta(minutes=NOW.minute)).total_seconds())
    look(database, settings)  # in the minute in which what is old is deleted
    (found,) = muting.list_mutes(database)
    assert (found.target, found.by, found.reason) == ("schedule:s", "ann", "known")
    muting.mute(database, "schedule:s", until=NOW + timedelta(days=8), actor="bob")
    assert [each.by for each in muting.list_mutes(database)] == ["bob"]
    muting.unmute(database, "schedule:s", actor="bob")
    assert muting.list_mutes(database) == []
    with pytest.raises(StateError, match="is not muted"):
        muting.unmute(database, "schedule:s", actor="bob")
    acts = query(database, "SELECT action, target FROM sched_audit ORDER BY id")
    assert acts == [(each, "alerts schedule:s") for each in ("mute", "mute", "unmute")]


@pytest.mark.parametrize("target", ["", "everything", "task:", "queue:mail", "cause:" + "x" * 500])
def test_what_cannot_be_muted_is_refused(database: Database, target: str) -> None:
    with pytest.raises(DefinitionError, match="cannot be muted"):
        muting.mute(database, target, until=NOW + SOON, actor="ann")


def test_what_is_posted_is_signed_with_its_time(database: Database, web: WebSink) -> None:
    settings = posting(web, alerts_webhook_secret="a key of some length")
    fail(database)
    turn(database, settings, 5)
    turn(database, settings, 30)
    (got,) = web.received
    signed = got.headers["Sched-Timestamp"].encode() + b"." + got.body
    expected = hmac.new(b"a key of some length", signed, hashlib.sha256).hexdigest()
    assert got.headers["Sched-Signature"] == f"v1={expected}"


def test_many_workers_at_once_tell_it_once(database: Database, web: WebSink) -> None:
    settings = posting(web)
    for _ in range(20):
        fail(database)

    def worker(_: int) -> None:
        look(database, settings)
        send_due(database, settings)

    for seconds in (5, 30, 5):
        pass_time(database, seconds)
        say_we_are_there(database)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(worker, range(8)))
    assert [each["count"] for each in alerts(web)] == [20]


def test_a_job_that_is_retried_and_fails_again_is_told_again(
    database: Database, web: WebSink
) -> None:
    settings = posting(web)
    number = fail(database)
    turn(database, settings, 5)
    turn(database, settings, 30)
    pass_time(database, 10)
    later = database.moment(database.server_now())
    execute(database, "UPDATE sched_jobs SET finished_at = :at WHERE id = :id", at=later, id=number)
    turn(database, settings, 5)
    turn(database, settings, 3_600)
    assert [(each["count"], each["total"]) for each in alerts(web)] == [(1, 1), (1, 2)]


def test_what_failed_long_ago_is_no_news(database: Database, web: WebSink) -> None:
    fail(database, finished_at=NOW - timedelta(hours=2))
    turn(database, posting(web), 5)
    assert query(database, "SELECT COUNT(*) FROM sched_alerts") == [(0,)]


def test_a_channel_that_fails_is_tried_again_later_and_the_others_are_not(
    database: Database, web: WebSink, tmp_path: Path
) -> None:
    written = tmp_path / "told"
    command = ("/bin/sh", "-c", f"cat >> {written}")
    settings = posting(web, alerts_command=command)
    web.status = 503
    fail(database)
    turn(database, settings, 5)
    assert turn(database, settings, 30) == 2
    assert turn(database, settings, 1) == 0
    web.status = 200
    assert turn(database, settings, 10) == 1
    assert [len(web.received), written.read_text().count('"failed"')] == [2, 1]
    assert query(database, "SELECT DISTINCT state FROM sched_alert_messages") == [("sent",)]


def test_a_message_whose_sender_dies_is_sent_by_another(database: Database, web: WebSink) -> None:
    settings = posting(web)
    fail(database)
    turn(database, settings, 5)
    pass_time(database, 30)
    look(database, settings)
    dead = outbox.claim(database, ["webhook"])
    assert dead is not None
    assert send_due(database, settings) == 0
    pass_time(database, outbox.LEASE.total_seconds())
    assert send_due(database, settings) == 1
    outbox.failed(database, dead, "it comes back from the dead")
    assert query(database, "SELECT state, attempts FROM sched_alert_messages") == [("sent", 2)]


def test_a_message_is_given_up_after_a_day(database: Database, web: WebSink) -> None:
    settings = posting(web)
    web.status = 500
    fail(database)
    turn(database, settings, 5)
    turn(database, settings, 30)
    pass_time(database, 86_400)
    assert send_due(database, settings) == 1
    (row,) = query(database, "SELECT state, error FROM sched_alert_messages")
    assert row == ("failed", "127.0.0.1 answers 500")


def test_who_was_stopped_in_the_middle_of_a_look_writes_nothing(
    database: Database, web: WebSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cronsched.alerts import looking

    settings = posting(web)
    fail(database)
    find = looking._find

    def slow(*arguments: Any) -> Any:
        found = find(*arguments)
        monkeypatch.setattr(looking, "_find", find)
        pass_time(database, LOOK_PERIOD.total_seconds())
        look(database, settings)
        return found

    monkeypatch.setattr(looking, "_find", slow)
    look(database, settings)
    assert query(database, "SELECT count, untold FROM sched_alerts") == [(1, 1)]


def test_kinds_that_nobody_asked_for_are_not_told(database: Database, web: WebSink) -> None:
    settings = posting(web, alerts_on=("missed",))
    fail(database)
    turn(database, settings, 5)
    assert turn(database, settings, 30) == 0


def test_missed_occurrences_are_told_with_their_number(database: Database, web: WebSink) -> None:
    settings = posting(web)
    apply(database, make_manifest([MINUTELY]), settings)
    pass_time(database, 180)
    execute(
        database,
        "UPDATE sched_occurrences SET verdict = 'missed:deadline', decided_at = :now"
        " WHERE planned_for <= :now",
        now=database.moment(database.server_now()),
    )
    turn(database, settings, 5)
    turn(database, settings, 30)
    (told,) = alerts(web)
    assert (told["kind"], told["subject"], told["count"]) == ("missed", "m", 3)


def test_an_occurrence_that_has_not_started_in_time_is_told_once(
    database: Database, web: WebSink
) -> None:
    settings = posting(web)
    promise = replace(MINUTELY, trigger=Every(3_600), must_start_within=timedelta(minutes=5))
    apply(database, make_manifest([promise]), settings)
    pass_time(database, 3_600 + 300)
    turn(database, settings, 5)
    for _ in range(3):
        turn(database, settings, 30)
    told = alerts(web)
    assert [(each["kind"], each["count"]) for each in told] == [("late", 1)]
    assert told[0]["message"] == "that of 2026-01-02 04:00:00 UTC has not started within 5m"


def test_a_dead_daemon_is_reported_by_the_workers_and_so_is_its_return(
    database: Database, web: WebSink
) -> None:
    settings = posting(web)
    apply(database, make_manifest([MINUTELY]), settings)
    sign_off(database, ["d"])
    turn(database, settings, 5, daemon=False)
    assert turn(database, settings, 31, daemon=False) == 1
    assert turn(database, settings, 5) == 0
    assert turn(database, settings, 31) == 1
    assert [(each["kind"], each["status"]) for each in alerts(web)] == [
        ("daemon", "firing"),
        ("daemon", "resolved"),
    ]


def test_without_schedules_nobody_misses_the_daemon(database: Database, web: WebSink) -> None:
    settings = posting(web)
    sign_off(database, ["d"])
    turn(database, settings, 5, daemon=False)
    assert turn(database, settings, 31, daemon=False) == 0


@pytest.mark.parametrize("kind", ["jobs", "schedules"])
def test_a_queue_that_no_live_worker_takes_is_told(
    database: Database, web: WebSink, kind: str
) -> None:
    settings = posting(web)
    if kind == "jobs":
        add(database, queue="mail", priority=3)
        add(database, queue="default")
    else:
        apply(database, make_manifest([replace(MINUTELY, queue="mail", priority=3)]), settings)
    execute(database, "UPDATE sched_workers SET queues = 'default' WHERE kind = 'worker'")
    for seconds in (5, 31):
        pass_time(database, seconds)
        execute(
            database,
            "UPDATE sched_workers SET heartbeat_at = :now",
            now=database.moment(database.server_now()),
        )
        look(database, settings)
    assert send_due(database, settings) == 1
    (told,) = alerts(web)
    assert (told["kind"], told["queue"], told["priorities"]) == ("coverage", "mail", [3])


def test_a_run_pings_its_start_and_its_end(database: Database, web: WebSink) -> None:
    settings = replace(Settings(), alerts_allow=("127.0.0.1",))
    pinged = replace(MINUTELY, trigger=Every(3_600), ping=web.url + "/run")
    apply(database, make_manifest([pinged]), settings)
    pass_time(database, 3_600)
    first = "(SELECT MIN(id) FROM sched_jobs)"
    for change in (
        "state = 'running', started_at = :now, locked_until = :now, lock_token = 'x', gated = :no",
        "state = 'succeeded', finished_at = :now, lock_token = NULL, gated = :no",
        "state = 'failed', finished_at = :now, gated = :no",
    ):
        execute(
            database,
            f"UPDATE sched_jobs SET {change} WHERE id = {first}",
            now=database.moment(database.server_now()),
            no=False,
        )
        turn(database, settings, 5)
        turn(database, settings, 5)
    assert web.paths == ["/run/start", "/run", "/run/fail"]


def test_a_start_that_nobody_heard_is_not_told_after_the_end(
    database: Database, web: WebSink
) -> None:
    settings = replace(Settings(), alerts_allow=("127.0.0.1",))
    pinged = replace(MINUTELY, trigger=Every(3_600), ping=web.url + "/run")
    apply(database, make_manifest([pinged]), settings)
    pass_time(database, 3_600)
    first = "(SELECT MIN(id) FROM sched_jobs)"
    now = database.moment(database.server_now())
    execute(
        database,
        "UPDATE sched_jobs SET state = 'running', started_at = :now, locked_until = :now,"
        f" lock_token = 'x', gated = :no WHERE id = {first}",
        now=now,
        no=False,
    )
    look(database, settings)
    execute(
        database,
        "UPDATE sched_jobs SET state = 'succeeded', finished_at = :now, lock_token = NULL"
        f" WHERE id = {first}",
        now=now,
    )
    turn(database, settings, 5)
    assert web.paths == ["/run"]


def test_of_several_daemons_the_address_hears_once_a_minute(
    database: Database, web: WebSink
) -> None:
    settings = replace(
        Settings(), alerts_allow=("127.0.0.1",), alerts_daemon_ping=web.url + "/daemon"
    )
    for seconds in (0, 5, 20, 40):
        pass_time(database, seconds)
        ping_of_daemon(database, settings)
        ping_of_daemon(database, settings)
        send_due(database, settings)
    assert web.paths == ["/daemon", "/daemon"]


def test_what_is_old_is_deleted(database: Database, web: WebSink) -> None:
    settings = posting(web)
    fail(database)
    turn(database, settings, 5)
    turn(database, settings, 30)
    turn(database, settings, 3_600)
    pass_time(database, 32 * 86_400 - (database.server_now() - NOW).total_seconds())
    pass_time(database, 3_600 - database.server_now().timestamp() % 3_600)
    look(database, settings)
    for table in ("sched_alerts", "sched_alert_messages", "sched_alert_marks"):
        assert query(database, f"SELECT COUNT(*) FROM {table}") == [(0,)]


def test_every_worker_with_a_channel_takes_part(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Database] = []
    monkeypatch.setattr(sweeps, "watch", taken.append)
    sweep_schedules(database)
    assert taken == []
    monkeypatch.setattr(configuration, "settings", lambda: Settings(alerts_command=("cat",)))
    sweep_schedules(database)
    assert taken == [database]
