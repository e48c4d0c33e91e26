"""Prune: what is deleted, what is ended because it is too late, and what the ledger keeps of both."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from cronqueue import prune
from cronqueue.database import Database
from job_rows import (
    NOW,
    add,
    add_occurrence,
    all_jobs,
    at,
    attempts,
    claim_one,
    execute,
    get,
    ids,
    opened,
    pass_time,
    states,
    verdicts,
)

DAY = 86_400.0
WEEK = timedelta(days=7)
PLENTY = 1_000_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


def add_ended(database: Database, state: str, days_ago: float) -> int:
    return add(database, state=state, finished_at=at(-days_ago * DAY))


@pytest.mark.parametrize("state", ["succeeded", "cancelled", "skipped"])
def test_ended_jobs_go_when_they_are_older_than_what_is_kept(
    database: Database, state: str
) -> None:
    add_ended(database, state, 7)
    kept = [add_ended(database, state, 6.999), add_ended(database, state, 0)]
    assert prune.prune(database, WEEK, PLENTY) == 1
    assert ids(all_jobs(database)) == kept


def test_failed_jobs_stay_until_somebody_deals_with_them(database: Database) -> None:
    add_ended(database, "failed", 400)
    assert prune.prune(database, timedelta(0), 0) == 0
    assert states(database) == ["failed"]


def test_jobs_that_are_not_done_are_never_pruned(database: Database) -> None:
    add(database, run_at=at(-400 * DAY))
    add(database, state="held", held_reason="paused", run_at=at(-400 * DAY))
    claim_one(database)
    assert prune.prune(database, timedelta(0), 0) == 0


def test_beyond_a_number_the_oldest_go_whatever_their_age(database: Database) -> None:
    added = [add_ended(database, "succeeded", days) for days in (3, 1, 2, 0.5)]
    assert prune.prune(database, WEEK, 2) == 2
    assert ids(all_jobs(database)) == [added[1], added[3]]
    assert prune.prune(database, WEEK, 0) == 2


def test_a_job_that_is_queued_again_at_this_moment_is_not_deleted(postgres_url: str) -> None:
    (database,) = opened(postgres_url)
    job_id = add_ended(database, "cancelled", 10)
    with database.begin() as operator:
        operator.execute(
            text("UPDATE sched_jobs SET state = 'queued', finished_at = NULL WHERE id = :id"),
            {"id": job_id},
        )
        assert prune.prune(database, WEEK, PLENTY) == 0
    assert states(database) == ["queued"]


def test_a_batch_is_bounded_and_the_oldest_are_first(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "BATCH", 2)
    added = [add_ended(database, "succeeded", days) for days in (8, 10, 9)]
    assert prune.prune(database, WEEK, PLENTY) == 2
    assert ids(all_jobs(database)) == added[:1]
    assert prune.prune(database, WEEK, PLENTY) == 1


def test_attempts_go_with_their_job_and_only_with_it(database: Database) -> None:
    old, young = add_ended(database, "succeeded", 8), add_ended(database, "succeeded", 1)
    for job_id in (old, young):
        execute(
            database,
            "INSERT INTO sched_attempts (job_id, attempt, finished_at, outcome)"
            " VALUES (:id, 1, :at, 'failed')",
            id=job_id,
            at=database.moment(NOW),
        )
    prune.prune(database, WEEK, PLENTY)
    assert (len(attempts(database, old)), len(attempts(database, young))) == (0, 1)


@pytest.mark.parametrize(
    ("state", "reason", "verdict"),
    [
        ("succeeded", None, "succeeded"),
        ("skipped", "skipped:overlap:12", "skipped:overlap:12"),
        ("skipped", None, "skipped"),
        ("cancelled", "superseded:9", "superseded:9"),
        ("cancelled", None, "cancelled"),
    ],
)
def test_the_ledger_keeps_the_full_verdict_of_a_pruned_job(
    database: Database, state: str, reason: str | None, verdict: str
) -> None:
    add_occurrence(database, state=state, reason=reason, finished_at=at(-8 * DAY))
    assert prune.prune(database, WEEK, PLENTY) == 1
    assert all_jobs(database) == []
    assert verdicts(database) == [verdict]


def test_a_verdict_that_was_written_down_before_is_not_changed_by_pruning(
    database: Database,
) -> None:
    add_occurrence(database, state="skipped", reason="x", finished_at=at(-8 * DAY))
    execute(database, "UPDATE sched_occurrences SET verdict = 'missed:start'")
    prune.prune(database, WEEK, PLENTY)
    assert verdicts(database) == ["missed:start"]


def test_a_job_that_was_never_tried_in_time_is_missed(database: Database) -> None:
    add_occurrence(
        database, expires_at=at(0), key="k", unique_key="k", guard="g", slot=0, gated=False
    )
    assert prune.expire(database) == 1
    (job,) = all_jobs(database)
    assert (job.state, job.reason, job.finished_at) == ("skipped", "missed:deadline", NOW)
    assert (job.unique_key, job.slot, job.failed_at, job.attempts) == (None, None, None, 0)
    assert verdicts(database) == ["missed:deadline"]


def test_a_job_that_was_tried_and_is_too_late_now_has_failed_with_its_error(
    database: Database,
) -> None:
    add_occurrence(database, expires_at=at(-1), attempts=2, last_error="ValueError: no")
    assert prune.expire(database) == 1
    (job,) = all_jobs(database)
    assert (job.state, job.reason, job.failed_at) == ("failed", "expired", NOW)
    assert job.last_error == "ValueError: no"
    assert verdicts(database) == ["failed"]


def test_held_and_gated_jobs_expire_too(database: Database) -> None:
    add(database, expires_at=at(-1), state="held", held_reason="paused")
    add(database, expires_at=at(-1), guard="g", gated=True)
    assert prune.expire(database) == 2
    jobs = all_jobs(database)
    assert [(job.state, job.held_reason, job.gated) for job in jobs] == [
        ("skipped", None, False)
    ] * 2


def test_nothing_expires_that_runs_has_ended_or_has_time_left(database: Database) -> None:
    running = claim_one(database, expires_at=at(1))
    add(database, expires_at=at(2))
    add(database)
    add(database, state="failed", finished_at=NOW, expires_at=at(-5))
    pass_time(database, 1.999999)
    assert prune.expire(database) == 0
    assert get(database, running.id).state == "running"


def test_processes_that_are_silent_for_long_are_forgotten(database: Database) -> None:
    for name, seconds in (("old", 3601), ("young", 3599)):
        execute(
            database,
            "INSERT INTO sched_workers (id, kind, name, host, pid, version, state, started_at,"
            " heartbeat_at) VALUES (:id, 'worker', 'n', 'h', 1, '1', 'running', :at, :at)",
            id=name,
            at=database.moment(at(-seconds)),
        )
    assert prune.forget_workers(database, timedelta(hours=1)) == 1
    assert execute(database, "UPDATE sched_workers SET pid = 2 WHERE id = 'young'") == 1
