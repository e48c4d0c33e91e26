"""TERM and INT: nothing new begins, what runs may end, and nothing is lost."""

from __future__ import annotations

import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from cronqueue.queries import attempts_of
from job_rows import query
from postgres_server import PostgresServer
from services import Service, Stage, eventually, is_alive

ON_EITHER = pytest.mark.parametrize(
    ("database_url", "number"),
    [("sqlite", signal.SIGTERM), ("postgresql", signal.SIGINT)],
    indirect=["database_url"],
)


@ON_EITHER
def test_a_worker_told_to_stop_ends_what_runs_and_gives_back_what_waits(
    stage: Stage, number: signal.Signals
) -> None:
    (stage.schedules / "talkative.py").write_text(
        "import logging\nlogging.getLogger('cronqueue.worker').setLevel(logging.DEBUG)\n"
    )
    worker = stage.worker("--concurrency", "2")
    running = [stage.enqueue("hold", "end") for _ in range(2)]
    stage.wait_for_notes("began", 2)
    waiting = [stage.enqueue("quick") for _ in range(5)]

    worker.send(number)
    worker.wait_for_line("running ones have 30s")
    worker.wait_for_line("nothing new begins")  # the executor has heard of it, too
    stage.cue("end")

    assert worker.wait() == 0
    assert [stage.job(each).state for each in running] == ["succeeded"] * 2
    assert [(stage.job(each).state, stage.job(each).attempts) for each in waiting] == [
        ("queued", 0)
    ] * 5


def test_a_worker_that_an_operator_drains_ends_what_runs_and_leaves(stage: Stage) -> None:
    worker = stage.worker("--name", "mine", "--concurrency", "1", "--processes", "2")
    running = [stage.enqueue("hold", "end") for _ in range(2)]
    stage.wait_for_notes("began", 2)

    assert stage.run("workers", "drain", "mine").returncode == 0
    worker.wait_for_line("an operator has asked this worker to drain")
    waiting = stage.enqueue("quick")
    # It was on its way already: to whoever sends it now, this is the first word.
    worker.send(signal.SIGTERM)
    worker.wait_for_line("stopping: unstarted jobs go back")
    stage.cue("end")

    assert worker.wait() == 0
    assert [stage.job(each).state for each in running] == ["succeeded"] * 2
    assert (stage.job(waiting).state, stage.job(waiting).attempts) == ("queued", 0)
    assert query(stage.database, "SELECT id FROM sched_workers") == []


def test_an_idle_worker_that_is_drained_leaves_and_a_new_one_of_its_name_stays(
    sqlite_stage: Stage,
) -> None:
    worker = sqlite_stage.worker("--name", "mine")
    sqlite_stage.wait_for(sqlite_stage.enqueue("quick"))
    assert sqlite_stage.run("workers", "drain", "mine").returncode == 0
    assert worker.wait() == 0

    sqlite_stage.worker("--name", "mine")
    sqlite_stage.wait_for(sqlite_stage.enqueue("quick"))


