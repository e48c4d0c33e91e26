"""Bodies that behave badly: what they do stays theirs, and the executor goes on."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from cronqueue import current_job, hook, job
from cronqueue.database import Database
from cronqueue.errors import JobTimeout
from cronqueue.search import NEVER
from in_process import PATIENCE, InProcess, blocked
from job_rows import add, configured, get, states


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    with configured(Database(sqlite_url)) as database:
        yield database
    database.dispose()


def run_all(executor: InProcess) -> None:
    """Until nothing is due and nothing runs."""
    executor.rest()
    executor.turn_until(
        lambda: executor._holdings.is_empty() and executor._correspondence.claims_at == NEVER
    )


def test_exit_in_a_task_of_a_body_does_not_stop_the_event_loop_of_the_others(
    database: Database,
) -> None:
    async def leave() -> None:
        sys.exit(3)

    @job(name="leaves")
    async def leaves() -> None:
        await asyncio.gather(leave())

    @job(name="t")
    async def works() -> None:
        await asyncio.sleep(0)

    executor = InProcess(database)
    add(database, task="leaves", max_attempts=1, priority=9)
    run_all(executor)
    add(database)
    executor.hear("wake")
    run_all(executor)
    assert states(database) == ["failed", "succeeded"]


def test_a_timeout_at_the_very_end_of_an_async_body_does_not_cost_its_place(
    postgres_url: str,
) -> None:
    database = Database(postgres_url)
    executor = InProcess(database, concurrency=1)

    @job(name="t")
    async def ends_just_in_time() -> None:
        assert current_job().session is not None
        (execution,) = executor._holdings.running
        execution.interruption.fire(JobTimeout)  # reaches the loop when the body is over

    add(database)
    with configured(database):
        run_all(executor)
    assert states(database) == ["succeeded"]
    assert executor._pool._active == 0
    database.dispose()


def test_an_async_body_that_was_kept_by_another_does_not_begin_after_its_lease(
    database: Database,
) -> None:
    ran: list[str] = []
    with blocked() as (begun, go_on):

        @job(name="blocks")
        async def blocks() -> None:
            begun.set()
            go_on.wait(PATIENCE)

        @job(name="t")
        async def follows() -> None:
            ran.append("follows")

        executor = InProcess(database)
        add(database, task="blocks", priority=9)
        add(database)
        executor.rest()
        assert begun.wait(PATIENCE)
        executor.board.renewed_at = 0.0
        go_on.set()
        # A task that is started after the second body's has its turn after it.
        loop = executor._pool._event_loop()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(PATIENCE)
        assert ran == []
        assert executor._pool.offered() == 1


def test_what_a_body_sets_in_its_context_is_not_seen_by_the_next(database: Database) -> None:
    color: ContextVar[str] = ContextVar("color", default="none")
    seen: list[str] = []

    @job(name="t")
    def paints() -> None:
        seen.append(color.get())
        color.set("red")

    executor = InProcess(database, concurrency=1)
    add(database)
    add(database)
    run_all(executor)
    assert seen == ["none", "none"]


@pytest.mark.parametrize("way", ["returns", "exits"])
def test_a_child_that_a_body_forks_ends_with_the_body(database: Database, way: str) -> None:
    statuses: list[int] = []
    after: list[int] = []

    @job(name="t")
    def forks() -> None:
        pid = os.fork()
        if pid == 0:
            if way == "exits":
                sys.exit(7)
            return
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    @hook("after")
    def note(running: object) -> None:
        after.append(os.getpid())

    executor = InProcess(database, concurrency=1)
    add(database)
    run_all(executor)
    assert states(database) == ["succeeded"]
    assert statuses == [7 if way == "exits" else 0]
    assert after == [os.getpid()]
    assert get(database, 1).attempts == 1
