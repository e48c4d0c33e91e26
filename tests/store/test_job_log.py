"""The log of a job: what is kept of it, how much, and by whom it may be written."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cronqueue import Retry, Snooze, current_job, job, joblog
from cronqueue.database import Database
from cronqueue.errors import DatabaseUnreachable
from cronqueue.joblog import JobLog
from cronqueue.loglines import MOST_LINES, LinePlace, NewLine, last_lines, read_lines, write_lines
from cronqueue.prune import delete_jobs
from cronqueue.secret import Secret
from cronqueue.testing import SchedQueue
from job_rows import claim_one, execute, query, said

program = logging.getLogger("some.program")


@pytest.fixture(autouse=True)
def _root_handlers() -> Iterator[None]:
    """Whoever keeps what is logged listens at the root."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.setLevel(logging.INFO)
    yield
    root.handlers[:] = before
    root.setLevel(level)


def run(queue: SchedQueue, body: Callable[[], Any], **options: Any) -> Any:
    """The job of a task with this body, after its attempt."""
    job(name="log.body", **{"max_attempts": 1, **options})(body).enqueue()
    return queue.drain()[-1]


def messages(database: Database, job_id: int) -> list[str]:
    return [line.message for line in read_lines(database, job_id, limit=2_000)]


def test_what_a_job_logs_is_kept_with_its_attempt_level_and_time(sched_queue: SchedQueue) -> None:
    def body() -> None:
        current_job().log("copied %d files", 3)
        current_job().logger.warning("one is missing")
        current_job().logger.debug("nobody wants to know")
        if current_job().attempt == 1:
            raise Retry(delay=0)

    ran = run(sched_queue, body, max_attempts=2)
    lines = read_lines(sched_queue.database, ran.id)
    assert [(each.attempt, each.claim, each.number, each.level) for each in lines] == [
        (1, 1, 1, "info"),
        (1, 1, 2, "warning"),
        (2, 2, 1, "info"),
        (2, 2, 2, "warning"),
    ]
    assert [each.message for each in lines[:2]] == ["copied 3 files", "one is missing"]
    assert abs((lines[0].at - sched_queue.now).total_seconds()) < 30


def test_an_exception_is_logged_with_its_traceback(sched_queue: SchedQueue) -> None:
    def body() -> None:
        try:
            raise ValueError("as it was meant")
        except ValueError as error:
            current_job().logger.exception("did not work")
            current_job().logger.error("nor this", exc_info=error)

    ran = run(sched_queue, body)
    for message, words in zip(
        messages(sched_queue.database, ran.id), ("did not work", "nor this"), strict=True
    ):
        assert message.startswith(f"{words}\nTraceback")
        assert message.endswith("ValueError: as it was meant")


@pytest.mark.parametrize("keeps", [None, True, False])
def test_what_a_program_logs_is_kept_where_its_task_wants_it(
    sched_queue: SchedQueue, keeps: bool | None
) -> None:
    def body() -> None:
        program.info("from afar: %s", Secret("hidden"))
        current_job().log("from the job")
        program.debug("too much")

    ran = run(sched_queue, body, keep_log=keeps)
    wanted = {None: ["from the job"], True: ["from afar: Secret(***)", "from the job"], False: []}
    assert messages(sched_queue.database, ran.id) == wanted[keeps]


def test_coroutines_beside_each_other_keep_their_own_lines(sched_queue: SchedQueue) -> None:
    @job(name="log.coroutine", keep_log=True)
    async def coroutine(name: str) -> None:
        program.info(name)
        await asyncio.to_thread(lambda: program.info("%s in a thread", name))

    for name in ("a", "b"):
        coroutine.enqueue(name)
    first, second = sched_queue.drain()
    assert messages(sched_queue.database, first.id) == ["a", "a in a thread"]
    assert messages(sched_queue.database, second.id) == ["b", "b in a thread"]


