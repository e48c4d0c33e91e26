"""Whatever `sched` cannot use gets one line that names the place and the remedy, and changes nothing."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command import Project
from cronqueue.database import Database
from job_rows import execute

SCHED = Path(sys.executable).parent / "sched"
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
GREET = ("enqueue", "tasks.greet", "--args", '["a"]')


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (*GREET, "--at", "2026-12-01T10:00"),
            "--at '2026-12-01T10:00' has no time zone: add an offset",
        ),
        (
            (*GREET, "--at", "tomorrow-ish"),
            "--at 'tomorrow-ish' is no time: write 2026-01-31T07:30+01:00",
        ),
        (
            (*GREET, "--at", "9999-12-31T23:59:59-12:00"),
            "is out of range: give a time from 1970 to 8999",
        ),
        ((*GREET, "--at", "10000-01-01T00:00Z"), "is no time"),
        ((*GREET, "--at", "in 2 parsecs"), "is no time"),
        ((*GREET, "--at", "eternity ago"), "'in 2h', '2h ago' or now"),
        (("schedules", "backfill", "a", "--rate", "0"), "'0' is no rate: write 10/min"),
        (("schedules", "backfill", "a", "--rate", "5/year"), "'5/year' is no rate"),
        (("schedules", "backfill", "a", "--rate", "1e9"), "'1e9' is no rate"),
        ((*GREET, "--at", "0001-01-01T00:00+14:00"), "is out of range"),
        ((*GREET, "--at", "10:00", "--in", "5m"), "--at or --in, not both"),
        ((*GREET, "--in", "infinity"), "'--in': 'infinity' is no duration: write 90s, 5m"),
        ((*GREET, "--in", "-5m"), "'--in': '-5m' is no duration"),
        ((*GREET, "--in", "11y"), "'--in': '11y' is no duration"),
        ((*GREET, "--timeout", "0"), "give a duration longer than zero"),
        ((*GREET, "--priority", "9999999999"), "priority 9999999999: give a whole number between"),
        ((*GREET, "--max-attempts", "0"), "max_attempts 0: give a whole number from 1"),
        ((*GREET, "--queue", "a,b"), "queue 'a,b': a name is"),
        ((*GREET, "--queue", "\x1b[2J"), r"queue '\x1b[2J': a name is"),
        ((*GREET, "--key", ""), "key '': give a text of 1 to 500 characters"),
        (("enqueue", "tasks.greet", "--args", "you"), "'--args': 'you' is no JSON"),
        (("enqueue", "tasks.greet", "--args", "{}"), """'{}' is no JSON list: write ["a", 1]"""),
        (("enqueue", "tasks.greet", "--kwargs", "[]"), "'[]' is no JSON object: write {"),
        (("enqueue", "tasks.greet", "--args", "[" * 9999 + "]" * 9999), "nested too deeply"),
        (("enqueue", "tasks.greet", "--args", "[" * 99 + "]" * 99), "more than 64 containers"),
        (("enqueue", "tasks.greet", "--args", '["\\u0000"]'), "args[0]: has a NUL character"),
        (("enqueue", "tasks.greet", "--args", '["\\ud800"]'), "args[0]: has a lone surrogate"),
        (("enqueue", "tasks.greet", "--args", "[NaN]"), "args[0]: JSON has no nan"),
        (("enqueue", "tasks.greet", "--args", f'["{"x" * 2_000_000}"]'), "args"),
        (("enqueue", "tasks.greet", "--args", "[]"), "missing a required argument: 'name'"),
        (("enqueue", "a b", "--force"), "task name 'a b': letters, digits"),
        (("enqueue", "\udcff"), r"'\udcff' is no text: bytes that are not UTF-8"),
        (("jobs", "list", "--task", "a\0b"), r"'a\x00b' is no text"),
        (("jobs", "list", "--tz", "Europe/Lodon"), "did you mean 'Europe/London'?"),
        (("jobs", "list", "--tz", "UTC", "--utc"), "--utc or --tz, not both"),
        (("jobs", "list", "--state", "faild"), "'faild' is not one of 'queued'"),
        (("jobs", "list", "--due-before", "soon"), "--due-before 'soon' is no time"),
        (("jobs", "show", "99999999999999999999"), "is no job's id: give a number such as 17"),
        (("jobs", "cancel", "-1"), "No such option"),
        (("jobs", "cancel", "abc"), "'abc' is no job's id"),
        (("jbos", "list"), "there is no command 'jbos'; did you mean 'jobs'? (see sched --help)"),
        (("jobs", "lst"), "did you mean 'list'? (see sched jobs --help)"),
        (("jobs", "list", "--stat", "failed"), "No such option"),
        (("schedules", "explain", "61 * * * *"), "field 1 (minute): 61 is not within 0-59"),
        (("schedules", "explain", "0 25 * * *"), "field 2 (hour): 25 is not within 0-23"),
        (("schedules", "explain", "0 0 30 2 *"), "never comes"),
        (("schedules", "explain", ""), "0 fields: give 5 fields"),
        (
            ("queues", "pause", "q", "--until", "1999-01-01T00:00Z"),
            "has passed: give a time to come",
        ),
        (("worker", "--lease", "soon"), "'--lease': 'soon' is no duration"),
        (("worker", "--concurrency", "0"), "--concurrency 0: give a whole number of at least 1"),
        (("daemon", "--horizon", "-1"), "'--horizon': '-1' is no duration"),
        (("run", "tasks.great"), "did you mean 'tasks.greet'?"),
        (("jobs", "list", "--database-url", "mysql://h/d"), "database 'mysql' is not supported"),
        (("jobs", "list", "--database-url", "nonsense"), "cannot be read: write sqlite:///"),
        (("jobs", "list", "--database-url", "postgresql://h:abc/d"), "cannot be read"),
        (
            ("jobs", "list", "--database-url", "postgresql://h/d?pooler=session"),
            "pooler=session in the database URL: give pooler=transaction",
        ),
        (("jobs", "list", "--database-url", "sqlite://"), "in memory cannot be shared"),
        (("jobs", "list", "--database-url", "sqlite:///%00.db"), "a file with a NUL character"),
        ((*GREET, "--key", "k" * 501), f"key '{'k' * 59}: give a text of 1 to 500 characters"),
        ((*GREET, "--queue", "q" * 501), f"queue '{'q' * 59}: a name is 1 to 200"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_used_is_refused_with_the_remedy(
    sqlite_project: Project, arguments: tuple[str, ...], words: str
) -> None:
    assert words in sqlite_project.refused(*arguments)
    assert sqlite_project.data("jobs", "list") == []


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("database_url = ", "sched.toml: Invalid value (at "),
        (
            'databse_url = "x"',
            "sched.toml: there is no setting 'databse_url'; did you mean 'database_url'?",
        ),
        ('concurrency = "x"', "sched.toml: concurrency 'x': give a whole number"),
        ("queues = 3", "sched.toml: queues 3: give names"),
        ('quiet = "perhaps"', "sched.toml: quiet 'perhaps': give true or false"),
        ("lease = 0", "sched.toml: lease 0: a lease is at least 1s"),
        (
            'tz = "Europe/Lodon"',
            "sched.toml: tz 'Europe/Lodon' is not a known time zone: did you mean",
        ),
    ],
)
def test_a_faulty_settings_file_is_named(sqlite_project: Project, toml: str, words: str) -> None:
    (sqlite_project.folder / "sched.toml").write_text(toml)
    assert words in sqlite_project.refused("jobs", "list")


def test_all_faults_of_the_settings_are_told_at_once(
    sqlite_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sqlite_project.folder / "sched.toml").write_text("nonsense = 1\nlease = 0\n")
    monkeypatch.setenv("SCHED_CONCURRENCY", "many")
    monkeypatch.setenv("SCHED_NAME", "\x1b[2J")
    lines = sqlite_project.run("jobs", "list", code=2).stderr.splitlines()
    assert len(lines) == 4
    assert "sched: SCHED_CONCURRENCY 'many': give a whole number" in lines
    assert r"sched: SCHED_NAME '\x1b[2J': give a text of printable characters" in lines


def test_delayed_jobs_names_are_read_by_the_worker_alone(
    sqlite_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIN_PRIORITY", "high")
    assert sqlite_project.refused("worker", "--burst") == "MIN_PRIORITY 'high': give a whole number"
    sqlite_project.run("jobs", "list")


def test_a_file_that_does_not_load_is_named_with_its_line(sqlite_project: Project) -> None:
    (sqlite_project.folder / "schedules" / "broken.py").write_text("x = 1\ndef y(:\n")
    assert "broken.py:2: SyntaxError" in sqlite_project.run("plan", code=1).stderr
    assert sqlite_project.data("plan", code=1)["faults"][0]["line"] == 2
    assert "broken.py:2" in sqlite_project.run(*GREET).stderr


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda path: path.write_bytes(b"this is no database at all" * 100),
            "file is not a database",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:20_000]), "malformed"),
        (lambda path: (path.unlink(), path.mkdir()), "unable to open database file"),
    ],
    ids=["garbage", "cut", "folder"],
)
def test_a_file_that_is_no_database_is_named(
    sqlite_project: Project, make: object, words: str
) -> None:
    path = sqlite_project.folder / "sched.db"
    assert callable(make)
    make(path)
    for command in (["jobs", "list"], GREET):
        line = sqlite_project.refused(*command, code=6)
        assert line.startswith(f"cannot use the database sqlite:///{path}: ")
        assert words in line


@pytest.mark.parametrize("command", [("jobs", "list"), GREET, ("worker", "--burst")])
def test_a_file_that_may_only_be_read_is_told_in_one_line(
    sqlite_project: Project, command: tuple[str, ...]
) -> None:
    (sqlite_project.folder / "sched.db").chmod(0o444)
    sqlite_project.folder.chmod(0o555)
    ended = subprocess.run(
        [SCHED, "--quiet", *command],
        env=os.environ | {"SCHED_DATABASE_URL": sqlite_project.url},
        preexec_fn=be_bound_by_permissions,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 6
    assert ended.stderr.endswith("attempt to write a readonly database\n")
    assert ended.stderr.count("\n") == 1


def test_a_full_disk_is_told_in_one_line(sqlite_project: Project, sqlite_url: str) -> None:
    database = Database(sqlite_url)
    execute(
        database,
        "CREATE TRIGGER full BEFORE INSERT ON sched_jobs"
        " BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
    )
    database.dispose()
    assert "database or disk is full" in sqlite_project.refused(*GREET, code=6)


def test_a_server_that_does_not_answer_is_named_without_its_password(
    sqlite_project: Project, postgres_url: str
) -> None:
    for url, words in (
        ("postgresql://me:secret@127.0.0.1:1/x", "Connection refused"),
        (postgres_url.replace("sched_test", "no_such"), "does not exist"),
        (postgres_url.replace("postgres@", "nobody:secret@"), 'role "nobody" does not exist'),
        (f"{postgres_url}?nonsense=1", 'invalid connection option "nonsense"'),
    ):
        line = sqlite_project.refused("jobs", "list", "--database-url", url, code=6)
        assert words in line
        assert "secret" not in line


def test_a_schema_that_does_not_fit_is_told_with_the_remedy(
    sqlite_project: Project, postgres_url: str
) -> None:
    database = Database(postgres_url)
    for change, words in (
        ("UPDATE sched_schema_version SET version_num = '0000'", "run `sched db upgrade`"),
        (
            "UPDATE sched_schema_version SET version_num = '9999'",
            "upgrade cronqueue on this machine",
        ),
        ("DROP TABLE sched_schema_version", "take them away, or use another database"),
    ):
        execute(database, change)
        for command in (["jobs", "list"], GREET, ["daemon", "--once"]):
            assert words in sqlite_project.refused(*command, "--database-url", postgres_url, code=6)
    database.dispose()


def test_a_missing_driver_is_named_with_the_extra_that_brings_it(sqlite_project: Project) -> None:
    blocked = sqlite_project.folder / "blocked"
    blocked.mkdir()
    (blocked / "psycopg.py").write_text("raise ImportError('psycopg is not installed')\n")
    done = subprocess.run(
        [SCHED, "jobs", "list", "--database-url", "postgresql://h/d"],
        check=False,
        env={**os.environ, "PYTHONPATH": str(blocked)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'cronqueue[postgres]'" in done.stderr


def test_a_folder_that_cannot_be_written_is_told_in_one_line(sqlite_project: Project) -> None:
    (sqlite_project.folder / "file").write_text("")
    assert "file" in sqlite_project.refused("init", "file/below", code=1)
    shutil.rmtree(sqlite_project.folder / "schedules")
    assert "no task is named 'tasks.greet'" in sqlite_project.refused(*GREET)


def test_a_host_that_no_name_server_could_be_asked_for_is_told(sqlite_project: Project) -> None:
    url = f"postgresql://{'h' * 300}/d"
    assert "label too long" in sqlite_project.refused("jobs", "list", "--database-url", url, code=6)


def test_a_list_that_goes_nowhere_is_no_error(sqlite_project: Project) -> None:
    sqlite_project.enqueue("tasks.greet", "--args", '["a"]')
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" jobs list >&-', SCHED],
        cwd=sqlite_project.folder,
        env=os.environ | {"SCHED_DATABASE_URL": sqlite_project.url},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def be_bound_by_permissions() -> None:
    """Nothing is read-only for root, unless what is started now may not override it."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)