def test_a_signal_to_all_of_its_processes_stops_a_worker_in_order(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker()
    job = sqlite_stage.enqueue("hold", "end")
    sqlite_stage.wait_for_notes("began")

    worker.send_all(signal.SIGTERM)
    worker.wait_for_line("running ones have")
    sqlite_stage.cue("end")

    assert worker.wait() == 0
    assert sqlite_stage.job(job).state == "succeeded"
    assert sqlite_stage.job(job).attempts == 1


def test_signals_that_come_together_are_one(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker()
    job = sqlite_stage.enqueue("hold", "end")
    sqlite_stage.wait_for_notes("began")

    # While it stands still they pile up, so that it sees all of them at once.
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        worker.send(number)
    worker.wait_for_line("running ones have")
    sqlite_stage.cue("end")

    assert worker.wait() == 0
    assert sqlite_stage.job(job).state == "succeeded"


@ON_EITHER
def test_a_second_signal_interrupts_what_runs_and_its_attempt_is_spent(
    stage: Stage, number: signal.Signals
) -> None:
    worker = stage.worker("--concurrency", "3")
    jobs = [
        stage.enqueue("hold", "never"),
        stage.enqueue("hold_async", "never"),
        stage.enqueue("ignore_everything"),
    ]
    stage.wait_for_notes("began", 3)

    worker.send(number)
    worker.wait_for_line("running ones have")
    worker.send(number)

    assert worker.wait() == 128 + number
    for each in jobs:
        assert (stage.job(each).state, stage.job(each).attempts) == ("queued", 1)
        assert [one.outcome for one in attempts_of(stage.database, each)] == ["interrupted"]
    assert stage.notes("ended") == []


def test_the_end_of_the_time_to_stop_interrupts_likewise(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker("--shutdown-timeout", "0.2s")
    job = sqlite_stage.enqueue("hold", "never")
    sqlite_stage.wait_for_notes("began")

    worker.send(signal.SIGTERM)

    assert worker.wait() == 128 + signal.SIGTERM
    assert (sqlite_stage.job(job).state, sqlite_stage.job(job).attempts) == ("queued", 1)


def test_a_worker_stops_although_the_database_is_away(
    own_postgres_server: PostgresServer, stage_on_own_server: Stage
) -> None:
    stage = stage_on_own_server
    worker = stage.worker("--shutdown-timeout", "1s")
    stage.enqueue("hold", "end")
    stage.wait_for_notes("began")
    pids = worker.executors()

    own_postgres_server.stop("immediate")
    stage.cue("end")
    stage.wait_for_notes("ended")
    worker.send(signal.SIGTERM)

    assert worker.wait() == 128 + signal.SIGTERM
    eventually(lambda: not any(map(is_alive, pids)), "end of the executors")


def test_new_executors_take_over_at_a_hangup_and_no_job_is_lost(stage: Stage) -> None:
    worker = stage.worker()
    old = stage.enqueue("hold", "end")
    (began,) = stage.wait_for_notes("began")

    worker.send(signal.SIGHUP)
    worker.wait_for_line("executors start anew")
    new = stage.enqueue("quick")
    stage.wait_for(new)
    stage.cue("end")
    stage.wait_for(old)

    assert stage.notes("ran")[0].pid != began.pid
    assert stage.job(old).attempts == 1
    eventually(lambda: not is_alive(began.pid), "end of the old executor")
    assert worker.stop() == 0


@pytest.mark.parametrize(("start", "line"), [(Stage.worker, "worker"), (Stage.daemon, "daemon")])
def test_a_hangup_does_nothing_to_a_service_that_is_still_starting(
    sqlite_stage: Stage, start: Callable[[Stage], Service], line: str
) -> None:
    with everything_locked(sqlite_stage):
        service = start(sqlite_stage)
        eventually(lambda: ignores_hangups(service.pid), "a service that has begun to start")
        service.send(signal.SIGHUP)
    service.wait_for_line(f"{line} {service.name}: ")
    assert service.stop() == 0


@contextmanager
def everything_locked(stage: Stage) -> Iterator[None]:
    """Nobody can even read: a service waits before it has looked at the schema."""
    stage.database.dispose()
    with closing(sqlite3.connect(make_url(stage.url).database or "")) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield


def ignores_hangups(pid: int) -> bool:
    """The kernel's own word for it."""
    ignored = re.search(r"SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return ignored is not None and bool(int(ignored[1], 16) & 1 << (signal.SIGHUP - 1))


def test_changed_schedule_files_are_run_by_new_executors(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker()
    first = sqlite_stage.enqueue("quick")
    sqlite_stage.wait_for(first)

    path = sqlite_stage.schedules / "tasks.py"
    path.write_text(path.read_text().replace('note("ran")', 'note("changed")'))
    worker.wait_for_line("schedule files have changed")
    old = sqlite_stage.notes("ran")[0].pid
    eventually(lambda: not is_alive(old), "end of the old executor")
    second = sqlite_stage.enqueue("quick")

    sqlite_stage.wait_for(second)
    assert sqlite_stage.notes("changed", second)
