"""The running job as its task sees it, and its session, which commits with the completion or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from cronqueue import Discard, Retry, Snooze, current_job, job
from cronqueue.context import RunningJob
from cronqueue.database import Database
from cronqueue.errors import EncodingError, NoCurrentJob
from cronqueue.insertion import NewJob, insert_job
from cronqueue.jobsession import SessionMisuse
from cronqueue.testing import SchedQueue
from job_rows import execute, query


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoices"
    number: Mapped[int] = mapped_column(primary_key=True)
    paid: Mapped[bool] = mapped_column(default=False)


@pytest.fixture
def books(sched_queue: SchedQueue) -> SchedQueue:
    """A queue beside a table of the user's, with one invoice in it."""
    execute(sched_queue.database, "CREATE TABLE invoices (number int PRIMARY KEY, paid boolean)")
    execute(sched_queue.database, "INSERT INTO invoices VALUES (1, false)")
    return sched_queue


def invoices(queue: SchedQueue) -> list[int]:
    return [number for (number,) in query(queue.database, "SELECT number FROM invoices ORDER BY 1")]


def run(queue: SchedQueue, body: Callable[[], Any], **options: Any) -> Any:
    """The job of a task with this body, after its attempt."""
    job(name="current.body", **{"max_attempts": 1, **options})(body).enqueue()
    (ran,) = queue.drain()
    return ran


def test_a_task_sees_its_job(sched_queue: SchedQueue) -> None:
    seen: list[RunningJob] = []

    @job(name="current.look", priority=4, queue="q", max_attempts=7, timeout="1m")
    def look() -> None:
        seen.append(current_job())

    made = look.options(key="k").enqueue()
    sched_queue.drain()
    (me,) = seen
    assert (me.id, me.task, me.queue, me.priority, me.key) == (made.id, "current.look", "q", 4, "k")
    assert (me.attempt, me.max_attempts, me.run_at, me.token) == (1, 7, made.run_at, 1)
    assert (me.schedule, me.planned_for, me.previous_success) == (None, None, None)
    assert (me.deadline, me.cancelled) == (sched_queue.now + timedelta(minutes=1), False)


def test_there_is_none_outside_a_job(sched_queue: SchedQueue) -> None:
    with pytest.raises(NoCurrentJob, match="works inside a task"):
        current_job()
    run(sched_queue, lambda: None)
    with pytest.raises(NoCurrentJob):
        current_job()


def test_coroutines_beside_each_other_see_their_own(sched_queue: SchedQueue) -> None:
    @job(name="current.coroutine")
    async def coroutine() -> list[int]:
        await asyncio.sleep(0)
        return [current_job().id, await asyncio.to_thread(lambda: current_job().id)]

    made = [coroutine.enqueue(), coroutine.enqueue()]
    assert [ran.result for ran in sched_queue.drain()] == [[each.id] * 2 for each in made]


def test_the_token_grows_with_every_claim_and_the_attempt_with_every_failure(
    sched_queue: SchedQueue,
) -> None:
    seen: list[tuple[int, int]] = []

    @job(name="current.count")
    def count() -> None:
        seen.append((current_job().token, current_job().attempt))
        if len(seen) == 1:
            raise Snooze(1)
        if len(seen) == 2:
            raise Retry(delay=1)
        if len(seen) == 3:
            raise Discard

    made = count.enqueue()
    sched_queue.advance("1m")
    made.retry()
    sched_queue.drain()
    assert seen == [(1, 1), (2, 1), (3, 2), (4, 1)]


def test_the_previous_success_is_the_schedules_last_one_before_this(
    sched_queue: SchedQueue,
) -> None:
    database, hour = sched_queue.database, timedelta(hours=1)
    seen: list[Any] = []

    @job(name="current.report")
    def report() -> None:
        seen.append(current_job().previous_success)
        if len(seen) == 2:
            raise Discard

    planned = [sched_queue.now + number * hour for number in range(4)]
    with database.begin() as connection:
        for moment in planned:
            new = NewJob("current.report", '{"args":[],"kwargs":{}}', "default", 0, 1, moment)
            new = NewJob(**{**_fields(new), "schedule": "s", "planned_for": moment})
            row = insert_job(database, connection, new)
            assert row is not None
            connection.execute(
                text(
                    "INSERT INTO sched_occurrences (schedule, planned_for, job_id)"
                    " VALUES ('s', :at, :id)"
                ),
                {"at": database.moment(moment), "id": row.id},
            )
    sched_queue.advance("3h")
    assert seen == [None, planned[0], planned[0], planned[2]]


