"""`sched plan` and `sched apply`, as their users call them."""

from __future__ import annotations

import json
import logging

import pytest

from command import TASKS, Project
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.daemon import Daemon, DaemonOptions
from job_rows import query

EDITED = TASKS.replace('tz="Europe/London"', 'minute=5, tz="Europe/London"')
TEN = "from cronsched import every\n" + "".join(
    f"@every('2h')\ndef task_{number}(): ...\n" for number in range(10)
)


def write(project: Project, text: str) -> None:
    (project.folder / "schedules" / "tasks.py").write_text(text)


def names(project: Project) -> list[str]:
    return [row["name"] for row in project.data("schedules", "list")]


def test_apply_does_what_plan_says(project: Project) -> None:
    project.run("apply")
    write(project, EDITED)
    announced = project.data("plan", code=0)
    assert announced["changes"][0]["rows"]
    done = project.data("apply")
    assert [each["kind"] for each in done["changes"]] == ["change"]
    assert done["changes"][0]["added"] == announced["changes"][0]["added"]
    assert project.run("plan").stdout.splitlines()[-1] == "Nothing would change."
    assert project.run("apply").stdout.splitlines()[-1] == "Nothing has changed."


def test_a_changed_schedule_is_told_with_its_next_runs_and_its_rows(project: Project) -> None:
    project.run("apply")
    write(project, EDITED)
    first, *more, summary = project.run("plan").stdout.splitlines()[1:]
    assert first.startswith("~ tasks.refresh  when ")
    assert [line.split()[0] for line in more] == ["next", "rows"]
    assert ":00:00 UTC, " in more[0]
    assert ":05:00 UTC" in more[0].partition(" -> ")[2]
    assert " written, " in more[1]
    assert summary == (
        "Plan: 0 to add, 1 to change, 0 to remove. `sched apply` or the daemon does it."
    )


def test_a_saved_plan_is_applied_as_long_as_nothing_has_moved_on(project: Project) -> None:
    saved = str(project.folder / "plan.json")
    project.run("plan", "--out", saved)
    document = json.loads((project.folder / "plan.json").read_text())
    assert document["data"]["changes"] == project.data("plan")["changes"]
    write(project, EDITED)
    assert "the schedule files have changed since" in project.refused("apply", saved, code=1)
    write(project, TASKS)
    project.run("apply", saved)
    assert "the schedules in the database have changed since" in project.refused(
        "apply", saved, code=1
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '{"data": 1}', '{"data": {"store": "x"}}'])
def test_what_is_no_saved_plan_is_refused(sqlite_project: Project, text: str) -> None:
    (sqlite_project.folder / "plan.json").write_text(text)
    path = str(sqlite_project.folder / "plan.json")
    assert "is no saved plan: `sched plan --out" in sqlite_project.refused("apply", path)


def test_schedules_are_removed_only_when_somebody_says_yes(sqlite_project: Project) -> None:
    project = sqlite_project
    write(project, TASKS + TEN)
    project.run("apply")
    write(project, TEN)
    assert "Remove 1 schedule (tasks.refresh)? Nobody can answer here" in project.refused("apply")
    assert len(names(project)) == 11
    project.run("apply", "--yes")
    assert len(names(project)) == 10


def test_yes_removes_most_of_the_schedules_as_well(sqlite_project: Project) -> None:
    project = sqlite_project
    write(project, TEN)
    project.run("apply")
    write(project, TASKS)
    assert "10 of 10 schedules would go at once" in project.run("apply").stderr
    assert len(names(project)) == 11
    project.run("apply", "--yes")
    assert names(project) == ["tasks.refresh"]


def test_what_is_odd_is_warned_of(sqlite_project: Project) -> None:
    project = sqlite_project
    odd = "from cronsched import cron\n@cron('*/25 * * * *')\ndef odd(): ...\n"
    write(project, TASKS + odd)
    lines = project.run("plan").stdout.splitlines()
    (warning,) = [line for line in lines if line.startswith("? ")]
    assert warning.startswith("? tasks.odd      '*/25 * * * *': minute '*/25' is uneven")
    assert ", 1 warning." in lines[-1]
    ((told,),) = [project.data("plan")["warnings"]]
    assert told["schedule"] == "tasks.odd"
    project.run("apply")
    assert project.run("plan", "--exit-code").stdout.splitlines()[-1] == (
        "Nothing would change, 1 warning."
    )


def test_a_schedule_that_is_another_at_each_loading_is_refused(sqlite_project: Project) -> None:
    project = sqlite_project
    write(
        project,
        TASKS + "import os\nfrom cronsched import every\n"
        "@every('1h', args=[os.getpid()])\ndef unsteady(number: int): ...\n",
    )
    told = project.run("plan", code=1).stderr
    assert "schedule 'tasks.unsteady' is another one whenever the files are loaded" in told
    assert "tasks.py:" in told


def test_revisions_are_listed_the_newest_first(project: Project) -> None:
    project.run("apply")
    write(project, EDITED)
    project.run("apply")
    found = project.data("schedules", "revisions", "tasks.refresh")
    assert [(each["revision"], each["kind"]) for each in found] == [(2, "changed"), (1, "added")]
    assert found[1]["valid_until"] == found[0]["valid_from"]
    assert "there is no schedule 'nope'" in project.refused(
        "schedules", "revisions", "nope", code=5
    )


def test_a_daemon_that_does_not_apply_says_once_what_waits(
    sqlite_project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project = sqlite_project
    project.run("daemon", "--once", "--no-apply")
    assert names(project) == []
    database = Database(project.url)
    options = DaemonOptions(Settings(), project.folder / "schedules", applies=False)
    daemon = Daemon(database, options)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert daemon.load_and_apply() is None
    waiting = [each for each in caplog.messages if "wait for `sched apply`" in each]
    assert waiting == ["changes wait for `sched apply`: tasks.refresh"]
    assert query(database, "SELECT COUNT(*) FROM sched_jobs") == [(0,)]
    database.dispose()
