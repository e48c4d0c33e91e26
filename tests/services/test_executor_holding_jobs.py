"""What an executor does with the jobs in its hands: it rests, gives back, and loses none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cronqueue import job, schema
from cronqueue.admission import Admission
from cronqueue.correspondence import LONGEST_UNSTARTED
from cronqueue.database import Database
from cronqueue.exchange import exchange
from cronqueue.executor import STALE_PAUSE
from in_process import PATIENCE, InProcess, blocked
from job_rows import add, configured, execute, get, states


@pytest.fixture
def database(database: Database) -> Iterator[Database]:
    with configured(database):
        yield database


def read_ahead(executor: InProcess, jobs: int) -> None:
    """As if its jobs had been short so far."""
    executor._holdings._prefetch = jobs


def test_last_attempts_behind_a_long_job_do_not_keep_the_executor_busy(database: Database) -> None:
    with blocked() as (begun, go_on):

        @job(name="t")
        def wait() -> None:
            begun.set()
            go_on.wait(PATIENCE)

        executor = InProcess(database, concurrency=1)
        add(database, priority=9)
        executor.rest()
        assert begun.wait(PATIENCE)
        for _ in range(4):
            add(database, max_attempts=1)
        read_ahead(executor, 4)
        executor.hear("wake")
        executor.rest()
        assert states(database) == ["running"] + ["queued"] * 4


def test_what_waits_behind_a_long_job_goes_back_to_others(database: Database) -> None:
    with blocked() as (begun, go_on):

        @job(name="t")
        def wait() -> None:
            begun.set()
            go_on.wait(PATIENCE)

        executor = InProcess(database, concurrency=1)
        for _ in range(4):
            add(database)
        read_ahead(executor, 6)
        executor.rest()
        assert begun.wait(PATIENCE)
        assert states(database) == ["running"] * 4
        assert executor._longest_wait() <= LONGEST_UNSTARTED
        executor.turn_until(lambda: states(database) == ["running"] + ["queued"] * 3)
        executor.rest()
        assert [get(database, each).attempts for each in (1, 2, 3, 4)] == [1, 0, 0, 0]


def test_an_unstarted_job_that_is_cancelled_leaves_no_deadline_behind(database: Database) -> None:
    with blocked() as (begun, go_on):

        @job(name="t")
        def wait() -> None:
            begun.set()
            go_on.wait(PATIENCE)

        executor = InProcess(database, concurrency=1)
        add(database)
        waiting = add(database)
        read_ahead(executor, 1)
        executor.rest()
        assert begun.wait(PATIENCE)
        executor.hear("cancel", [waiting])
        executor.turn_until(lambda: states(database) == ["running", "queued"])
        assert len(executor._interrupts) == 0


def test_who_waits_for_a_renewal_looks_for_it_all_the_time(database: Database) -> None:
    executor = InProcess(database)
    executor.board.renewed_at = 0.0
    add(database)
    executor._correspondence.hear_hint()

    executor.turn()

    assert states(database) == ["queued"]
    assert executor._longest_wait() <= STALE_PAUSE


def test_a_lost_job_that_has_not_begun_never_begins(database: Database) -> None:
    ran: list[int] = []
    with blocked() as (begun, go_on):

        @job(name="t")
        def wait() -> None:
            ran.append(1)
            begun.set()
            go_on.wait(PATIENCE)

        executor = InProcess(database, concurrency=1)
        add(database)
        lost = add(database)
        read_ahead(executor, 1)
        executor.rest()
        assert begun.wait(PATIENCE)
        (token,) = (token for token, held in executor._holdings._held.items() if lost in held)
        execute(database, "DELETE FROM sched_jobs WHERE id = :id", id=lost)
        executor.hear("held", {token: frozenset()})
        executor.turn()
        assert executor._pool.offered() == 0
        go_on.set()
        executor.turn_until(lambda: states(database) == ["succeeded"])
        executor.rest()
        assert ran == [1]


def test_a_job_that_was_lost_may_be_claimed_again_beside_its_first_body(database: Database) -> None:
    bodies: list[threading.Event] = []
    begun = threading.Semaphore(0)

    @job(name="t")
    def wait() -> None:
        mine = threading.Event()
        bodies.append(mine)
        begun.release()
        mine.wait(PATIENCE)

    executor = InProcess(database, concurrency=2)
    again = add(database)
    executor.rest()
    assert begun.acquire(timeout=PATIENCE)
    # Another worker rescues it, and it comes back here.
    execute(
        database,
        "UPDATE sched_jobs SET state = 'queued', lock_token = NULL, locked_until = NULL WHERE id = :id",
        id=again,
    )
    executor.hear("wake")
    executor.turn_until(lambda: len(bodies) == 2)  # a sweep finds it, if the first claim was slow
    assert begun.acquire(timeout=PATIENCE)
    bodies[0].set()
    executor.turn_until(lambda: len(executor._holdings.running) == 1)
    executor.rest()
    assert [each.job_id for each in executor.board.begun()] == [again]
    bodies[1].set()
    executor.turn_until(lambda: not executor._holdings.running)
    executor.rest()
    assert get(database, again).state == "succeeded"
    assert executor._holdings.is_empty()
    assert executor.board.begun() == []


def test_a_job_that_must_run_alone_does_not_hold_up_others_behind_a_long_one(
    database: Database,
) -> None:
    with blocked() as (begun, go_on):

        @job(name="long")
        def wait() -> None:
            begun.set()
            go_on.wait(PATIENCE)

        @job(name="t")
        def works() -> None: ...

        executor = InProcess(database, concurrency=2)
        add(database, task="long")
        executor.rest()
        assert begun.wait(PATIENCE)
        alone = add(database, run_alone=True)
        add(database)
        executor.hear("wake")
        executor.turn_until(lambda: states(database) == ["running", "queued", "succeeded"])
        assert get(database, alone).attempts == 0
        go_on.set()
        executor.turn_until(lambda: not executor._holdings.running)
        executor.hear("wake")
        executor.turn_until(lambda: states(database) == ["succeeded"] * 3)


def test_jobs_begin_and_end_while_the_database_is_kept_waiting(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    with blocked() as (asked, go_on):

        @job(name="t")
        def note() -> None:
            asked.wait(PATIENCE)
            ran.append(1)

        executor = InProcess(database, concurrency=1)
        for _ in range(8):
            add(database)
        read_ahead(executor, 8)

        def exchange_late(*args: Any) -> Any:
            if "running" in states(database):  # not the first one, which brings the jobs
                asked.set()
                go_on.wait(PATIENCE)
            return exchange(*args)

        monkeypatch.setattr("cronqueue.correspondence.exchange", exchange_late)
        executor.turn_until(lambda: asked.is_set() and len(ran) == 4)
        assert executor._correspondence.awaits_answer
    executor.turn_until(lambda: states(database) == ["succeeded"] * 8)
    executor.rest()
    assert executor._holdings.is_empty()


def test_beside_a_claim_that_takes_long_a_server_is_told_what_has_ended(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres_url)
    schema.upgrade(database)

    @job(name="t")
    def nothing() -> None: ...

    with configured(database), blocked() as (asked, go_on):
        executor = InProcess(database, concurrency=1)
        executor._correspondence.many_ended = 2
        for _ in range(8):
            add(database)
        read_ahead(executor, 8)

        def claim_late(*args: Any) -> Any:
            if args[1].order is not None and "running" in states(database):
                asked.set()
                go_on.wait(PATIENCE)
            return exchange(*args)

        monkeypatch.setattr("cronqueue.correspondence.exchange", claim_late)
        executor.turn_until(lambda: asked.is_set() and "succeeded" in states(database))
        assert executor._correspondence.awaits_answer
        go_on.set()
        executor.turn_until(lambda: states(database) == ["succeeded"] * 8)
        executor.rest()
        assert executor._holdings.is_empty()
    database.dispose()


def test_a_hint_that_comes_while_a_claim_looks_makes_it_look_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    @job(name="t")
    def nothing() -> None: ...

    executor = InProcess(database, concurrency=1)
    with blocked() as (looked, go_on):

        def answer_late(*args: Any) -> Any:
            reply = exchange(*args)
            looked.set()
            go_on.wait(PATIENCE)
            return reply

        monkeypatch.setattr("cronqueue.correspondence.exchange", answer_late)
        executor.turn_until(looked.is_set)
        add(database)  # too late for the claim that is under way
        executor.hear("wake")
        executor.turn_until(executor._inbox.empty)
        go_on.set()
        executor.turn_until(lambda: states(database) == ["succeeded"])


def test_what_a_slow_claim_brings_begins_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    @job(name="t")
    def nothing() -> None: ...

    def claim_slowly(*args: Any) -> Any:
        if args[1].order is not None:
            time.sleep(LONGEST_UNSTARTED + 0.1)  # it is this long under way: that is what is shown
        return exchange(*args)

    monkeypatch.setattr("cronqueue.correspondence.exchange", claim_slowly)
    executor = InProcess(database, concurrency=2)
    add(database)
    executor.turn_until(lambda: states(database) == ["succeeded"])
    assert get(database, 1).claims == 1


def test_an_errand_that_never_comes_back_is_no_sign_of_life(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronqueue.correspondence.STUCK_AFTER", 0.0)
    executor = InProcess(database, concurrency=1)
    with blocked() as (asked, go_on):

        def exchange_never(*args: Any) -> Any:
            asked.set()
            go_on.wait(PATIENCE)
            return exchange(*args)

        monkeypatch.setattr("cronqueue.correspondence.exchange", exchange_never)
        executor.turn_until(asked.is_set)
        before = executor.board.beat_at
        executor.hear("wake")
        executor.turn()
        assert executor.board.beat_at == before
        go_on.set()
        executor.rest()
        executor.hear("wake")
        executor.turn()
        assert executor.board.beat_at > before


def test_what_has_ended_is_handed_in_between_two_admissions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    @job(name="t")
    def nothing() -> None: ...

    executor = InProcess(database, concurrency=1)

    def admit_without_end(*args: Any, **options: Any) -> Admission:
        return Admission(more=True)

    monkeypatch.setattr("cronqueue.correspondence.admit", admit_without_end)
    add(database)
    executor.turn_until(lambda: states(database) == ["running"])
    executor._correspondence._gate.looked(is_due=True)
    executor.turn_until(lambda: states(database) == ["succeeded"])
