"""How alerts leave: what the channels refuse, whom they reach, and what `sched alerts` says of it."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alert_sinks import MailSink, WebSink, mail_sink, web_sink
from command import Project
from cronqueue.errors import ConfigurationError
from cronqueue.settings import Settings, load_settings
from cronsched.alerts import channels, outside
from cronsched.alerts.channels import send
from cronsched.alerts.outbox import Message
from cronsched.alerts.outside import NotSent, request

BODY = json.dumps(
    {
        "format_version": 1,
        "host": "h",
        "at": "2026-01-02T03:04:05+00:00",
        "alerts": [
            {
                "kind": "test",
                "status": "firing",
                "subject": "t",
                "message": "a test",
                "count": 1,
                "total": 1,
                "first_at": "2026-01-02T03:04:05+00:00",
                "last_at": "2026-01-02T03:04:05+00:00",
            }
        ],
    }
)


@pytest.fixture
def web() -> Iterator[WebSink]:
    with web_sink() as sink:
        yield sink


@pytest.fixture
def mail() -> Iterator[MailSink]:
    with mail_sink() as sink:
        yield sink


def message(channel: str) -> Message:
    return Message(7, channel, BODY, 1, datetime(2026, 1, 3, tzinfo=UTC), "token")


PRIVATE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.0.0.1/",
    "http://017700000001/",
    "http://0/",
    "http://localhost/",
    "http://localhost./",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fd00::1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_an_address_that_is_not_public_is_refused_however_it_is_written(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any) -> None:
        raise AssertionError("it was reached")

    monkeypatch.setattr(outside, "_first", connect)
    with pytest.raises(NotSent, match=r"not public|cannot be reached"):
        request(url)


def test_a_name_of_which_one_address_is_private_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", ("93.184.216.34", 80)), (0, 0, 0, "", ("10.0.0.7", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(NotSent, match=r"has the address 10\.0\.0\.7, which is not public"):
        request("http://hooks.example.com/")


def test_a_name_is_resolved_once_and_reached_where_it_was_checked(
    web: WebSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers otherwise the second time."""
    answers = iter(["127.0.0.1", "10.0.0.7"])

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", (next(answers), port))]

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolve)
        addresses = outside.checked("hooks.example.com", web.port, ["127.0.0.0/8"])
    assert [str(address) for address, _ in addresses] == ["127.0.0.1"]
    with outside._connected(addresses, "hooks.example.com", is_secure=False) as channel:
        assert channel.getpeername() == ("127.0.0.1", web.port)


@pytest.mark.parametrize("allow", ["127.0.0.1", "127.0.0.0/8"])
def test_what_is_allowed_is_reached(web: WebSink, allow: str) -> None:
    request(web.url + "/a?b=1", allow=[allow])
    assert web.paths == ["/a?b=1"]


def test_an_allowed_name_is_reached_whatever_its_address(web: WebSink) -> None:
    request(f"http://LOCALHOST:{web.port}/", allow=["localhost"])
    assert web.paths == ["/"]


def test_a_redirect_is_not_followed(web: WebSink) -> None:
    web.status, web.location = 302, "/elsewhere"
    with pytest.raises(NotSent, match="answers 302, and redirects are not followed"):
        request(web.url + "/a", allow=["127.0.0.1"])
    assert web.paths == ["/a"]


def test_an_answer_that_drips_for_ever_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "TIMEOUT", 0.3)
    is_cut = threading.Event()

    def drip(server: socket.socket) -> None:
        channel, _ = server.accept()
        with channel, suppress(OSError):
            while channel.send(b"x"):
                is_cut.wait(0.02)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        with pytest.raises(NotSent):
            request(f"http://127.0.0.1:{server.getsockname()[1]}/", allow=["127.0.0.1"])
        thread.join()


def test_the_secret_of_an_address_is_not_in_what_went_wrong() -> None:
    url = "http://127.0.0.1:9/services/T0KEN"
    settings = replace(Settings(), alerts_webhook_url=url, alerts_allow=("127.0.0.1",))
    with pytest.raises(NotSent) as caught:
        send(settings, message("webhook"))
    assert "T0KEN" not in str(caught.value)


