"""Bad input by machine: whatever comes in, there is an answer soon, and everything else goes on.

`make fuzz` tries as many inputs of each kind as it is told to, `make test` a few. Each must have its answer
within a second.
"""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, cast

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from command import TASKS, Project
from cronqueue import configuration, enqueue, job, prune, rescue
from cronqueue.clock import utcnow
from cronqueue.database import Database
from cronqueue.errors import CronqueueError
from cronqueue.serialization import decode_call, decode_value, encode_call
from cronqueue.testing import run_due
from cronsched import at_times, cron, daily, every, monthly, weekly
from cronsched.cli import sched
from cronsched.triggers import Cron
from job_rows import all_jobs, execute, query

# How many of each kind.
EXAMPLES = int(os.environ.get("SCHED_TEST_FUZZ_EXAMPLES", "0"))
# Seconds of processor time for each: what else the machine does is no fault of the input.
LONGEST = 1.0


class TooLong(Exception):
    """An input has not had its answer in time."""


def many(*args: Any, **named: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Try the test with as many inputs of these kinds as was asked for."""
    chosen = settings(
        max_examples=EXAMPLES or 40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not EXAMPLES,
    )
    return lambda test: chosen(cast(Any, given)(*args, **named)(soon(test)))


def soon(test: Callable[..., None]) -> Callable[..., None]:
    """A test that is broken off where it takes too long, and fails even if the breaking off is caught."""

    def break_off(number: int, frame: object) -> None:
        broken.append(True)
        raise TooLong(f"{LONGEST:g} s of processor time are over")

    broken: list[bool] = []

    @functools.wraps(test)
    def timed(*args: Any, **named: Any) -> None:
        broken.clear()
        before = signal.signal(signal.SIGPROF, break_off)
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        try:
            test(*args, **named)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
        assert not broken, f"no answer within {LONGEST:g} s of processor time"

    return timed


_texts = st.text(max_size=40) | st.text("0123456789*/-,LH#?W() @%\0\x7fäß٣", max_size=210)
_plain = st.none() | st.booleans() | st.integers() | st.floats() | _texts
_json = st.recursive(
    _plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)
_PARTS = ["*", "5", "*/7", "1-5", "5-1", "L", "W", "31", "feb", "H(3-9)", "99", "?", ","]
_OPTIONS = [
    "at", "day", "tz", "minutes", "jitter", "overlap", "start_within", "exclude", "catch_up",
    "start", "end", "horizon", "priority", "queue", "name", "tags",
]  # fmt: skip
_NOW = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)


@many(_texts | st.lists(st.sampled_from(_PARTS)).map(" ".join))
def test_cron_text(expression: str) -> None:
    with suppress(CronqueueError):
        trigger = Cron(expression, "Europe/London")
        list(islice(trigger.between(_NOW, _NOW + timedelta(days=400)), 3))


@many(
    st.sampled_from([cron, daily, every, weekly, monthly, at_times]),
    st.lists(_texts | _plain, max_size=2),
    st.fixed_dictionaries(
        {},
        optional={name: _texts | _plain | st.lists(_plain, max_size=3) for name in _OPTIONS},
    ),
)
def test_declared_times(kind: Callable[..., Any], args: list[Any], options: dict[str, Any]) -> None:
    with suppress(CronqueueError, TypeError):  # TypeError: an argument that it does not have
        kind(*args, **options)


@many(st.lists(_json | st.just(object()) | st.binary(max_size=9), max_size=4), _json)
def test_arguments(args: list[Any], kwargs: Any) -> None:
    with suppress(CronqueueError):
        encoded = encode_call(args, kwargs)
        assert encode_call(*decode_call(encoded)) == encoded


@many(_texts | _json.map(json.dumps) | st.recursive(st.just("1"), lambda x: x.map("[{}]".format)))
def test_stored_arguments(stored: str) -> None:
    for read in (decode_call, decode_value):
        with suppress(CronqueueError):
            read(stored)


@job(name="fuzz.good")
def good(*args: object, **kwargs: object) -> int:
    return len(args) + len(kwargs)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One SQLite database for all examples."""
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('fuzz')}/sched.db")
    configuration.use_database(database)
    enqueue("fuzz.good")
    yield database
    database.dispose()
    configuration.use_database(None)