def _fields(new: NewJob) -> dict[str, Any]:
    return {name: getattr(new, name) for name in NewJob.__dataclass_fields__}


def test_progress_is_on_the_row_while_the_job_runs(sched_queue: SchedQueue) -> None:
    shown: list[Any] = []

    def body() -> None:
        for done in (1, 2):
            current_job().progress(done, 2, "copying")
            shown.append(sched_queue.jobs()[0].progress_json)
        with pytest.raises(EncodingError, match=r'progress\["done"\]'):
            current_job().progress(float("nan"))

    assert run(sched_queue, body).state == "succeeded"
    assert shown == [f'{{"done":{n},"total":2,"message":"copying"}}' for n in (1, 2)]


def test_log_lines_carry_the_job(sched_queue: SchedQueue, caplog: pytest.LogCaptureFixture) -> None:
    def body() -> None:
        current_job().log("copied %d files", 3)
        current_job().logger.warning("one is missing", extra={"file": "x"})

    with caplog.at_level(logging.INFO, "cronqueue.job"):
        ran = run(sched_queue, body)
    lines = [record for record in caplog.records if record.name == "cronqueue.job.current.body"]
    assert [line.getMessage() for line in lines] == [
        f"[job {ran.id}] copied 3 files",
        f"[job {ran.id}] one is missing",
    ]
    assert [(line.__dict__["job_id"], line.__dict__["attempt"]) for line in lines] == [(1, 1)] * 2
    assert lines[1].__dict__["file"] == "x"


def test_what_is_added_commits_with_the_completion(books: SchedQueue) -> None:
    def body() -> None:
        session = current_job().session
        session.add(Invoice(number=2))
        session.commit()
        assert invoices(books) == [1]  # nobody else sees it yet
        assert session.scalars(select(Invoice.number).where(Invoice.number == 1)).all() == [1]
        session.add(Invoice(number=3))

    assert run(books, body).state == "succeeded"
    assert invoices(books) == [1, 2, 3]


@pytest.mark.parametrize("error", [ValueError(), Discard(), Snooze(5), Retry(), SystemExit(1)])
def test_whatever_ends_the_task_otherwise_rolls_it_back(
    books: SchedQueue, error: BaseException
) -> None:
    def body() -> None:
        current_job().session.add(Invoice(number=2))
        current_job().session.commit()
        raise error

    assert run(books, body, max_attempts=2).state in ("queued", "failed")
    assert invoices(books) == [1]


def test_changes_and_deletes_of_what_was_read_count_too(books: SchedQueue) -> None:
    execute(books.database, "INSERT INTO invoices VALUES (2, false)")

    def body() -> None:
        session = current_job().session
        first = session.get(Invoice, 1)
        second = session.get(Invoice, 2)
        assert first
        assert second
        first.paid = True
        session.delete(second)
        session.commit()

    assert run(books, body).state == "succeeded"
    assert query(books.database, "SELECT number FROM invoices WHERE paid") == [(1,)]
    assert invoices(books) == [1]


def test_a_with_block_keeps_what_was_committed_in_it(books: SchedQueue) -> None:
    def body() -> None:
        with current_job().session as session:
            session.add(Invoice(number=2))
            session.commit()
        with current_job().session as session:
            session.get(Invoice, 1)

    assert run(books, body).state == "succeeded"
    assert invoices(books) == [1, 2]


def test_a_rollback_forgets_what_was_added_before_it(books: SchedQueue) -> None:
    def body() -> None:
        current_job().session.add(Invoice(number=2))
        current_job().session.rollback()
        current_job().session.add(Invoice(number=3))

    assert run(books, body).state == "succeeded"
    assert invoices(books) == [1, 3]


def test_a_rollback_never_loses_what_was_committed(books: SchedQueue) -> None:
    def body() -> None:
        session = current_job().session
        session.add(Invoice(number=2))
        session.commit()
        session.add(Invoice(number=3))
        session.rollback()

    ran = run(books, body)
    if books.database.is_postgresql:
        assert (ran.state, invoices(books)) == ("succeeded", [1, 2])
    else:  # it cannot be kept there, and the job must not end as if it were
        assert (ran.state, invoices(books)) == ("failed", [1])
        assert "rollback() after commit()" in ran.last_error


def test_what_the_database_refuses_at_the_finish_is_a_failed_attempt(books: SchedQueue) -> None:
    def body() -> None:
        current_job().session.add(Invoice(number=1))

    ran = run(books, body)
    assert (ran.state, ran.reason) == ("failed", "attempts spent")
    assert IntegrityError.__name__ in ran.last_error
    assert invoices(books) == [1]


