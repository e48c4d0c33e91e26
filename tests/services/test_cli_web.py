"""`sched web` as its user calls it, and what it costs those who do not."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from command import Project
from cronsched.cli.browser import open_when_there
from cronsched.credentials import is_password, is_token


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "jobs.example.com"])
def test_another_address_than_the_loopback_needs_a_password(
    sqlite_project: Project, host: str
) -> None:
    assert (
        "set SCHED_WEB_USERS, SCHED_WEB_PASSWORD or SCHED_WEB_TOKEN first"
        in sqlite_project.refused("web", "--host", host)
    )


def test_a_password_that_is_short_is_refused_and_not_printed(
    sqlite_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHED_WEB_PASSWORD", "hunter2")
    assert sqlite_project.refused("web") == "SCHED_WEB_PASSWORD ***: give at least 12 characters"


def test_passwords_are_masked_where_settings_are_shown(
    sqlite_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCHED_WEB_PASSWORD", "correct horse battery")
    shown = sqlite_project.run("config", "show").stdout
    assert "web_password" in shown
    assert "battery" not in shown
    assert "battery" not in sqlite_project.run("config", "show", "--json").stdout


@pytest.mark.parametrize("module", ["cronqueue.worker", "cronsched.daemon", "cronsched.cli.worker"])
def test_workers_and_daemons_import_nothing_of_the_web(module: str) -> None:
    code = f"import sys, {module}; print([n for n in ('starlette', 'jinja2', 'anyio') if n in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout == "[]\n"


def test_a_password_becomes_an_entry_for_the_settings(sqlite_project: Project) -> None:
    done = sqlite_project.run(
        "config", "credential", "ann", "--role", "operator", input="correct horse battery\n"
    )
    name, _, kept = done.stdout.strip().partition("=operator:")
    assert name == "ann"
    assert is_password("correct horse battery", kept)
    assert "battery" not in done.output


def test_a_token_is_made_and_shown_once(sqlite_project: Project) -> None:
    found = sqlite_project.data("config", "credential", "ci", "--role", "viewer", "--token")
    name, _, kept = found["entry"].partition("=viewer:")
    assert name == "ci"
    assert is_token(found["token"], kept)


def test_a_name_or_password_that_cannot_be_is_refused(sqlite_project: Project) -> None:
    assert "at least 12" in sqlite_project.refused("config", "credential", "a", "--role", "admin")
    for name in ("a:b", "a=b", "a,b", " a", ""):
        assert "printable" in sqlite_project.refused(
            "config", "credential", name, "--role", "admin"
        )


def test_the_page_is_shown_as_soon_as_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    with socket.socket() as page:
        page.bind(("127.0.0.1", 0))
        port = page.getsockname()[1]
        waiting = open_when_there("0.0.0.0", port)
        assert opened == []  # nobody listens yet
        page.listen()
        waiting.join(60)
    assert opened == [f"http://127.0.0.1:{port}/"]
