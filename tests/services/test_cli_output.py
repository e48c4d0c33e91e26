"""How `sched` prints: JSON, tables, colours, times; and how it ends on signals."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from command import Project
from cronqueue.database import Database
from cronsched.cli.base import State
from cronsched.cli.up import _tell_next
from job_rows import add, now

SCHED = Path(sys.executable).parent / "sched"
SLOW = """
import time
from cronqueue import job

@job
def nap():
    print("up", flush=True)
    time.sleep(60)
"""
EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[bold]x[/nope]\r"


def on_terminal(*arguments: str, **environment: str) -> str:
    """What the command prints on a terminal."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **environment}
    process = subprocess.Popen([SCHED, *arguments], stdout=slave, stdin=slave, env=env)
    os.close(slave)
    printed = b""
    try:
        while chunk := os.read(master, 65_536):
            printed += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    finally:
        os.close(master)
    assert process.wait(60) == 0
    return printed.decode()


def test_json_has_standard_output_for_itself(sqlite_project: Project) -> None:
    noisy = (
        'print("the file speaks")\n' + (sqlite_project.folder / "schedules/tasks.py").read_text()
    )
    (sqlite_project.folder / "schedules" / "tasks.py").write_text(noisy)
    assert sqlite_project.data("run", "tasks.greet", "--args", '["you"]')["result"] == "Hello, you!"
    assert sqlite_project.data("enqueue", "tasks.greet", "--args", '["you"]')["id"] == 1
    done = subprocess.run(
        [SCHED, "run", "tasks.greet", "--args", '["you"]', "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == (
        '{"format_version": 1, "data": {"task": "tasks.greet", "result": "Hello, you!"}}\n'
    )
    assert done.stderr == "the file speaks\nthe task speaks\n"


def test_a_narrow_terminal_shortens_times_before_names(
    sqlite_project: Project, sqlite_url: str
) -> None:
    database = Database(sqlite_url)
    add(database, task="reports.of_the_morning", queue="q", run_at=now())
    database.dispose()
    text = re.sub("\x1b[^m]*m", "", on_terminal("jobs", "list", COLUMNS="80"))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert " reports.of_the_morning " in lines[1]
    crowded = re.sub("\x1b[^m]*m", "", on_terminal("jobs", "list", COLUMNS="40"))
    assert max(map(len, crowded.splitlines())) <= 40


def test_tables_are_plain_and_aligned_off_a_terminal(
    sqlite_project: Project, sqlite_url: str
) -> None:
    database = Database(sqlite_url)
    add(database, task="t", queue="日本", priority=100, run_at=now())
    add(database, task="longer", queue="q", priority=-1, run_at=now())
    database.dispose()
    lines = sqlite_project.run("jobs", "list").stdout.splitlines()
    assert lines[0].startswith("ID  STATE   TASK    QUEUE  PRIORITY  RUN AT")
    assert lines[1].startswith(" 1  queued  t       日本        100  ")
    assert lines[2].startswith(" 2  queued  longer  q            -1  ")
    assert "\x1b" not in "".join(lines)


def test_tables_are_coloured_on_a_terminal_unless_no_color_is_set(
    sqlite_project: Project, sqlite_url: str
) -> None:
    database = Database(sqlite_url)
    add(database, state="failed", run_at=now())
    database.dispose()
    assert "\x1b[1;31mfailed" in on_terminal("jobs", "list")
    assert "\x1b" not in on_terminal("jobs", "list", NO_COLOR="1")


def test_a_narrow_terminal_loses_columns_and_says_so_rather_than_folding_names(
    sqlite_project: Project, sqlite_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    database = Database(sqlite_url)
    add(database, task="reports.monthly_figures", queue="reports", run_at=now())
    database.dispose()
    for more in ({}, {"NO_COLOR": "1"}):
        shown = on_terminal("jobs", "list", COLUMNS="72", **more)
        assert "reports.monthly_figures" in shown
        assert "PRIORITY" not in shown
        assert "no room here for PRIORITY" in capfd.readouterr().err
    assert "PRIORITY" in on_terminal("jobs", "list", COLUMNS="200")


def test_color_says_more_than_the_environment(sqlite_project: Project, sqlite_url: str) -> None:
    database = Database(sqlite_url)
    add(database, state="failed", run_at=now())
    database.dispose()

    def is_coloured(*options: str, **environment: str) -> bool:
        return (
            "\x1b[1;31mfailed"
            in sqlite_project.run("jobs", "list", *options, env=environment).stdout
        )

    assert is_coloured(FORCE_COLOR="1")
    assert not is_coloured(FORCE_COLOR="1", NO_COLOR="1")
    assert not is_coloured("--color", "never", FORCE_COLOR="1")
    assert is_coloured("--color", "always")
    assert is_coloured("--color", "always", NO_COLOR="1")


def test_stored_control_characters_never_reach_the_terminal(
    sqlite_project: Project, sqlite_url: str
) -> None:
    database = Database(sqlite_url)
    job_id = str(
        add(database, task=EVIL, queue=EVIL, reason=EVIL, state="failed", last_error=f"E: {EVIL}\n")
    )
    database.dispose()
    for command in (
        *(["jobs", "list"], ["jobs", "show", job_id], ["jobs", "show", job_id, "-v"]),
        *(["jobs", "failures"], ["queues", "list"], ["jobs", "list", "--color", "always"]),
    ):
        printed = sqlite_project.run(*command).output
        assert "\\x1b]0;owned\\x07" in printed
        assert "[bold]" in printed
        own_colours = re.sub(r"\x1b\[[0-9;]*m", "", printed)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", own_colours)
    waited = sqlite_project.run("jobs", "wait", job_id, code=7).output
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", waited)


def test_times_have_a_zone_and_a_distance_and_follow_tz(
    sqlite_project: Project, sqlite_url: str
) -> None:
    database = Database(sqlite_url)
    add(database, run_at=now().replace(year=2100, month=7, day=1, hour=12, minute=0, second=0))
    database.dispose()
    assert re.search(
        r"2100-07-01 12:00:00 UTC \(in \d+d( \d+[hms])?\)",
        sqlite_project.run("jobs", "list").stdout,
    )
    in_tokyo = sqlite_project.run("jobs", "list", "--tz", "Asia/Tokyo").stdout
    assert "2100-07-01 21:00:00 Asia/Tokyo (in " in in_tokyo
    assert sqlite_project.data("jobs", "list", "--tz", "Asia/Tokyo")[0]["run_at"].startswith(
        "2100-07-01T12:00:00."
    )


def test_a_clock_time_is_the_next_one_in_the_zone(sqlite_project: Project) -> None:
    found = sqlite_project.data(
        *("enqueue", "tasks.greet", "--args", '["a"]', "--at", "07:30", "--tz", "Asia/Tokyo")
    )
    assert found["run_at"].endswith("T22:30:00.000000Z")
    assert found["run_at"] > now().isoformat()


def test_quiet_acts_say_nothing_and_verbose_faults_show_where(sqlite_project: Project) -> None:
    assert sqlite_project.run("queues", "pause", "mail", "-q").output == ""
    result = sqlite_project.run("jobs", "show", "999", "-v", code=5)
    assert "Traceback" in result.stderr
    assert result.stderr.endswith(
        "sched: there is no job 999: deleted, or pruned after its retention\n"
    )
    assert "not both" in sqlite_project.refused("jobs", "list", "-q", "-v")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_its_code_and_no_traceback(
    sqlite_project: Project, number: signal.Signals, code: int
) -> None:
    (sqlite_project.folder / "schedules" / "slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [SCHED, "run", "slow.nap"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.communicate(timeout=60)[1].strip() == ""
    assert process.returncode == code


def test_a_reader_that_has_seen_enough_is_no_fault(sqlite_project: Project) -> None:
    process = subprocess.Popen(
        [SCHED, "db", "sql"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.wait(60)


def test_up_hands_its_options_on_names_its_database_once_and_ends_cleanly(
    sqlite_project: Project,
) -> None:
    folder = sqlite_project.folder / "up"
    (sqlite_project.folder / "schedules").rename(folder)
    logged = sqlite_project.folder / "up.log"
    with logged.open("w") as log:
        process = subprocess.Popen(
            [SCHED, "up", "--no-web", "--schedules", "up", "--database-url", "sqlite:///up.db"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    assert process.stdout.readline() == f"database sqlite:///{sqlite_project.folder}/up.db\n"
    assert select.select([process.stdout], [], [], 60)[0]
    assert process.stdout.readline().startswith("NEXT")
    assert "tasks.refresh" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "daemon" in logged.read_text()
    assert "database" not in logged.read_text()


def test_up_goes_on_when_the_server_has_ended_its_session(postgres_url: str) -> None:
    database, other = Database(postgres_url), Database(postgres_url)
    _tell_next(State(), database, None)
    with other.autocommit() as connection:
        connection.execute(text(OTHERS_ENDED))

    assert _tell_next(State(), database, "told") == "told"

    for each in (database, other):
        each.dispose()


OTHERS_ENDED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
