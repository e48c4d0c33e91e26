"""`sched import crontab`, as its users call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import Project

CRONTAB = "CRON_TZ=Europe/London\n# nightly\n30 2 * * * /usr/bin/backup --all\n"


@pytest.fixture
def project(sqlite_project: Project) -> Project:
    (sqlite_project.folder / "crontab").write_text(CRONTAB)
    return sqlite_project


def test_a_file_is_written_that_the_daemon_loads(project: Project) -> None:
    told = project.run("import", "crontab", "crontab", "--out", "schedules/old.py", "--tz", "UTC")
    assert (
        told.stdout == "wrote schedules/old.py: 1 schedule, in UTC unless a line says otherwise\n"
    )
    project.run("daemon", "--once")
    names = {each["name"] for each in project.data("schedules", "list")}
    assert "old.backup" in names
    times = project.data(
        "schedules", "next", "old.backup", "--from", "2026-07-01T00:00Z", "-n", "1"
    )
    assert times["next"] == ["2026-07-01T01:30:00.000000Z"]


def test_the_folder_of_the_file_is_made_with_it(project: Project) -> None:
    project.run("import", "crontab", "crontab", "--out", "new/schedules/old.py")
    assert Path("new/schedules/old.py").exists()


def test_a_file_that_is_there_stays(project: Project) -> None:
    Path("old.py").write_text("mine")
    assert "is there already" in project.refused("import", "crontab", "crontab", "--out", "old.py")
    assert Path("old.py").read_text() == "mine"


def test_what_was_left_out_is_told_apart_from_the_file(project: Project) -> None:
    told = project.run("import", "crontab", "-", input="@reboot x\n@daily /bin/y\n", code=1)
    assert told.stderr.startswith("sched: line 1: cron '@reboot' is not a time")
    assert 'shell("/bin/y", ENVIRONMENT)' in told.stdout
    compile(told.stdout, "crontab", "exec")
    project.run("import", "crontab", "-", input="MAILTO=ann\n@daily /bin/y\n")


def test_a_crontab_with_users_can_be_told_so(project: Project) -> None:
    line = "@daily root /bin/y\n"
    document = project.run("import", "crontab", "-", "--user-column", "--json", input=line).stdout
    assert '"it ran as root' in document
    assert (
        'shell("root /bin/y", ENVIRONMENT)'
        in project.run("import", "crontab", "-", input=line).stdout
    )


def test_nothing_to_carry_over_is_an_error_of_its_own(project: Project) -> None:
    told = project.run("import", "crontab", "-", input="# nothing\n", code=5)
    assert told.stdout == ""


def test_a_zone_that_does_not_exist_is_refused(project: Project) -> None:
    assert "Nowhere" in project.refused("import", "crontab", "crontab", "--tz", "Nowhere")
