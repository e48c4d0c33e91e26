"""`sched probe`, as an orchestrator calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command import Project


@pytest.fixture
def file(sqlite_project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a service that was given it."""
    named = sqlite_project.folder / "alive"
    monkeypatch.setenv("SCHED_ALIVE_FILE", str(named))
    return named


def test_whoever_is_at_work_is_ready_and_lives(sqlite_project: Project, file: Path) -> None:
    file.write_text("ready\n")
    for words in ((), ("live",), ("ready",)):
        assert sqlite_project.run("probe", *words).stdout.startswith("ready, ")
    assert sqlite_project.data("probe", "ready")["state"] == "ready"


def test_whoever_waits_for_the_database_lives_and_is_not_ready(
    sqlite_project: Project, file: Path
) -> None:
    file.write_text("alive\n")
    sqlite_project.run("probe", "live")
    told = sqlite_project.refused("probe", "ready", code=4)
    assert told.startswith("it is alive, and not ready")


def test_an_old_word_is_no_word(sqlite_project: Project, file: Path) -> None:
    file.write_text("ready\n")
    os.utime(file, (0, 0))
    assert "the last sign of life came" in sqlite_project.refused("probe", "ready", code=4)


def test_a_probe_loads_next_to_nothing(file: Path) -> None:
    file.write_text("ready\n")
    code = """if True:
        import sys
        from cronsched.cli import sched
        try:
            sched.main(["probe", "ready"])
        finally:
            heavy = {"sqlalchemy", "alembic", "rich", "croniter", "apscheduler", "schedules"}
            print(heavy & sys.modules.keys())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")
