"""`sched web` as its user calls it, and what it costs those who do not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from command import Project


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "jobs.example.com"])
def test_another_address_than_the_loopback_needs_a_password(
    sqlite_project: Project, host: str
) -> None:
    assert "set SCHED_WEB_PASSWORD or SCHED_WEB_TOKEN first" in sqlite_project.refused(
        "web", "--host", host
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
