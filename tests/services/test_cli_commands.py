"""Every other command of `sched`, as its users call it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import inspect

from command import TASKS, Project
from cronqueue.database import Database
from cronqueue.schema import HEAD
from cronqueue.version import __version__
from cronsched.cli import COMMANDS
from job_rows import add, execute, now, query


def test_daemon_once_writes_what_plan_has_announced(project: Project) -> None:
    announced = project.run("plan").stdout.splitlines()
    assert announced[0] == "schedules: 1 file, 1 schedule"
    assert announced[1].startswith("+ tasks.refresh  ")
    assert announced[-1].startswith("Plan: 1 to add, 0 to change, 0 to remove.")
    (change,) = project.data("daemon", "--dry-run")["changes"]
    assert project.data("daemon", "--once") == {"exit_code": 0}
    assert len(project.data("jobs", "list", "--schedule", "tasks.refresh")) == change["added"]
    assert project.run("plan").stdout.splitlines()[-1] == "Nothing would change."


def test_the_horizon_says_how_far_ahead_the_daemon_writes(project: Project) -> None:
    project.run("daemon", "--once", "--horizon", "4h")
    assert 4 <= len(project.data("jobs", "list")) <= 5


def test_plan_tells_what_changes_of_a_schedule(project: Project) -> None:
    project.run("daemon", "--once")
    changed = TASKS.replace('tz="Europe/London"', 'minute=5, priority=3, tz="Europe/London"')
    (project.folder / "schedules" / "tasks.py").write_text(changed)
    lines = "\n".join(project.run("plan").stdout.splitlines()[1:-1])
    assert lines.startswith("~ tasks.refresh  when ")
    assert " -> " in lines
    assert "priority 0 -> 3" in lines
    (change,) = project.data("plan")["changes"]
    assert (change["kind"], change["changed"]["priority"]) == ("change", "0 -> 3")
    (project.folder / "schedules" / "tasks.py").write_text("")
    assert "- tasks.refresh" in project.run("plan").stdout


def test_plan_exits_with_3_only_when_asked_and_something_would_change(project: Project) -> None:
    project.run("plan")
    project.run("plan", "--exit-code", code=3)
    project.run("daemon", "--once")
    project.run("plan", "--exit-code")


def test_a_missing_folder_is_a_fault_and_removes_nothing(project: Project) -> None:
    project.run("daemon", "--once")
    for command in (["plan"], ["daemon", "--dry-run"], ["daemon", "--once"]):
        result = project.run(*command, "--schedules", "elsewhere", code=1)
        assert "the schedules folder is missing" in result.stderr or command[-1] == "--once"
    assert [row["name"] for row in project.data("schedules", "list")] == ["tasks.refresh"]
    assert {job["state"] for job in project.data("jobs", "list")} == {"queued"}


def test_schedules_can_be_looked_at_and_triggered(project: Project) -> None:
    project.run("daemon", "--once")
    (row,) = project.data("schedules", "list")
    assert (row["name"], row["tz"], row["state"]) == ("tasks.refresh", "Europe/London", "active")
    told = project.run("schedules", "show", "tasks.refresh").stdout
    assert "declared in  tasks.py:7\n" in told
    assert "tz           Europe/London\n" in told
    assert "overlap" not in told
    assert "overlap" in project.run("schedules", "show", "tasks.refresh", "-v").stdout
    shown = project.data("schedules", "show", "tasks.refresh")
    assert shown["next"] == project.data("schedules", "next", "tasks.refresh", "-n", "5")["next"]
    job_id = project.data("schedules", "trigger", "tasks.refresh", "--as", "2026-01-02T03:04Z")[
        "id"
    ]
    job = project.data("jobs", "show", str(job_id))
    assert (job["origin"], job["planned_for"]) == ("manual", "2026-01-02T03:04:00.000000Z")
    for act in ("show", "next", "trigger", "history"):
        assert "there is no schedule 'nope'" in project.refused("schedules", act, "nope", code=5)


def test_next_counts_from_the_time_that_it_is_given(project: Project) -> None:
    project.run("daemon", "--once")
    found = project.data(
        "schedules", "next", "tasks.refresh", "-n", "2", "--from", "2026-01-02T03:04Z"
    )
    assert found["next"] == ["2026-01-02T04:00:00.000000Z", "2026-01-02T05:00:00.000000Z"]


def test_history_shows_the_verdicts_of_what_has_come(project: Project, database: Database) -> None:
    project.run("daemon", "--once")
    assert project.data("schedules", "history", "tasks.refresh") == []
    execute(
        database,
        "INSERT INTO sched_occurrences (schedule, planned_for, verdict)"
        " VALUES ('tasks.refresh', :at, 'missed:late')",
        at=database.moment(now().replace(year=2025, microsecond=0)),
    )
    (line,) = project.data("schedules", "history", "tasks.refresh")
    assert (line["verdict"], line["job_id"]) == ("missed:late", None)
    assert "missed:late" in project.run("schedules", "history", "tasks.refresh").stdout


def test_explain_needs_no_database(sqlite_project: Project) -> None:
    options = ("--tz", "Europe/Berlin", "--from", "2026-01-02T12:00", "-n", "2")
    url = ("--database-url", "postgresql://127.0.0.1:1/none")
    lines = sqlite_project.run(
        "schedules", "explain", "0 6 * * mon", *options, *url
    ).stdout.splitlines()
    assert lines[0] == "at 06:00, only on Monday (Europe/Berlin)"
    assert lines[1].startswith("  2026-01-05 06:00:00 Europe/Berlin (")
    found = sqlite_project.data("schedules", "explain", "0 6 * * mon", *options)
    assert found["next"] == ["2026-01-05T05:00:00.000000Z", "2026-01-12T05:00:00.000000Z"]


def test_queues_are_paused_and_resumed(project: Project, database: Database) -> None:
    add(database, queue="mail", run_at=now())
    paused = project.run(
        "queues", "pause", "mail", "--reason", "deploy", "--until", "2100-01-01T00:00Z"
    )
    assert paused.stdout.endswith("undo: sched queues resume mail\n")
    (queue,) = project.data("queues", "list")
    assert (queue["name"], queue["due"], queue["paused"]["reason"]) == ("mail", 1, "deploy")
    assert "until 2100-01-01 00:00:00 UTC" in project.run("queues", "list").stdout
    assert project.data("queues", "resume", "mail") == {"name": "mail", "paused": False}
    assert project.refused("queues", "resume", "mail", code=1) == "queue 'mail' is not paused"


def test_stats_and_workers_tell_who_does_what(project: Project, database: Database) -> None:
    execute(
        database,
        "INSERT INTO sched_workers (id, kind, name, host, pid, version, state, min_priority, concurrency,"
        " running, started_at, heartbeat_at) VALUES ('1', 'worker', 'w', 'h', 7, '1', 'running', 2, 8, 1,"
        " :now, :now)",
        now=database.moment(now()),
    )
    assert project.data("workers", "list")[0]["name"] == "w"
    assert project.run("workers", "list").stdout.splitlines()[1].split()[:7] == [
        *("worker", "w", "7", "running", "1/8", "all", "2.."),
    ]
    add(database, run_at=now())
    assert project.data("stats")["by_state"]["queued"] == 1
    told = project.run("stats").stdout
    assert "1 executor with 8 places" in told
    assert "due now     1\n" in told


def test_the_schema_is_checked_upgraded_and_printed(project: Project, database: Database) -> None:
    assert project.run("db", "current").stdout == f"{HEAD}\n"
    assert project.data("db", "check") == {"version": HEAD, "needed": HEAD, "fit": "ok"}
    assert project.data("db", "upgrade") == {"before": HEAD, "version": HEAD}
    assert "was there already" in project.run("db", "upgrade").stdout
    assert "CREATE TABLE sched_jobs" in project.run("db", "sql").stdout
    assert "timestamptz" in project.data("db", "sql", "--dialect", "postgresql")[
        "sql"
    ].lower().replace("timestamp with time zone", "timestamptz")
    execute(database, "UPDATE sched_schema_version SET version_num = '9999'")
    assert f"newer than {HEAD}" in project.refused("db", "check", code=4)
    assert project.data("db", "check", code=4)["fit"] == "unknown"


def test_prune_deletes_what_was_kept_long_enough(project: Project, database: Database) -> None:
    add(database, state="succeeded", finished_at=now().replace(year=2025))
    add(database, state="failed", finished_at=now().replace(year=2025))
    assert project.run("db", "prune").stdout == "deleted 1 job\n"
    assert query(database, "SELECT state FROM sched_jobs") == [("failed",)]


def test_init_makes_a_project_that_works_and_keeps_what_is_there(
    tmp_path: Path, sqlite_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SCHED_DATABASE_URL")
    folder = tmp_path / "new"
    assert len(sqlite_project.data("init", str(folder))["written"]) == 2
    (folder / "sched.toml").write_text('database_url = "sqlite:///mine.db"\n')
    assert "is there already" in sqlite_project.run("init", str(folder)).stdout
    monkeypatch.chdir(folder)
    assert sqlite_project.run("run", "hello.greet", "--args", '["you"]').stdout == "Hello, you!\n"
    sqlite_project.run("daemon", "--once")
    assert (folder / "mine.db").exists()


def test_config_shows_each_value_with_its_origin_and_no_password(
    sqlite_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sqlite_project.folder / "sched.toml").write_text('lease = "45s"\n')
    monkeypatch.setenv("SCHED_CONCURRENCY", "3")
    url = "postgresql://me:hunter2@host/db?sslpassword=hidden"
    found = {
        row["name"]: row for row in sqlite_project.data("config", "show", "--database-url", url)
    }
    assert (found["lease"]["value"], Path(found["lease"]["origin"]).name) == (45, "sched.toml")
    assert (found["concurrency"]["value"], found["concurrency"]["origin"]) == (
        3,
        "SCHED_CONCURRENCY",
    )
    assert found["database_url"]["origin"] == "flag"
    printed = sqlite_project.run("config", "show", "--database-url", url).stdout
    assert "me:***@host" in printed
    assert "hunter2" not in printed
    assert "hidden" not in printed


def test_version_is_told_in_every_way_that_people_try(sqlite_project: Project) -> None:
    assert sqlite_project.run("version").stdout == f"cronqueue {__version__}\n"
    assert sqlite_project.run("--version").stdout == f"cronqueue {__version__}\n"
    assert sqlite_project.data("version") == {"version": __version__}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_of_the_shell(sqlite_project: Project, shell: str) -> None:
    script = sqlite_project.run("completion", shell).stdout
    assert "_SCHED_COMPLETE" in script
    assert sqlite_project.data("completion", shell)["script"].strip() == script.strip()


def test_completion_offers_commands(sqlite_project: Project) -> None:
    asked = {"_SCHED_COMPLETE": "bash_complete", "COMP_WORDS": "sched jobs re", "COMP_CWORD": "2"}
    assert sqlite_project.run(env=asked).stdout == "plain,retry\n"


def every_command() -> list[list[str]]:
    """All commands with their subcommands."""
    import click

    from cronsched.cli import sched

    found: list[list[str]] = [[]]
    for name in COMMANDS:
        command = sched.get_command(click.Context(sched), name)
        found.append([name])
        if isinstance(command, click.Group):
            found += [[name, each] for each in command.list_commands(click.Context(command))]
    return found


def test_help_of_every_command_imports_nothing_heavy() -> None:
    check = f"""
