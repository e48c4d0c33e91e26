"""What operators see, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from cronqueue import operations, overview, queries
from cronqueue.database import Database
from cronqueue.models import Attempt, Job, WorkerRow
from cronqueue.overview import Percentiles, percentiles
from cronqueue.queries import Filter
from cronqueue.tracebacks import error_line

NOW = datetime.now(UTC)
MINUTE = timedelta(minutes=1)

TRACEBACK = """Traceback (most recent call last):
  File "mail.py", line {line}, in send
    deliver()
    ~~~~~~~^^
smtplib.SMTPServerDisconnected: please run connect() first
"""


def test_of_one_state_the_newest_jobs_come_first(database: Database) -> None:
    ids = [add(database, state="failed") for _ in range(3)]
    assert listed(database, Filter(states=("failed",))) == ids[::-1]


def test_of_all_states_what_runs_comes_first_then_what_comes_next_then_what_ended_last(
    database: Database,
) -> None:
    ended_first = add(database, state="succeeded", finished_at=NOW - 3 * MINUTE)
    ended_last = add(database, state="failed", finished_at=NOW - MINUTE)
    running = add(database, state="running", lock_token="token", locked_until=NOW, started_at=NOW)
    tomorrow = add(database, run_at=NOW + 1440 * MINUTE, priority=9)
    soon = add(database, run_at=NOW + MINUTE)
    due = add(database, run_at=NOW - MINUTE)
    held = add(database, run_at=NOW + 2 * MINUTE, state="held", held_reason="paused")
    waiting = [due, soon, held, tomorrow]
    assert listed(database, Filter()) == [running, *waiting, ended_last, ended_first]


@pytest.mark.parametrize(
    ("waiting", "ended", "shown"), [(9, 9, (3, 2)), (1, 9, (1, 4)), (9, 1, (4, 1)), (1, 1, (1, 1))]
)
def test_a_list_of_all_states_has_room_for_what_comes_and_for_what_was(
    database: Database, waiting: int, ended: int, shown: tuple[int, int]
) -> None:
    for _ in range(waiting):
        add(database)
    for _ in range(ended):
        add(database, state="succeeded", finished_at=NOW)
    states = [job.state for job in queries.select_jobs(database, Filter(), limit=5)]
    assert states == ["queued"] * shown[0] + ["succeeded"] * shown[1]


def test_due_jobs_come_in_the_order_in_which_they_will_run(database: Database) -> None:
    low = add(database, run_at=NOW - 9 * MINUTE)
    later = add(database, run_at=NOW - MINUTE, priority=5)
    sooner = add(database, run_at=NOW - 2 * MINUTE, priority=5)
    future = add(database, run_at=NOW + 60 * MINUTE, priority=9)
    assert listed(database, Filter(states=("queued",))) == [sooner, later, low, future]
    add(database, run_at=NOW - MINUTE, expires_at=NOW - MINUTE)
    assert listed(database, Filter(due=True)) == [sooner, later, low]


def test_due_before_sees_what_waits_for_that_time(database: Database) -> None:
    queued = add(database, run_at=NOW + MINUTE)
    held = add(database, run_at=NOW, state="held", held_reason="paused")
    add(database, run_at=NOW + 5 * MINUTE)
    add(database, run_at=NOW, state="succeeded")
    assert listed(database, Filter(due_before=NOW + 2 * MINUTE)) == [held, queued]


@pytest.mark.parametrize(
    "chosen",
    [
        Filter(states=("failed", "held")),
        Filter(queue="mail"),
        Filter(task="demo.other"),
        Filter(schedule="nightly"),
        Filter(since=NOW - MINUTE),
        Filter(ids=(1,)),
    ],
    ids=lambda chosen: str([name for name in ("ids", "states", "queue") if getattr(chosen, name)]),
)
def test_each_condition_keeps_what_fits_it_and_nothing_else(
    database: Database, chosen: Filter
) -> None:
    fits = add(
        database,
        task="demo.other",
        queue="mail",
        state="failed",
        schedule="nightly",
        created_at=NOW,
    )
    add(database, created_at=NOW - 2 * MINUTE)
    assert listed(database, chosen) == [fits]
    assert queries.count_jobs(database, chosen) == 1
    assert queries.select_ids(database, chosen) == [fits]


def test_conditions_hold_together(database: Database) -> None:
    add(database, queue="mail")
    both = add(database, queue="mail", state="failed")
    add(database, state="failed")
    assert listed(database, Filter(queue="mail", states=("failed",))) == [both]


def test_a_list_never_reads_arguments_results_or_tracebacks(database: Database) -> None:
    add(database)
    statements: list[str] = []
    event.listen(
        database.engine, "before_cursor_execute", lambda c, cur, sql, *rest: statements.append(sql)
    )
    queries.select_jobs(database, Filter())
    selects = [sql for sql in statements if "sched_jobs" in sql]
    assert selects
    assert not any(
        f"sched_jobs.{name}" in sql for sql in selects for name in ("args", "result", "last_error")
    )


def test_a_list_ends_at_its_limit_and_none_means_all(database: Database) -> None:
    for _ in range(3):
        add(database)
    assert len(queries.select_jobs(database, Filter(), limit=2)) == 2
    assert len(queries.select_jobs(database, Filter(), limit=None)) == 3


def test_ids_come_in_pages(database: Database) -> None:
    ids = [add(database) for _ in range(5)]
    first = queries.select_ids(database, Filter(), limit=3)
    assert first + queries.select_ids(database, Filter(), after=first[-1], limit=3) == ids


def test_one_job_is_shown_with_everything_that_belongs_to_it(database: Database) -> None:
    job_id = add(
        database, args_json='{"args": [7], "kwargs": {}}', result_json='"ok"', last_error="E: x"
    )
    add_row(
        database, Attempt(job_id=job_id, attempt=1, finished_at=NOW, outcome="failed", error="E")
    )
    found = queries.find_job(database, job_id)
    assert found.row.id == job_id
    assert (found.args_json, found.result_json) == ('{"args": [7], "kwargs": {}}', '"ok"')
    assert [(each.attempt, each.outcome) for each in found.attempts] == [(1, "failed")]
    assert queries.attempts_of(database, job_id) == found.attempts


def test_a_job_that_does_not_exist_is_a_lookup_error(database: Database) -> None:
    with pytest.raises(LookupError, match="there is no job 4711"):
        queries.find_job(database, 4711)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TRACEBACK, "smtplib.SMTPServerDisconnected: please run connect() first"),
        (
            'Traceback:\n  File "a.py", line 1\n    x\nValueError: one\ntwo\n  three',
            "ValueError: one",
        ),
        ('Traceback:\n  File "a.py", line 1\n    x\nKeyboardInterrupt', "KeyboardInterrupt"),
        ("one\nworker a:1 lost: gone\n\n", "worker a:1 lost: gone"),
        ("", ""),
        (None, ""),
    ],
)
def test_the_line_that_names_the_exception_is_found(error: str | None, line: str) -> None:
    assert error_line(error) == line


def test_a_queue_is_counted_by_what_its_jobs_wait_for(database: Database) -> None:
    add(database, queue="mail", run_at=NOW - 2 * MINUTE)
    add(database, queue="mail", run_at=NOW - MINUTE)
    add(database, queue="mail", run_at=NOW + 60 * MINUTE)
    add(database, queue="mail", state="held", held_reason="unknown_task")
    add(database, queue="mail", state="failed")
    add(database, queue="mail", state="succeeded")
    add(database, queue="web", state="running", lock_token="t", locked_until=NOW)
    mail, web = overview.queue_stats(database)
    assert (mail.name, mail.due, mail.later, mail.failed, mail.running) == ("mail", 2, 1, 1, 0)
    assert mail.held == {"unknown_task": 1}
    assert (mail.oldest_due, mail.next_due) == (NOW - 2 * MINUTE, NOW + 60 * MINUTE)
    assert (web.name, web.running, web.due, web.oldest_due) == ("web", 1, 0, None)


def test_a_paused_queue_is_shown_also_when_it_is_empty(database: Database) -> None:
    operations.pause_queue(
        database, "mail", actor="ann@host", reason="down", until=NOW + 5 * MINUTE
    )
    (mail,) = overview.queue_stats(database)
    assert mail.paused is not None
    assert (mail.paused.by, mail.paused.reason) == ("ann@host", "down")
    assert mail.paused.until == NOW + 5 * MINUTE
    assert overview.paused_queues(database) == {"mail": mail.paused}


def test_a_pause_that_has_ended_is_none(database: Database) -> None:
    operations.pause_queue(database, "mail", actor="a", until=datetime.now(UTC) + 5 * MINUTE)
    end_pauses(database)
    assert overview.queue_stats(database) == []


def test_a_worker_is_silent_after_it_has_not_been_heard_of(database: Database) -> None:
    add_worker(database, "new", heartbeat_at=datetime.now(UTC))
    add_worker(database, "old", heartbeat_at=datetime.now(UTC) - MINUTE)
    workers = {each.id: each for each in overview.list_workers(database)}
    assert (workers["new"].state, workers["old"].state) == ("running", "silent")
    assert workers["old"].heartbeat_age >= MINUTE


def test_the_statistics_count_what_ended_and_how_long_it_took(database: Database) -> None:
    ended = {"state": "succeeded", "run_at": NOW - 5 * MINUTE, "started_at": NOW - 4 * MINUTE}
    add(database, **ended, finished_at=NOW - 2 * MINUTE)
    add(database, state="failed", finished_at=NOW - 120 * MINUTE)
    add(database, state="succeeded", finished_at=NOW - timedelta(days=2))
    add(database, run_at=NOW - 7 * MINUTE)
    add_worker(database, "new", heartbeat_at=datetime.now(UTC))
    add_worker(database, "old", heartbeat_at=datetime.now(UTC) - MINUTE)
    seen = overview.stats(database)
    assert seen.by_state["succeeded"] == 2
    assert (seen.last_hour["succeeded"], seen.last_hour["failed"]) == (1, 0)
    assert (seen.last_day["succeeded"], seen.last_day["failed"]) == (1, 1)
    assert seen.wait == Percentiles(1, 60.0, 60.0, 60.0)
    assert seen.run == Percentiles(1, 120.0, 120.0, 120.0)
    assert (seen.due, seen.oldest_due) == (1, NOW - 7 * MINUTE)
    assert (seen.workers, seen.places) == (1, 8)


def test_an_empty_database_has_statistics_too(database: Database) -> None:
    seen = overview.stats(database)
    assert sum(seen.by_state.values()) == 0
    assert (seen.wait, seen.oldest_due) == (None, None)


def test_percentiles_are_of_what_was_measured() -> None:
    assert percentiles(range(100)) == Percentiles(100, 50, 95, 99)
    assert percentiles([-0.5, 3.0]) == Percentiles(2, 3.0, 3.0, 3.0)
    assert percentiles([-0.5]) == Percentiles(1, 0.0, 0.0, 0.0)


def add(database: Database, **columns: Any) -> int:
    job: Job[Any] = Job(**{"task": "demo.add", **columns})
    job_id: int = add_row(database, job)
    return job_id


def add_worker(database: Database, name: str, *, heartbeat_at: datetime) -> None:
    row = WorkerRow(
        id=name,
        kind="worker",
        name=name,
        host="host",
        pid=1,
        version="1",
        concurrency=8,
        state="running",
        started_at=heartbeat_at,
        heartbeat_at=heartbeat_at,
    )
    add_row(database, row)


def add_row(database: Database, row: Any) -> Any:
    def work(connection: Any) -> Any:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            session.add(row)
            session.flush()
            return row.id

    return database.write(work)


def end_pauses(database: Database) -> None:
    past = {"past": database.moment(NOW - MINUTE)}
    statement = text("UPDATE sched_queues SET paused_until = :past")
    database.write(lambda connection: connection.execute(statement, past).rowcount)


def listed(database: Database, chosen: Filter) -> list[int]:
    return [job.id for job in queries.select_jobs(database, chosen)]