def test_a_mail_that_the_server_refuses_is_not_sent(mail: MailSink) -> None:
    mail.refuses = True
    settings = replace(
        Settings(),
        alerts_email_to=("ops@example.com",),
        alerts_smtp_url=f"smtp://127.0.0.1:{mail.port}",
    )
    with pytest.raises(NotSent, match="does not take the mail"):
        send(settings, message("email"))


def test_a_password_is_not_sent_in_the_clear(
    mail: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "_OURSELVES", ())
    settings = replace(
        Settings(),
        alerts_email_to=("ops@example.com",),
        alerts_smtp_url=f"smtp://me:hunter2@127.0.0.1:{mail.port}",
    )
    with pytest.raises(NotSent, match="offers no STARTTLS"):
        send(settings, message("email"))
    assert mail.mails == []


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/nowhere/tell",), "/nowhere/tell cannot be started: No such file or directory"),
        (("/bin/sh", "-c", "echo no disk >&2; exit 3"), "/bin/sh ended with 3: no disk"),
    ],
)
def test_a_command_that_fails_says_why(command: tuple[str, ...], reason: str) -> None:
    with pytest.raises(NotSent) as caught:
        send(replace(Settings(), alerts_command=command), message("command"))
    assert str(caught.value) == reason


def test_a_command_knows_the_number_of_its_message(tmp_path: Path) -> None:
    command = ("/bin/sh", "-c", f'echo "$ALERT_MESSAGE" > {tmp_path / "number"}')
    send(replace(Settings(), alerts_command=command), message("command"))
    assert (tmp_path / "number").read_text() == "7\n"


def test_a_command_that_does_not_read_is_no_failure() -> None:
    send(replace(Settings(), alerts_command=("/bin/true",)), message("command"))


def test_a_command_that_hangs_is_ended_with_what_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "COMMAND_TIMEOUT", 1.0)
    fifo = tmp_path / "held"
    command = ("/bin/sh", "-c", f"(exec sleep 3600 > {fifo}) & wait")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(NotSent, match="has not ended within 1 s"):
        send(replace(Settings(), alerts_command=command), message("command"))
    # The end of the file: nobody holds the other end.
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_apprise_gets_the_words(web: WebSink) -> None:
    pytest.importorskip("apprise")
    url = f"json://127.0.0.1:{web.port}/"
    send(replace(Settings(), alerts_apprise_urls=(url,)), message("apprise"))
    assert json.loads(web.received[0].body)["title"] == "[sched] a test"


def test_without_apprise_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    settings = replace(Settings(), alerts_apprise_urls=("json://127.0.0.1/",))
    with pytest.raises(NotSent, match=r"pip install 'cronqueue\[notify\]'"):
        send(settings, message("apprise"))


def settings_of(folder: Path, text: str, **environ: str) -> Settings:
    (folder / "sched.toml").write_text(text)
    return load_settings(environ=environ, folder=folder).settings


