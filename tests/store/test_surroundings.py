"""What a plan's warnings are judged by: how long tasks take, and which queues are taken."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cronqueue.database import Database
from cronsched.definition import Definition
from cronsched.surroundings import look_around
from cronsched.triggers import Every
from job_rows import add, at, execute, opened

MADE = [Definition(name=name, task="work", trigger=Every(60), queue=name) for name in ("a", "b")]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    yield from opened(database_url)


def look(database: Database) -> Any:
    return look_around(database, MADE, {})


def add_worker(database: Database, queues: str | None, seconds: float = 0, **more: Any) -> None:
    execute(
        database,
        "INSERT INTO sched_workers (id, kind, name, host, pid, version, queues, exclude_queues, state,"
        " started_at, heartbeat_at) VALUES (:id, 'worker', 'w', 'h', 1, '1', :queues, :excluded, 'running',"
        " :at, :at)",
        id=f"{queues}{seconds}{more}",
        queues=queues,
        excluded=more.get("excluded"),
        at=database.moment(at(seconds)),
    )


def test_what_most_runs_of_a_task_take_is_measured_from_those_that_succeeded(
    database: Database,
) -> None:
    for seconds in range(1, 21):
        ended = {"started_at": at(-100), "finished_at": at(seconds - 100)}
        add(database, task="work", state="succeeded", **ended)
    add(database, task="work", state="failed", started_at=at(-9000), finished_at=at(0))
    assert look(database).durations == {"work": timedelta(seconds=20)}


def test_without_workers_nothing_is_known_of_queues(database: Database) -> None:
    add_worker(database, "a", seconds=-600)
    assert look(database).queues is None


@pytest.mark.parametrize(
    ("queues", "excluded", "taken"),
    [("a,c", None, {"a"}), (None, None, {"a", "b"}), (None, "a", {"b"}), ("c", None, set())],
)
def test_a_queue_is_taken_by_whoever_serves_it_and_is_alive(
    database: Database, queues: str | None, excluded: str | None, taken: set[str]
) -> None:
    add_worker(database, queues, excluded=excluded)
    assert look(database).queues == taken