def test_a_job_that_was_lost_meanwhile_writes_nothing(books: SchedQueue) -> None:
    def body() -> None:
        current_job().session.add(Invoice(number=2))
        execute(books.database, "UPDATE sched_jobs SET lock_token = 'another'")

    ran = run(books, body)
    assert (ran.state, ran.lock_token) == ("running", "another")
    assert invoices(books) == [1]


def test_a_coroutine_has_a_session_too(books: SchedQueue) -> None:
    @job(name="current.async")
    async def body() -> int:
        current_job().session.add(Invoice(number=2))
        return 7

    body.enqueue()
    assert [ran.result for ran in books.drain()] == [7]
    assert invoices(books) == [1, 2]


class TestOnPostgresql:
    @pytest.fixture
    def sched_database_url(self, postgres_url: str) -> str:
        return postgres_url

    def test_statements_and_flushes_are_of_the_jobs_transaction(self, books: SchedQueue) -> None:
        def body() -> None:
            session = current_job().session
            session.execute(insert(Invoice).values(number=2, paid=False))
            session.add(Invoice(number=3))
            session.flush()
            with session.begin_nested() as savepoint:
                session.add(Invoice(number=4))
                session.flush()
                savepoint.rollback()
            assert session.scalar(text("SELECT COUNT(*) FROM invoices")) == 3
            assert invoices(books) == [1]

        assert run(books, body).state == "succeeded"
        assert invoices(books) == [1, 2, 3]

    def test_a_transaction_without_a_timeout_gets_one(self, books: SchedQueue) -> None:
        def body() -> list[bool]:
            before = current_job().deadline
            current_job().session.get(Invoice, 1)
            return [before is None, current_job().deadline is not None]

        assert run(books, body).result == [True, True]

    def test_the_queues_own_limits_do_not_hold_for_the_tasks_statements(
        self, books: SchedQueue
    ) -> None:
        def body() -> list[str]:
            session = current_job().session
            names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
            return [str(session.scalar(text(f"SHOW {name}"))) for name in names]

        assert run(books, body).result == ["0", "0", "0"]


class TestOnSqlite:
    @pytest.fixture
    def sched_database_url(self, sqlite_url: str) -> str:
        return sqlite_url

    @pytest.mark.parametrize(
        "write",
        [
            lambda session: session.execute(insert(Invoice).values(number=2, paid=False)),
            lambda session: session.execute(update(Invoice).values(paid=True)),
            lambda session: session.execute(text("DELETE FROM invoices")),
            lambda session: session.scalars(insert(Invoice).returning(Invoice), [{"number": 2}]),
            lambda session: session.flush(),
            lambda session: session.begin_nested(),
        ],
        ids=["insert", "update", "text", "returning", "flush", "savepoint"],
    )
    def test_what_would_take_the_only_writer_is_refused_with_the_reason(
        self, books: SchedQueue, write: Callable[[Session], object]
    ) -> None:
        def body() -> None:
            current_job().session.add(Invoice(number=2))
            with pytest.raises(SessionMisuse, match=r"add objects|what you add is written"):
                write(current_job().session)

        ran = run(books, body)
        assert ran.state == "succeeded", ran.last_error
        assert invoices(books) == [1, 2]

    def test_others_write_while_the_job_holds_its_session(self, books: SchedQueue) -> None:
        def body() -> Any:
            session = current_job().session
            session.get(Invoice, 1)
            session.add(Invoice(number=2))
            execute(books.database, "INSERT INTO invoices VALUES (9, false)")
            current_job().progress(1)
            return session.scalar(text("SELECT COUNT(*) FROM invoices"))

        assert run(books, body).result == 2  # it reads the database as it is
        assert invoices(books) == [1, 2, 9]

    def test_it_sets_no_limit_of_time(self, books: SchedQueue) -> None:
        def body() -> bool:
            current_job().session.get(Invoice, 1)
            return current_job().deadline is None

        assert run(books, body).result is True


def test_the_database_is_as_before_for_everybody_else(books: SchedQueue) -> None:
    """What the session set on its connection does not come back with that connection."""
    run(books, lambda: current_job().session.get(Invoice, 1) and None)
    database: Database = books.database
    for _ in range(3):
        execute(database, "UPDATE invoices SET paid = true")
    assert query(database, "SELECT number FROM invoices WHERE paid") == [(1,)]