@many(
    task=_texts | st.just("fuzz.good"),
    args=st.lists(_json, max_size=2),
    options=st.fixed_dictionaries(
        {},
        optional={
            "queue": _texts,
            "key": _texts,
            "priority": st.integers() | _plain,
            "max_attempts": st.integers(-2, 5) | _plain,
            "delay": st.floats() | st.sampled_from(["1s", "x", "9" * 40 + "d"]),
            "timeout": st.floats() | _texts,
            "expires": st.floats() | st.datetimes(),
            "run_at": st.datetimes(timezones=st.none() | st.just(UTC)),
            "tags": st.dictionaries(_texts, _texts, max_size=2) | _plain,
        },
    ),
)
def test_names_and_options(
    shared: Database, task: str, args: list[Any], options: dict[str, Any]
) -> None:
    with suppress(CronqueueError):
        made = enqueue(task, args, **options)
        assert query(shared, "SELECT task FROM sched_jobs WHERE id = :id", id=made.id) == [(task,)]


_cells: dict[str, st.SearchStrategy[Any]] = {
    "task": _texts | st.just("fuzz.good"),
    "args": _texts | _json.map(json.dumps),
    "queue": _texts,
    "priority": st.integers(-(2**31), 2**31 - 1) | _plain,
    "state": st.sampled_from(["queued", "held", "running", "failed", "succeeded", "x"]),
    "held_reason": st.sampled_from(["paused", "unknown_task", "overlap", "x"]),
    "attempts": st.integers(-2, 40),
    "max_attempts": st.integers(-2, 40) | _plain,
    "timeout": st.floats() | _plain,
    "lock_token": _texts,
    "locked_until": st.sampled_from(
        ["2026-01-02T03:04:05.678000Z", "9999", "2026-13-41T25:61:61.000000Z"]
    ),
    "run_at": st.sampled_from(["2026-01-02T03:04:05.678000Z", "soon"]),
    "key": _texts,
    "unique_key": _texts,
    "tags": _texts | _json.map(json.dumps),
    "progress": _texts,
    "result": _texts,
    "guard": _texts,
    "gated": st.sampled_from([0, 1, 7, "x"]),
    "schedule": _texts,
    "v": st.integers(-2, 40),
    "run_alone": st.sampled_from([0, 1]),
}


@many(st.lists(st.fixed_dictionaries({}, optional=_cells), min_size=1, max_size=5))
def test_rows(shared: Database, rows: list[dict[str, Any]]) -> None:
    execute(shared, "DELETE FROM sched_jobs")
    for row in rows:
        _insert(shared, {"task": "fuzz.good"} | row)
    sound = enqueue("fuzz.good", [1])

    rescue.rescue(shared)
    prune.expire(shared)
    run_due(shared)

    assert query(shared, "SELECT state FROM sched_jobs WHERE id = :id", id=sound.id) == [
        ("succeeded",)
    ]
    for each in all_jobs(shared):
        assert each.state != "running", each
        assert each.state != "queued" or each.run_at > utcnow() or each.v > 1 or each.gated, each


def _insert(database: Database, row: dict[str, Any]) -> None:
    names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    statement = text(f"INSERT INTO sched_jobs ({names}) VALUES ({values})")
    with suppress(IntegrityError, DataError, OperationalError, OverflowError):
        database.write(lambda connection: connection.execute(statement, row))


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        elif (*path, name) not in _ENDLESS:
            yield (*path, name)


# What runs until it is stopped or until a job has ended, and what takes its time to measure.
_ENDLESS = {("up",), ("daemon",), ("worker",), ("web",), ("jobs", "wait"), ("db", "bench")}
_WORDS = sorted(
    {"--json", "--limit", "--state", "--at", "--from", "--to", "--in", "--priority", "--queue", "--key",
     "--reason", "--yes", "--dry-run", "--tz", "--args", "1", "-1", "0", "9" * 30, "refresh", "fuzz.good",
     "07:30", "2026-02-30", "2026-03-29T01:30+00:00", "[1", "{}", "*/5 * * * *", "../..", "'; --", "é", ""}
)  # fmt: skip


def _asks_for_no_more(word: str) -> bool:
    """Neither to wait for a job nor for tracebacks."""
    return not (word.startswith("-") and ("v" in word or "w" in word))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project folder with a database of its own."""
    folder: Path = tmp_path_factory.mktemp("project")
    (folder / "schedules").mkdir()
    (folder / "schedules" / "work.py").write_text(TASKS)
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCHED_DATABASE_URL", f"sqlite:///{folder}/sched.db")
        yield Project(folder, f"sqlite:///{folder}/sched.db")
    os.chdir(before)


@many(
    st.sampled_from(sorted(_commands(sched))),
    st.lists(st.sampled_from(_WORDS) | _texts.filter(_asks_for_no_more), max_size=5),
)
def test_command_lines(project: Project, command: tuple[str, ...], words: list[str]) -> None:
    result = project.answer(*command, *words)
    assert result.exit_code in (0, 1, 2, 3, 4, 5, 6, 130), (command, words, result.output)
    assert "Traceback" not in result.output
