"""Rescue: what becomes of jobs whose worker is gone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cronqueue import configuration, operations, rescue
from cronqueue.claim import Claimant
from cronqueue.database import Database
from cronqueue.lease import renew
from cronqueue.retry import MAX_REFUNDS
from cronqueue.settings import Settings
from job_rows import (
    LEASE,
    add,
    add_occurrence,
    all_jobs,
    at,
    attempts,
    claim_due,
    claim_one,
    execute,
    find,
    get,
    hand_in,
    ids,
    opened,
    pass_time,
    states,
    verdicts,
)

LEASE_SECONDS = LEASE.total_seconds()
CRASH = "executor ended by signal 9"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    configuration.use_settings(Settings())
    yield from opened(database_url)
    configuration.use_database(None)


def died(database: Database, *started: int, culprit: int | None = None) -> tuple[int, ...]:
    return rescue.return_jobs(
        database, "worker-id", rescue.Death(CRASH, frozenset(started), culprit)
    )


def test_a_lease_that_has_not_run_out_is_respected_to_its_last_moment(database: Database) -> None:
    claimed = claim_one(database)
    pass_time(database, LEASE_SECONDS)
    assert rescue.rescue(database) == rescue.Rescued((), 0.0)
    pass_time(database, 0.000001)
    assert rescue.rescue(database).ids == (claimed.id,)


def test_a_rescued_job_runs_again_at_once_the_first_time(database: Database) -> None:
    claimed = claim_one(database, guard="g", slot=0)
    pass_time(database, LEASE_SECONDS + 1)
    rescue.rescue(database)
    job = get(database, claimed.id)
    assert (job.state, job.attempts, job.rescues) == ("queued", 1, 1)
    assert at(LEASE_SECONDS + 1) <= job.run_at <= at(LEASE_SECONDS + 1.5)
    assert (job.slot, job.gated) == (None, True)
    assert job.last_error == "worker worker lost: its worker was not heard of for a whole lease"
    assert [line.outcome for line in attempts(database, job.id)] == ["lost"]


def test_after_the_first_rescue_it_waits_for_the_back_off(database: Database) -> None:
    claimed = claim_one(database, rescues=1, attempts=1)
    pass_time(database, LEASE_SECONDS + 1)
    rescue.rescue(database)
    job = get(database, claimed.id)
    assert job.rescues == 2
    wait = (job.run_at - at(LEASE_SECONDS + 1)).total_seconds()
    assert 2**4 + 5 <= wait <= (2**4 + 5) * 1.1


def test_a_job_that_was_lost_in_its_last_attempt_has_failed(database: Database) -> None:
    claimed = claim_one(database, max_attempts=1, key="k", unique_key="k")
    pass_time(database, LEASE_SECONDS + 1)
    rescue.rescue(database)
    job = get(database, claimed.id)
    assert (job.state, job.reason, job.unique_key) == ("failed", "worker lost", None)


def test_a_job_that_always_takes_its_worker_along_ends_after_its_attempts(
    database: Database,
) -> None:
    job_id = add(database, max_attempts=4)
    starts = 0
    while claim_due(database):
        starts += 1
        pass_time(database, LEASE_SECONDS + 1)
        rescue.rescue(database)
        pass_time(database, 3600)
    job = get(database, job_id)
    assert (job.state, job.reason, starts) == ("failed", "worker lost", 4)


def test_a_rescue_tells_when_the_next_lease_runs_out(database: Database) -> None:
    assert rescue.rescue(database).expires_in is None
    claim_one(database)
    pass_time(database, 10)
    assert rescue.rescue(database).expires_in == LEASE_SECONDS - 10


def test_a_cancelled_job_whose_process_had_to_be_ended_has_ended_and_its_neighbour_goes_back(
    database: Database,
) -> None:
    deaf, neighbour = add(database), add(database)
    claim_due(database, 2)
    operations.cancel_job(database, deaf, actor="ann")
    death = rescue.Death("it went on", frozenset([deaf, neighbour]), deaf, "interrupted")
    rescue.return_jobs(database, "worker-id", death)
    assert (get(database, deaf).state, get(database, deaf).attempts) == ("cancelled", 1)
    assert [line.outcome for line in attempts(database, deaf)] == ["interrupted"]
    assert (get(database, neighbour).state, get(database, neighbour).attempts) == ("queued", 0)


def test_a_job_that_is_to_be_cancelled_is_not_run_again_by_a_rescue(database: Database) -> None:
    claimed = claim_one(database)
    operations.cancel_job(database, claimed.id, actor="ann")
    pass_time(database, LEASE_SECONDS + 1)
    rescue.rescue(database)
    assert get(database, claimed.id).state == "cancelled"


def test_failed_jobs_are_deleted_by_a_rescue_too_where_that_is_wished(database: Database) -> None:
    configuration.use_settings(Settings(destroy_failed_jobs=True))
    add_occurrence(database, max_attempts=1)
    (claimed,) = claim_due(database)
    pass_time(database, LEASE_SECONDS + 1)
    rescue.rescue(database)
    assert find(database, claimed.id) is None
    assert verdicts(database) == ["failed"]


def test_more_lost_jobs_than_one_batch_are_rescued_turn_by_turn(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "BATCH", 2)
    for _ in range(5):
        add(database)
    claim_due(database)
    pass_time(database, LEASE_SECONDS + 1)
    turns = [len(rescue.rescue(database).ids) for _ in range(4)]
    assert turns == [2, 2, 1, 0]
    assert states(database) == ["queued"] * 5


def test_a_back_off_that_fails_keeps_no_job_from_its_rescue(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(attempt: int) -> Any:
        raise ZeroDivisionError(attempt)

    monkeypatch.setattr(configuration, "global_backoff", lambda: broken)
    claimed = claim_one(database, rescues=1)
    pass_time(database, LEASE_SECONDS + 1)
    assert rescue.rescue(database).ids == (claimed.id,)
    assert get(database, claimed.id).run_at >= at(LEASE_SECONDS + 1 + 6)


def test_of_a_dead_executor_only_what_had_begun_spends_its_attempt(database: Database) -> None:
    begun, waiting = claim_one(database), claim_one(database)
    assert died(database, begun.id) == (begun.id, waiting.id)
    first, second = all_jobs(database)
    assert (first.state, first.attempts, first.rescues, first.run_alone) == ("queued", 1, 1, True)
    assert (second.state, second.attempts, second.rescues, second.run_alone) == (
        "queued",
        0,
        0,
        False,
    )
    assert [line.outcome for line in attempts(database, first.id)] == ["lost"]
    assert attempts(database, second.id) == []


def test_only_the_dead_executors_jobs_go_back(database: Database) -> None:
    add(database)
    (other,) = claim_due(database, claimant=Claimant("other-id", "worker", LEASE))
    assert died(database, other.id) == ()
    assert get(database, other.id).state == "running"


def test_more_jobs_than_one_batch_go_back_from_a_dead_executor(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "BATCH", 2)
    for _ in range(5):
        add(database)
    claimed = claim_due(database)
    assert died(database, claimed[4].id) == tuple(job.id for job in claimed)
    assert [job.attempts for job in all_jobs(database)] == [0, 0, 0, 0, 1]


def test_who_ran_beside_a_job_that_timed_out_gets_the_attempt_back(database: Database) -> None:
    culprit, neighbour = claim_one(database), claim_one(database)
    died(database, culprit.id, neighbour.id, culprit=culprit.id)
    first, second = all_jobs(database)
    assert (first.attempts, first.refunds, first.rescues) == (1, 0, 0)
    assert first.run_at > at(5), "the culprit waits for its back-off"
    assert (second.attempts, second.refunds, second.run_at) == (0, 1, at(0))
    assert [line.outcome for line in attempts(database, first.id)] == ["timeout"]
    assert [line.outcome for line in attempts(database, second.id)] == ["refunded"]


def test_a_neighbour_in_its_last_attempt_gets_it_back_too(database: Database) -> None:
    culprit, neighbour = claim_one(database), claim_one(database, max_attempts=1)
    died(database, culprit.id, neighbour.id, culprit=culprit.id)
    assert get(database, neighbour.id).state == "queued"


def test_an_attempt_is_given_back_at_most_three_times(database: Database) -> None:
    job_id = add(database)
    spent = []
    for _ in range(MAX_REFUNDS + 1):
        culprit = add(database)
        died(database, *ids(claim_due(database)), culprit=culprit)
        spent.append(get(database, job_id).attempts)
        pass_time(database, 3600)
    assert spent == [0, 0, 0, 1]
    assert get(database, job_id).refunds == MAX_REFUNDS


def test_a_job_that_timed_out_in_its_last_attempt_has_failed(database: Database) -> None:
    culprit = claim_one(database, max_attempts=1)
    died(database, culprit.id, culprit=culprit.id)
    job = get(database, culprit.id)
    assert (job.state, job.reason, job.last_error) == ("failed", "attempts spent", CRASH)


def test_a_job_that_had_begun_keeps_its_attempt_spent_when_it_finishes_too_late(
    database: Database,
) -> None:
    claimed = claim_one(database)
    died(database, claimed.id)
    assert hand_in(database, claimed) == set()
    assert get(database, claimed.id).state == "queued"


def test_the_wait_after_a_rescue_follows_the_settings(database: Database) -> None:
    configuration.use_settings(Settings(backoff=(timedelta(hours=2),)))
    claimed = claim_one(database, rescues=1)
    pass_time(database, LEASE_SECONDS + 1)
    rescue.rescue(database)
    assert get(database, claimed.id).run_at >= at(LEASE_SECONDS + 1 + 7200)


def test_without_the_rows_of_the_workers_leases_are_renewed_and_rescued_all_the_same(
    database: Database,
) -> None:
    kept, lost = claim_one(database), claim_one(database)
    execute(database, "DELETE FROM sched_workers")
    pass_time(database, 25)
    assert renew(database, [kept.lock_token], LEASE).held == {kept.lock_token: frozenset([kept.id])}
    pass_time(database, 10)
    assert rescue.rescue(database).ids == (lost.id,)