def test_settings_of_alerts_stand_in_a_table_of_their_own_or_in_the_environment(
    tmp_path: Path,
) -> None:
    text = '[alerts]\nemail_to = ["a@example.com"]\nwait = "1m"\ncommand = ["tell", "the ops"]\n'
    found = settings_of(tmp_path, text, SCHED_ALERTS_WAIT="5s", SCHED_ALERTS_ON="failed,late")
    assert found.alerts_email_to == ("a@example.com",)
    assert found.alerts_wait.total_seconds() == 5
    assert found.alerts_command == ("tell", "the ops")
    assert found.alerts_on == ("failed", "late")
    found = settings_of(tmp_path, "", SCHED_ALERTS_COMMAND="tell 'the ops'")
    assert found.alerts_command == ("tell", "the ops")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[alerts]\nwebhok_url = "x"', "no setting 'alerts_webhok_url'; did you mean"),
        ('[alerts]\nwebhook_url = "ftp://x"', "alerts_webhook_url ***: give an address such as"),
        ('[alerts]\nwebhook_url = "https://me:pw@x/"', "without a user name"),
        ('[alerts]\nwebhook_secret = "short"', "alerts_webhook_secret ***: give at least 12"),
        ('[alerts]\nemail_to = "nobody"', "give a mail address such as ops@example.com"),
        ('[alerts]\nsmtp_url = "mail.example.com"', "smtp://user:password@mail.example.com:587"),
        ('[alerts]\non = ["failure"]', "failure is no kind of alert: give some of failed, missed"),
        ('[alerts]\ncommand = "tell \'ops"', "no closing quotation"),
        ('alerts = "all"', "alerts is no table: write [alerts]"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place_and_the_remedy(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(tmp_path, text)
    assert "sched.toml" in str(caught.value)
    assert fault in str(caught.value)


def test_config_masks_what_opens_doors(
    sqlite_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHED_ALERTS_WEBHOOK_URL", "https://hooks.example.com/HIDDEN")
    monkeypatch.setenv("SCHED_ALERTS_APPRISE_URLS", "json://HIDDEN@x/")
    monkeypatch.setenv("SCHED_ALERTS_SMTP_URL", "smtp://me:HIDDEN@mail/")
    monkeypatch.setenv("SCHED_ALERTS_DAEMON_PING", "https://hc.example/HIDDEN")
    assert "HIDDEN" not in sqlite_project.run("config", "show").output


def test_alerts_test_sends_one_here_and_now(
    sqlite_project: Project, web: WebSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHED_ALERTS_WEBHOOK_URL", web.url)
    assert "which is not public" in sqlite_project.run("alerts", "test", "webhook", code=1).output
    monkeypatch.setenv("SCHED_ALERTS_ALLOW", "127.0.0.0/8")
    assert "sent by webhook" in sqlite_project.run("alerts", "test", "webhook").output
    assert json.loads(web.received[0].body)["alerts"][0]["kind"] == "test"
    output = sqlite_project.run("alerts", "test", "email", code=2).output
    assert "channel 'email' is not configured, there is webhook" in output


def test_alerts_list_shows_what_was_told(sqlite_project: Project) -> None:
    assert sqlite_project.data("alerts", "list") == []
    assert sqlite_project.data("alerts", "messages", "--pings") == []


def test_alerts_are_muted_for_a_time_and_told_again(sqlite_project: Project) -> None:
    output = sqlite_project.run(
        "alerts", "mute", "task:t", "--for", "2h", "--reason", "known"
    ).output
    assert "task:t is muted until" in output
    assert "undo: sched alerts unmute task:t" in output
    (found,) = sqlite_project.data("alerts", "mutes")
    assert (found["target"], found["reason"]) == ("task:t", "known")
    sqlite_project.run("alerts", "unmute", "task:t")
    assert sqlite_project.data("alerts", "mutes") == []
    assert "ends by itself" in sqlite_project.run("alerts", "mute", "all", code=2).output
    output = sqlite_project.run("alerts", "mute", "queue:q", "--for", "1h", code=2).output
    assert "give all, schedule:NAME" in output


def test_alerts_rules_name_the_channels_without_what_is_secret_in_them(
    sqlite_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no channel: [alerts] in sched.toml" in sqlite_project.run("alerts", "rules").output
    monkeypatch.setenv("SCHED_ALERTS_WEBHOOK_URL", "https://hooks.example.com/HIDDEN")
    monkeypatch.setenv("SCHED_ALERTS_APPRISE_URLS", "json://HIDDEN@x/")
    monkeypatch.setenv("SCHED_ALERTS_EMAIL_TO", "ops@example.com")
    monkeypatch.setenv("SCHED_ALERTS_SMTP_URL", "smtp://me:HIDDEN@mail/")
    monkeypatch.setenv("SCHED_ALERTS_DAEMON_PING", "https://hc.example/HIDDEN")
    found = sqlite_project.data("alerts", "rules")
    targets = {each["name"]: each["target"] for each in found["channels"]}
    assert targets == {
        "email": "ops@example.com by mail",
        "webhook": "hooks.example.com, not signed",
        "apprise": "json",
    }
    assert found["daemon_ping"] == "hc.example"
    assert found["looked_at"] is None
    output = sqlite_project.run("alerts", "rules").output
    assert "HIDDEN" not in output + str(found)
    assert "ops@example.com by mail" in output