@pytest.mark.parametrize(
    "message", ["100 %", "%d of %s", "a\x00b", "\ud800", "", "{}", "many\nlines"]
)
def test_no_line_makes_a_job_fail(
    sched_queue: SchedQueue, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    # pytest's own handler raises what others only tell of.
    monkeypatch.setattr(logging.getLogger("cronqueue.job.log.body"), "propagate", False)

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError

    def body() -> None:
        current_job().log(message, *([Hostile()] if "%" in message else []))
        current_job().log("%s", Hostile())
        current_job().log("the end")

    ran = run(sched_queue, body)
    assert ran.state == "succeeded"
    assert len(messages(sched_queue.database, ran.id)) == 3
    assert messages(sched_queue.database, ran.id)[-1] == "the end"


def test_of_a_long_line_head_and_tail_are_kept(sched_queue: SchedQueue) -> None:
    ran = run(sched_queue, lambda: current_job().log("head" + "é" * 9_000 + "tail"))
    (message,) = messages(sched_queue.database, ran.id)
    assert len(message.encode()) <= joblog.MAX_LINE_BYTES
    assert message.startswith("headé")
    assert message.endswith("étail")
    assert "characters left out" in message


def test_of_too_many_lines_the_first_and_the_last_are_kept(sched_queue: SchedQueue) -> None:
    def body() -> None:
        for number in range(5_000):
            current_job().log("%d", number)

    kept = messages(sched_queue.database, run(sched_queue, body).id)
    assert kept[: joblog.FIRST_LINES] == [str(each) for each in range(joblog.FIRST_LINES)]
    assert kept[-joblog.LAST_LINES :] == [str(each) for each in range(4_900, 5_000)]
    rule, left_out = kept[joblog.FIRST_LINES : -joblog.LAST_LINES]
    assert "the last 100 are written at its end" in rule
    assert left_out == "[4,000 lines left out]"


def test_a_job_that_snoozes_for_ever_keeps_its_newest_lines(
    sched_queue: SchedQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronqueue.loglines.MOST_LINES", 5)

    def body() -> None:
        for number in range(3):
            current_job().log("%d", number)
        raise Snooze("1s")

    made = job(name="log.snooze")(body).enqueue()
    sched_queue.advance("9s")
    # The run of now may be added to what is kept.
    assert len(messages(sched_queue.database, made.id)) <= 5 + 3
    assert last_lines(sched_queue.database, made.id, 1)[0].claim == 10
    assert MOST_LINES > joblog.FIRST_LINES + joblog.LAST_LINES


def test_what_is_logged_after_the_end_belongs_to_nobody(sched_queue: SchedQueue) -> None:
    seen: list[Any] = []

    def body() -> None:
        seen.append(current_job())
        seen[0].log("while it ran")

    ran = run(sched_queue, body)
    seen[0].log("too late")
    joblog._writer.settle(10)
    assert messages(sched_queue.database, ran.id) == ["while it ran"]


def test_whoever_lost_the_job_writes_no_line(database: Database) -> None:
    claimed = claim_one(database)
    write_lines(database, [said(claimed), said(claimed, 2, lock_token="of somebody else")])
    execute(database, "UPDATE sched_jobs SET lock_token = 'another'")
    write_lines(database, [said(claimed, 3)])
    assert [each.number for each in read_lines(database, claimed.id)] == [1]


def test_a_line_that_is_written_again_is_there_once(database: Database) -> None:
    claimed = claim_one(database)
    for _ in range(2):
        write_lines(database, [said(claimed), said(claimed, 2, 'with "quotes", {braces} and \\')])
    assert messages(database, claimed.id) == ["hello", 'with "quotes", {braces} and \\']


def test_lines_are_read_a_page_at_a_time(database: Database) -> None:
    claimed = claim_one(database)
    write_lines(database, [said(claimed, number, str(number)) for number in range(1, 6)])
    write_lines(database, [said(claimed, 1, "of the next claim", claim=claimed.token + 1)])
    first = read_lines(database, claimed.id, limit=4)
    rest = read_lines(database, claimed.id, after=first[-1].place, limit=4)
    assert [each.message for each in first + rest] == ["1", "2", "3", "4", "5", "of the next claim"]
    assert rest[-1].place == LinePlace(claimed.token + 1, 1)
    assert read_lines(database, claimed.id, after=rest[-1].place) == []
    assert last_lines(database, claimed.id, 2) == rest


def test_a_log_goes_with_its_job(database: Database) -> None:
    gone, stays = claim_one(database), claim_one(database)
    write_lines(database, [said(gone), said(stays)])
    with database.begin() as connection:
        delete_jobs(database, connection, [gone.id])
    assert query(database, "SELECT job_id FROM sched_log_lines") == [(stays.id,)]


def test_lines_wait_for_a_database_that_is_away_and_then_are_written(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claim_one(database)
    tries: list[int] = []

    def away_at_first(database: Database, lines: list[NewLine]) -> None:
        tries.append(len(lines))
        if len(tries) == 1:
            raise DatabaseUnreachable("away")
        write_lines(database, lines)

    monkeypatch.setattr(joblog, "write_lines", away_at_first)
    monkeypatch.setattr(joblog, "PERIOD", 0.01)
    kept = JobLog(claimed, database)
    kept.keep(logging.INFO, "hello")
    kept.end()
    assert tries == [1, 1]
    assert messages(database, claimed.id) == ["hello"]


def test_lines_that_the_database_refuses_are_told_of_and_hold_nobody_up(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(database: Database, lines: list[NewLine]) -> None:
        raise ValueError("no place for lines")

    monkeypatch.setattr(joblog, "write_lines", refuse)
    kept = JobLog(claim_one(database), database)
    kept.keep(logging.INFO, "hello")
    kept.end()
    assert "1 log lines of jobs are lost: no place for lines" in caplog.text


def test_lines_of_several_jobs_are_written_in_one_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def count(database: Database, lines: list[NewLine]) -> None:
        batches.append(len(lines))
        write_lines(database, lines)

    monkeypatch.setattr(joblog, "write_lines", count)
    logs = [JobLog(claim_one(database), database) for _ in range(3)]
    for number in range(30):
        logs[number % 3].keep(logging.INFO, str(number))
    logs[0].end()
    assert batches == [30]


def test_without_a_thread_lines_wait_for_the_next_and_hold_nobody_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(joblog, "_writer", joblog._LogWriter())
    monkeypatch.setattr(joblog, "LONGEST_WAIT", 1_000)
    claimed = claim_one(database)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        kept = JobLog(claimed, database)
        kept.keep(logging.INFO, "hello")
        kept.end()
    assert joblog._writer.settle(10)
    assert messages(database, claimed.id) == ["hello"]


def test_a_line_that_comes_in_the_moment_in_which_the_thread_leaves_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joblog, "_IDLE_SECONDS", 0.0)
    writer, comes = joblog._LogWriter(), threading.Event()

    class Inbox(queue.SimpleQueue[Any]):
        """Where something is put just after somebody has found it empty."""

        def empty(self) -> bool:
            found = super().empty()
            if found and not late.ident:
                late.start()
                late.join(0.2)  # it may have to wait for the one that leaves
            return found

    late = threading.Thread(target=lambda: writer.put(comes))
    monkeypatch.setattr(writer, "_inbox", Inbox())
    assert writer.settle(10)
    assert comes.wait(10)