import sys
from click.testing import CliRunner
from cronsched.cli import sched
for command in {every_command()!r}:
    result = CliRunner().invoke(sched, [*command, "--help"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Usage: sched"), command
    heavy = {{"sqlalchemy", "croniter", "rich", "alembic", "apscheduler", "psycopg"}} & sys.modules.keys()
    assert not heavy, (command, heavy)
"""
    subprocess.run([sys.executable, "-c", check], check=True)


def test_db_bench_measures_and_leaves_nothing_behind(project: Project) -> None:
    found = project.data("db", "bench", "--seconds", "0.1")
    assert len(found) == 5
    assert all(figure > 0 for figure in found.values())
    assert "100 at a time" in project.run("db", "bench", "--seconds", "0.1").stdout
    database = Database(project.url)
    assert "sched_bench" not in inspect(database.engine).get_table_names()
    database.dispose()
    assert not list(project.folder.glob(".sched-bench*"))


def test_db_grants_prints_the_statements_of_each_role(sqlite_project: Project) -> None:
    printed = sqlite_project.run("db", "grants").stdout
    assert [line.split(":")[0] for line in printed.splitlines() if line.startswith("--")] == [
        "-- enqueuer",
        "-- worker",
        "-- daemon",
        "-- operator",
        "-- reader",
    ]
    one = sqlite_project.data("db", "grants", "--role", "reader", "--to", "monitoring")["reader"]
    assert 'GRANT SELECT ON sched_jobs TO "monitoring"' in one
    assert "no role 'root'" in sqlite_project.refused("db", "grants", "--role", "root")
    assert "--to needs --role" in sqlite_project.refused("db", "grants", "--to", "x")
