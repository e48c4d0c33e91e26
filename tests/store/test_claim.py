"""Claims: who gets which job, and what a claim leaves alone."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from cronqueue.claim import Band, Claimant, claim, claim_unknown, find_lanes, new_token, probe
from cronqueue.database import Database
from cronqueue.exchange import Order, Request, exchange
from cronqueue.finish import Retention
from job_rows import LEASE, WORKER, add, claim_due, columns_of, execute, now, query

HOUR = timedelta(hours=1)


def test_higher_priority_runs_first_then_the_earlier_run_at_then_the_lower_id(
    database: Database,
) -> None:
    early, late = now() - HOUR, now() - timedelta(minutes=1)
    low = add(database, priority=0, run_at=early)
    second = add(database, priority=9, run_at=late)
    third = add(database, priority=9, run_at=late)
    first = add(database, priority=9, run_at=early)
    assert [job.id for job in claim_due(database, 10)] == [first, second, third, low]


def test_the_order_is_the_same_across_queues(database: Database) -> None:
    late, early = now() - timedelta(minutes=1), now() - HOUR
    a = add(database, queue="a", run_at=late)
    b = add(database, queue="b", run_at=early)
    c = add(database, queue="a", priority=1, run_at=late)
    assert [job.id for job in claim_due(database, 10, band=Band(queues=("a", "b")))] == [c, b, a]


def test_nothing_is_claimed_before_its_run_at(database: Database) -> None:
    add(database, run_at=now() + HOUR, priority=100)
    due = add(database)
    assert [job.id for job in claim_due(database, 10)] == [due]


def test_no_more_is_claimed_than_was_asked_for(database: Database) -> None:
    for _ in range(20):
        add(database)
    assert len(claim_due(database, 5)) == 5
    assert query(database, "SELECT COUNT(*) FROM sched_jobs WHERE state = 'running'") == [(5,)]


@pytest.mark.parametrize("queues", [(), ("default",)])
def test_no_plan_makes_a_claim_take_more(postgres_url: str, queues: tuple[str, ...]) -> None:
    database = Database(postgres_url)
    execute(
        database, "INSERT INTO sched_jobs (task) SELECT 'demo.add' FROM generate_series(1, 500)"
    )
    with database.begin() as connection:
        for setting in ("hashjoin", "mergejoin", "hashagg", "material", "sort"):
            connection.execute(text(f"SET LOCAL enable_{setting} = off"))
        lanes = find_lanes(database, connection, Band(queues=queues))
        assert len(claim(database, connection, lanes, 5, WORKER, new_token())) == 5
    database.dispose()


def test_a_claim_spends_an_attempt_and_sets_lease_and_token(database: Database) -> None:
    job_id = add(database, attempts=2, claims=7)
    (claimed,) = claim_due(database, 1)
    stored = columns_of(database, job_id)
    assert (stored["state"], stored["attempts"], stored["claims"]) == ("running", 3, 8)
    assert (claimed.attempt, claimed.token) == (3, 8)
    assert stored["lock_token"] == claimed.lock_token
    assert (stored["locked_by"], stored["worker_id"]) == (WORKER.name, WORKER.worker_id)
    assert stored["locked_until"] - stored["locked_at"] == LEASE


def test_every_try_has_a_token_of_its_own() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("band", "expected"),
    [
        (Band(min_priority=2), [9, 5, 2]),
        (Band(max_priority=2), [2, 0]),
        (Band(min_priority=2, max_priority=5), [5, 2]),
        (Band(queues=("other",)), []),
        (Band(exclude_queues=("default",)), []),
        (Band(exclude_queues=("other",), min_priority=6), [9]),
    ],
)
def test_a_worker_takes_what_is_in_its_band(
    database: Database, band: Band, expected: list[int]
) -> None:
    for priority in (0, 9, 2, 5):
        add(database, priority=priority)
    assert [job.priority for job in claim_due(database, 10, band=band)] == expected


def test_a_paused_queue_is_left_out_until_its_pause_ends(database: Database) -> None:
    held, free = add(database, queue="held", priority=9), add(database, queue="free")
    pause = "INSERT INTO sched_queues (name, paused_at, paused_until) VALUES (:name, :at, :until)"
    moments = {"at": database.moment(now()), "until": database.moment(now() + HOUR)}
    execute(database, pause, name="held", **moments)
    assert [job.id for job in claim_due(database, 10)] == [free]
    execute(database, "UPDATE sched_queues SET paused_until = :at", at=moments["at"])
    assert [job.id for job in claim_due(database, 10)] == [held]


def test_what_has_expired_or_is_gated_or_of_a_newer_format_is_not_claimed(
    database: Database,
) -> None:
    add(database, expires_at=now() - timedelta(seconds=1))
    add(database, gated=True)
    add(database, v=99)
    due = add(database, expires_at=now() + HOUR)
    assert [job.id for job in claim_due(database, 10)] == [due]


def test_a_key_that_holds_until_the_start_is_free_after_the_claim(database: Database) -> None:
    until_start = add(database, key="a", unique_key="a", key_until="start")
    until_finish = add(database, key="b", unique_key="b", key_until="finish")
    claim_due(database, 2)
    assert columns_of(database, until_start)["unique_key"] is None
    assert columns_of(database, until_finish)["unique_key"] == "b"


def test_rows_that_another_transaction_has_locked_are_skipped(postgres_url: str) -> None:
    database = Database(postgres_url)
    first, second = add(database), add(database)
    with database.begin() as other:
        other.execute(text("SELECT 1 FROM sched_jobs WHERE id = :id FOR UPDATE"), {"id": first})
        assert [job.id for job in claim_due(database, 10)] == [second]
    database.dispose()


def test_an_unknown_task_is_held_unspent_and_taken_by_a_worker_that_knows_it(
    database: Database,
) -> None:
    job_id = add(database, task="later.known")
    order = Order(WORKER, Band(), new_token(), 5, 5, None, lambda name: False, ())
    assert exchange(database, Request(order=order), Retention()).claimed == []
    stored = columns_of(database, job_id)
    assert (stored["state"], stored["held_reason"], stored["attempts"]) == (
        "held",
        "unknown_task",
        0,
    )
    with database.begin() as connection:
        assert probe(database, connection, Band(), ("other.task",)) is None
        assert probe(database, connection, Band(), ("later.known",)) == 0.0
        tasks = ("later.known", "other.task")
        (claimed,) = claim_unknown(database, connection, tasks, Band(), 5, WORKER, new_token())
    assert (claimed.id, claimed.attempt) == (job_id, 1)


def test_a_last_attempt_is_never_taken_ahead_of_a_free_place(database: Database) -> None:
    ids = [add(database, max_attempts=1) for _ in range(3)]
    order = Order(WORKER, Band(), new_token(), 3, 1, None, lambda name: True, ())
    claimed = exchange(database, Request(order=order), Retention()).claimed
    assert [job.id for job in claimed] == ids[:1]
    assert [columns_of(database, each)["attempts"] for each in ids] == [1, 0, 0]


def test_the_probe_says_when_the_next_job_is_due(database: Database) -> None:
    with database.snapshot() as connection:
        assert probe(database, connection, Band(), ()) is None
    add(database, run_at=now() + HOUR, priority=3)
    add(database, run_at=now() + 2 * HOUR, priority=9)
    with database.snapshot() as connection:
        assert probe(database, connection, Band(), ()) == pytest.approx(3600, abs=30)
        assert probe(database, connection, Band(queues=("no",)), ()) is None
    add(database)
    with database.snapshot() as connection:
        assert probe(database, connection, Band(queues=("default",)), ()) == 0.0


@pytest.mark.parametrize(
    "columns",
    [
        {"state": "nonsense"},
        {"state": "running"},
        {"state": "queued", "lock_token": "t"},
        {"state": "held"},
        {"task": ""},
        {"queue": ""},
        {"task": "x" * 201},
        {"attempts": -1},
        {"max_attempts": 0},
        {"origin": "nowhere"},
        {"held_reason": "tired", "state": "held"},
        {"key_until": "never"},
    ],
)
def test_a_row_that_makes_no_sense_is_refused(database: Database, columns: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        add(database, **columns)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC", "9000-01-01"])
def test_a_time_that_no_driver_reads_is_refused(postgres_url: str, moment: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(IntegrityError):
        execute(
            database,
            "INSERT INTO sched_jobs (task, run_at) VALUES ('a.b', CAST(:at AS timestamptz))",
            at=moment,
        )
    database.dispose()


@pytest.mark.parametrize("moment", ["2026-01-02", "2026-01-02T03:04:05Z", "tomorrow", 17])
def test_sqlite_keeps_times_in_one_width(sqlite_url: str, moment: Any) -> None:
    database = Database(sqlite_url)
    with pytest.raises(IntegrityError):
        execute(database, "INSERT INTO sched_jobs (task, run_at) VALUES ('a.b', :at)", at=moment)
    database.dispose()


def test_two_workers_never_hold_the_same_job(database: Database) -> None:
    for _ in range(10):
        add(database)
    other = Claimant("worker-2", "host:2", LEASE)
    taken = [*claim_due(database, 6), *claim_due(database, 6, claimant=other)]
    assert len({job.id for job in taken}) == len(taken) == 10
