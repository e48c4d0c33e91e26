"""`sched schedules pause`, `skip`, `backfill` and the like, as their users call them."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta

import pytest

from command import Project
from cronqueue.database import Database
from job_rows import now, query

NAME = "tasks.refresh"


@pytest.fixture
def written(project: Project) -> Project:
    """A project whose schedule, hourly on the hour, is written out."""
    project.run("daemon", "--once")
    return project


def upcoming(project: Project, count: int = 3) -> list[str]:
    found: list[str] = project.data("schedules", "next", NAME, "-n", str(count))["next"]
    return found


def undo(project: Project, told: str) -> None:
    """Run the command that an act has named as its undo."""
    words = shlex.split(told)
    assert words[0] == "sched"
    project.run(*words[1:])


def overrides(project: Project) -> list[str]:
    return [each["action"] for each in project.data("schedules", "show", NAME)["overrides"]]


def test_a_pause_is_told_and_its_undo_resumes(written: Project, database: Database) -> None:
    options = ("--reason", "repairs", "--until", "2100-01-01T00:00Z")
    paused = written.data("schedules", "pause", NAME, *options)
    assert (paused["paused"], paused["held"]) == (True, 24)
    standing = written.data("schedules", "show", NAME)["standing"]
    assert (standing["paused_reason"], standing["paused_until"][:4]) == ("repairs", "2100")
    assert standing["revision"] == 1
    told = written.run("schedules", "show", NAME).stdout
    assert ": repairs\n" in told
    assert "paused until" in told
    undo(written, paused["undo"])
    assert query(database, "SELECT DISTINCT state FROM sched_jobs") == [("queued",)]
    assert "paused" not in written.run("schedules", "show", NAME).stdout
    assert written.refused("schedules", "resume", NAME, code=1).endswith("is not paused")


def test_a_pause_may_say_how_long_it_lasts(written: Project) -> None:
    until = written.data("schedules", "pause", NAME, "--for", "2h")["until"]
    assert timedelta(minutes=115) < datetime.fromisoformat(until) - now() <= timedelta(hours=2)
    until = written.data("queues", "pause", "mail", "--until", "in 2h")["until"]
    assert timedelta(minutes=115) < datetime.fromisoformat(until) - now() <= timedelta(hours=2)
    both = ("--for", "2h", "--until", "in 2h")
    assert "give one of them" in written.refused("schedules", "pause", NAME, *both)


def test_all_schedules_are_paused_after_a_question_and_the_undo_resumes_those_alone(
    written: Project, database: Database
) -> None:
    (written.folder / "schedules" / "more.py").write_text(
        "from cronsched import hourly\n@hourly\ndef one(): ...\n@hourly\ndef two(): ...\n"
    )
    written.run("daemon", "--once")
    written.run("schedules", "pause", NAME, "--reason", "repairs")
    assert "pause 2 schedules?" in written.refused("schedules", "pause", "--all")
    assert "or --all" in written.refused("schedules", "pause")
    assert "or --all" in written.refused("schedules", "resume", NAME, "--all")
    paused = written.data("schedules", "pause", "--all", "--yes")
    assert (paused["schedules"], paused["held"]) == (2, 48)
    nothing = written.refused("schedules", "pause", "--all", "--yes", code=5)
    assert nothing == "there is no schedule that is not paused"
    undo(written, paused["undo"])
    still = query(database, "SELECT name FROM sched_schedules WHERE paused_at IS NOT NULL")
    assert still == [(NAME,)]
    line = written.run("schedules", "resume", "--all", "--yes").stdout
    assert line == "1 schedule goes on: 24 jobs queued, 0 skipped\n"


def test_the_next_occurrence_needs_no_time(written: Project) -> None:
    first = upcoming(written)[0]
    skipped = written.data("schedules", "skip", NAME, "next")
    assert (skipped["planned_for"], skipped["reached"]) == (first, "done")
    unknown = written.refused("schedules", "skip", "nobody", "next", code=5)
    assert unknown.startswith("there is no schedule 'nobody'")


def test_a_resume_tells_what_it_did(written: Project) -> None:
    line = written.run("schedules", "pause", NAME).stdout
    assert line == f"schedule {NAME} is paused, 24 jobs held; undo: sched schedules resume {NAME}\n"
    line = written.run("schedules", "resume", NAME, "--catch-up").stdout
    assert line.startswith(f"schedule {NAME} goes on: 24 jobs queued, 0 skipped; undo: ")


def test_one_occurrence_is_skipped_moved_and_edited_and_each_can_be_taken_back(
    written: Project, database: Database
) -> None:
    first, second, third = upcoming(written)
    before = query(database, "SELECT id, state, run_at, priority FROM sched_jobs ORDER BY id")
    acts = [
        written.data("schedules", "skip", NAME, first, "--reason", "holiday"),
        written.data("schedules", "move", NAME, second, "--to", "2100-01-01T00:00Z"),
        written.data("schedules", "edit", NAME, third, "--priority", "7"),
    ]
    assert {each["reached"] for each in acts} == {"done"}
    assert overrides(written) == ["skip", "move", "edit"]
    changed = query(database, "SELECT id, state, run_at, priority FROM sched_jobs ORDER BY id")
    assert (changed[0][1], changed[2][3]) == ("skipped", 7)
    told = written.run("schedules", "show", NAME).stdout
    assert ": holiday\n" in told
    assert "move to 2100-01-01 00:00:00 UTC" in told
    for each in acts:
        undo(written, each["undo"])
    assert overrides(written) == []
    assert (
        query(database, "SELECT id, state, run_at, priority FROM sched_jobs ORDER BY id") == before
    )


def test_what_is_decided_beyond_the_horizon_waits_for_its_occurrence(written: Project) -> None:
    late = upcoming(written, 40)[-1]
    told = written.run("schedules", "skip", NAME, late).stdout
    assert ", once it is written; undo: sched schedules restore " in told
    assert overrides(written) == ["skip"]


def test_a_time_that_the_schedule_does_not_have_is_refused(written: Project) -> None:
    refused = written.refused("schedules", "skip", NAME, "2100-01-01T00:01Z")
    assert "has no occurrence at 2100-01-01T00:01:00+00:00; the next one is" in refused
    for act in (["skip"], ["restore"], ["move", "--to", "2100-01-01T00:00Z"]):
        refused = written.refused("schedules", *act, "nope", "2100-01-01T00:00Z", code=5)
        assert "there is no schedule 'nope'" in refused
    assert "nothing was decided" in written.refused(
        "schedules", "restore", NAME, upcoming(written)[0], code=5
    )


def test_a_backfill_is_counted_written_and_undone(written: Project, database: Database) -> None:
    span = ("--from", (now() - timedelta(hours=5)).isoformat(), "--to", now().isoformat())
    before = query(database, "SELECT COUNT(*) FROM sched_jobs")
    counted = written.data("schedules", "backfill", NAME, *span, "--dry-run")
    assert (counted["count"], counted["undo"], counted["dry_run"]) == (5, None, True)
    assert query(database, "SELECT COUNT(*) FROM sched_jobs") == before
    told = written.run("schedules", "backfill", NAME, *span, "--dry-run").stdout
    assert told.startswith(f"{NAME}: 5 jobs would be written, 5 for holes and 0 ")
    done = written.data("schedules", "backfill", NAME, *span, "--limit", "3", "--priority", "-5")
    assert (done["count"], done["beyond_limit"]) == (3, 2)
    jobs = "SELECT priority, state FROM sched_jobs WHERE origin = 'backfill'"
    assert query(database, jobs) == [(-5, "queued")] * 3
    undo(written, done["undo"])
    assert query(database, jobs) == [(-5, "cancelled")] * 3
    written.refused("schedules", "backfill", "--undo", done["batch_id"], code=5)


def test_a_backfill_says_what_it_needs(sqlite_project: Project) -> None:
    assert "say what to fill in" in sqlite_project.refused("schedules", "backfill", NAME)
    refused = sqlite_project.refused("schedules", "backfill", NAME, "--undo", "b")
    assert refused == "--undo BATCH stands alone"
    span = ("--from", "2026-01-02T00:00Z", "--to", "2026-01-03T00:00Z")
    assert "rate" in sqlite_project.refused("schedules", "backfill", NAME, *span, "--rate", "-1")
    sqlite_project.refused("schedules", "backfill", "nope", *span, code=5)
