"""`sched schedules add` and `remove`."""

from __future__ import annotations

import pytest

from command import Project


def test_an_added_schedule_runs_like_any_other_and_is_removed(project: Project) -> None:
    add = ["schedules", "add", "greet.me", "tasks.greet", "--args", '["me"]', "--cron", "5 * * * *"]
    told = project.data(*add, "--priority", "4", "--overlap", "queue_one")
    assert told["result"] == "new"
    jobs = project.data("jobs", "list", "--schedule", "greet.me")
    assert len(jobs) == 24
    assert {job["priority"] for job in jobs} == {4}
    assert told["next_run"] == min(job["run_at"] for job in jobs)
    assert project.data(*add, "--priority", "5")["result"] == "changed"
    assert project.data(*add, "--priority", "5")["result"] == "unchanged"
    assert "greet.me" in project.run("schedules", "list").stdout
    project.run("daemon", "--once")
    assert project.run("plan").stdout.splitlines()[-1] == "Nothing would change."
    assert project.data("schedules", "remove", "greet.me") == {"name": "greet.me", "removed": True}
    project.refused("schedules", "remove", "greet.me", code=5)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (["--cron", "0 9 * * *", "--tz", "Europe/London"], "(Europe/London)"),
        (["--every", "90s"], "every 1m 30s"),
        (["--after", "5m"], "5m after the run before has ended"),
        (["--daily", "09:00", "--daily", "17:30"], "09:00"),
        (["--at", "2040-01-01T00:00:00Z"], "at 2040-01-01 00:00:00 UTC"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_each_kind_of_times_can_be_given(
    sqlite_project: Project, when: list[str], words: str
) -> None:
    told = sqlite_project.data("schedules", "add", "s", "tasks.refresh", *when)
    assert told["next_run"] is not None
    (found,) = sqlite_project.data("schedules", "list")
    assert words in found["words"]
    assert found["source"] == "api"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["s", "tasks.refresh"], "say when, in one way: one of --cron, --every"),
        (["s", "tasks.refresh", "--every", "5m", "--daily", "09:00"], "say when, in one way"),
        (["s", "tasks.refesh", "--every", "5m"], "did you mean 'tasks.refresh'?"),
        (["s", "tasks.greet", "--every", "5m"], "missing a required argument: 'name'"),
        (["s", "tasks.refresh", "--cron", "61 * * * *"], "61"),
        (["no name", "tasks.refresh", "--every", "5m"], "letters, digits"),
    ],
)
def test_what_cannot_be_added_is_refused_with_the_remedy(
    sqlite_project: Project, arguments: list[str], told: str
) -> None:
    assert told in sqlite_project.refused("schedules", "add", *arguments)


def test_a_schedule_of_a_file_is_neither_changed_nor_removed(sqlite_project: Project) -> None:
    sqlite_project.run("daemon", "--once")
    add = ["schedules", "add", "tasks.refresh", "tasks.refresh", "--every", "5m"]
    assert "declared in tasks.py, which owns it" in sqlite_project.refused(*add, code=1)
    removed = sqlite_project.refused("schedules", "remove", "tasks.refresh", code=1)
    assert "declared in tasks.py: remove it there" in removed
