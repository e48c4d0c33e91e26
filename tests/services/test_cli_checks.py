"""`sched check`, `audit`, `simulate` and `explain`, as their users call them."""

from __future__ import annotations

from datetime import timedelta

from command import Project
from cronqueue.database import Database
from job_rows import add, execute, now, query

NAME = "tasks.refresh"


def hear_of_a_daemon(database: Database) -> None:
    execute(
        database,
        "INSERT INTO sched_workers (id, kind, name, host, pid, version, state, started_at, heartbeat_at)"
        " VALUES ('d', 'daemon', 'd', 'h', 7, '1', 'running', :now, :now)",
        now=database.moment(now()),
    )


def test_check_exits_with_4_when_something_is_wrong(project: Project, database: Database) -> None:
    assert project.run("check").stdout == "nothing is wrong\n"
    assert project.data("check") == {"ok": True, "problems": []}
    project.run("daemon", "--once")
    (problem,) = project.data("check", code=4)["problems"]
    assert (problem["kind"], problem["is_warning"]) == ("daemon", False)
    told = project.run("check", code=4)
    assert "no daemon has been heard of" in told.stdout
    assert told.stderr == "sched: 1 thing wrong\n"
    hear_of_a_daemon(database)
    project.run("check")


def test_check_exits_with_0_for_warnings_alone(project: Project, database: Database) -> None:
    hear_of_a_daemon(database)
    execute(database, "UPDATE sched_workers SET clock_skew = 2")
    assert project.run("check").stdout.splitlines()[1].startswith("warning  clock")
    assert project.data("check")["ok"] is True


def test_check_can_be_told_how_late_is_late(project: Project, database: Database) -> None:
    add(database, run_at=now() - timedelta(minutes=2))
    project.run("check", code=4)
    project.run("check", "--late-after", "1h")


def test_audit_exits_with_4_and_the_list(project: Project, database: Database) -> None:
    project.run("daemon", "--once")
    execute(database, "DELETE FROM sched_revisions")
    execute(
        database,
        "INSERT INTO sched_revisions (schedule, revision, definition, kind, valid_from)"
        " SELECT name, 1, definition, 'added', valid_from FROM sched_schedules",
    )
    span = ("--to", (now() + timedelta(hours=20)).isoformat())
    assert project.run("audit", *span).stdout.endswith(" occurrences, each accounted for\n")
    assert project.data("audit", *span)["findings"] == []
    (job_id,) = query(database, "SELECT MIN(id) FROM sched_jobs")[0]
    execute(database, "DELETE FROM sched_jobs WHERE id = :id", id=job_id)
    (finding,) = project.data("audit", *span, code=4)["findings"]
    assert (finding["kind"], finding["schedule"]) == ("lost", NAME)
    told = project.run("audit", *span, code=4)
    assert f"job {job_id} was deleted" in told.stdout
    assert told.stderr.endswith(" do not add up\n")
    project.data("audit")
    assert "is not before" in project.refused("audit", "--from", "2100-01-01T00:00Z")


def test_simulate_tells_load_and_lateness_by_measured_durations(
    project: Project, database: Database
) -> None:
    tasks = """
from cronsched import cron
@cron("0 * * * *", name="a")
def a(): ...
@cron("0 * * * *", name="b")
def b(): ...
"""
    (project.folder / "schedules" / "tasks.py").write_text(tasks)
    project.run("daemon", "--once")
    end = now()
    for minutes in (1, 10, 90):
        times = {"started_at": end - timedelta(minutes=minutes), "finished_at": end}
        add(database, task="a", state="succeeded", **times)
    span = ("--from", "2030-01-01T00:00Z", "--to", "2030-01-01T03:00Z")
    found = project.data("simulate", *span, "--workers", "1", "--concurrency", "1")
    assert found["places"] == 1
    forecasts = {each["name"]: each for each in found["simulation"]["schedules"]}
    assert forecasts["b"]["worst_lateness"] >= 600
    assert [forecasts[name]["ran"] for name in "ab"] == [3, 3]
    assert [each["due"] for each in found["simulation"]["minutes"] if each["due"]] == [2, 2, 2]
    told = project.run("simulate", *span, "--workers", "1", "--concurrency", "1").stdout
    assert "2 schedules, 1 with measured durations, 1 place\n" in told
    assert "the latest start 10m after its time" in told
    assert project.data("simulate", *span)["places"] == 8
    assert "is not before" in project.refused("simulate", "--to", "2000-01-01T00:00Z")


def test_simulate_leaves_out_what_it_cannot_read(project: Project, database: Database) -> None:
    project.run("daemon", "--once")
    execute(database, "UPDATE sched_schedules SET definition = '{}'")
    told = project.run("simulate")
    assert told.stderr == f"sched: schedule {NAME} is left out: its times cannot be computed here\n"


def test_explain_says_why_a_job_does_not_run(project: Project, database: Database) -> None:
    project.run("daemon", "--once")
    (job_id,) = query(database, "SELECT MIN(id) FROM sched_jobs")[0]
    told = project.run("explain", str(job_id)).stdout.splitlines()
    assert told[0] == f"job {job_id}, {NAME}, is queued:"
    assert told[1].startswith("  it is not due before ")
    codes = [each["code"] for each in project.data("explain", str(job_id))["reasons"]]
    assert codes == ["future", "no_worker"]
    project.run("queues", "pause", "default", "--reason", "deploy")
    assert "queue default is paused by " in project.run("explain", str(job_id)).stdout
    project.run("schedules", "pause", NAME, "--reason", "repairs")
    (reason,) = project.data("explain", str(job_id))["reasons"]
    assert reason["code"] == "paused"
    assert "(repairs) until it is resumed" in reason["words"]
    execute(database, "UPDATE sched_jobs SET state = 'succeeded', held_reason = NULL")
    told = project.run("explain", str(job_id)).stdout.splitlines()
    assert told[0] == f"job {job_id}, {NAME}, succeeded:"
    project.refused("explain", "99999", code=5)


def test_explain_names_the_job_that_holds_the_guard(project: Project, database: Database) -> None:
    holder = add(database, guard="g", slot=0)
    waits = add(database, guard="g", gated=True)
    assert (
        f"must not overlap with job {holder}, which holds 'g'"
        in project.run("explain", str(waits)).stdout
    )
