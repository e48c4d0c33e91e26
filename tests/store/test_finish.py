"""Finishes: what each verdict writes, and that only the holder of the token writes at all."""

from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from sqlalchemy.exc import DataError, DBAPIError

from cronqueue import finish as finish_module
from cronqueue import operations, prune
from cronqueue.claim import Claimed
from cronqueue.database import Database
from cronqueue.exchange import Request, exchange
from cronqueue.finish import Finished, Retention, finish, release
from cronqueue.lease import look, renew
from cronqueue.rescue import Death, rescue, return_jobs
from cronqueue.retry import Verdict
from job_rows import (
    LEASE,
    WORKER,
    add,
    claim_due,
    columns_of,
    ended,
    execute,
    let_leases_run_out,
    now,
    query,
)

FAIL = Verdict("failed", error="boom", reason="attempts spent", attempt_outcome="failed")
AGAIN = Verdict("queued", delay=60.0, error="boom", attempt_outcome="failed")


def claimed_job(database: Database, **columns: object) -> Claimed:
    add(database, **columns)
    (claimed,) = claim_due(database, 1)
    return claimed


def write(database: Database, claimed: Claimed, verdict: Verdict, **retention: bool) -> bool:
    done = Finished(claimed.id, claimed.lock_token, claimed.attempt, verdict, "host:1", 0.5)
    with database.begin() as connection:
        return bool(finish(database, connection, [done], Retention(**retention)))


def test_a_success_keeps_its_result_and_clears_the_lock(database: Database) -> None:
    claimed = claimed_job(database, key="k", unique_key="k", guard="g", slot=0)
    assert write(database, claimed, Verdict("succeeded", result_json='{"a":1}'))
    stored = columns_of(database, claimed.id)
    assert (stored["state"], stored["result"]) == ("succeeded", '{"a":1}')
    assert stored["finished_at"] is not None
    cleared = ("lock_token", "locked_until", "unique_key", "slot")
    assert [stored[name] for name in cleared] == [None] * 4


def test_each_job_of_a_batch_keeps_its_own_result(database: Database) -> None:
    for _ in range(6):
        add(database)
    results = {1: "1", 2: None, 3: '"three"', 4: None, 5: "[5]", 6: "6"}
    claims = claim_due(database, 4), claim_due(database, 2)
    batch = [
        ended(job, Verdict("succeeded", result_json=results[job.id])) for job in chain(*claims)
    ]
    batch[-1] = batch[-1]._replace(lock_token="lost")
    taken = database.write(lambda connection: finish(database, connection, batch))
    assert taken == {1, 2, 3, 4, 5}
    stored = {number: columns_of(database, number)["result"] for number in results}
    assert stored == {**results, 6: None}


def test_each_job_of_a_batch_is_settled_by_its_own_verdict(database: Database) -> None:
    for _ in range(5):
        add(database, run_at=now() - timedelta(hours=1))
    jobs = claim_due(database, 5)
    moment = database.moment(now())
    execute(database, "UPDATE sched_jobs SET cancel_requested_at = :at WHERE id = 3", at=moment)
    verdicts = [
        AGAIN,
        Verdict("failed", error="two", reason="attempts spent", attempt_outcome="failed"),
        Verdict("queued", delay=600.0, error="three", attempt_outcome="failed"),
        Verdict("queued", delay=3600.0, refund=True, reason="snoozed"),
        Verdict("queued", delay=60.0, error="five", attempt_outcome="failed"),
    ]
    batch = [ended(job, verdict) for job, verdict in zip(jobs, verdicts, strict=True)]
    batch[4] = batch[4]._replace(lock_token="lost")
    assert database.write(lambda connection: finish(database, connection, batch)) == {1, 2, 3, 4}
    rows = [columns_of(database, number) for number in (1, 2, 3, 4, 5)]
    assert [row["state"] for row in rows] == ["queued", "failed", "cancelled", "queued", "running"]
    assert [row["last_error"] for row in rows] == ["boom", "two", "three", None, None]
    assert [row["reason"] for row in rows] == [None, "attempts spent", None, "snoozed", None]
    assert [row["attempts"] for row in rows] == [1, 1, 1, 0, 1]
    waits = [round((rows[place]["run_at"] - now()).total_seconds(), -2) for place in (0, 1, 3)]
    assert waits == [100, -3600, 3600]
    assert [row["failed_at"] is not None for row in rows] == [False, True, False, False, False]
    lines = query(database, "SELECT job_id, error FROM sched_attempts ORDER BY job_id")
    assert lines == [(1, "boom"), (2, "two"), (3, "three")]


def test_a_retry_waits_and_leaves_a_line_for_the_attempt(database: Database) -> None:
    claimed = claimed_job(database, guard="g", slot=0, key="k", unique_key="k")
    assert write(database, claimed, AGAIN)
    stored = columns_of(database, claimed.id)
    assert (stored["state"], stored["attempts"], stored["last_error"]) == ("queued", 1, "boom")
    assert timedelta(seconds=55) < stored["run_at"] - now() < timedelta(seconds=61)
    assert (stored["locked_by"], stored["slot"], stored["gated"]) == (None, None, True)
    assert stored["unique_key"] == "k"
    lines = query(database, "SELECT job_id, attempt, worker, outcome, error FROM sched_attempts")
    assert lines == [(claimed.id, 1, "host:1", "failed", "boom")]


def test_a_failure_for_good_is_marked_and_frees_the_key(database: Database) -> None:
    claimed = claimed_job(database, key="k", unique_key="k")
    assert write(database, claimed, FAIL)
    stored = columns_of(database, claimed.id)
    assert (stored["state"], stored["reason"]) == ("failed", "attempts spent")
    assert stored["failed_at"] is not None
    assert stored["unique_key"] is None


def test_a_snooze_spends_no_attempt(database: Database) -> None:
    claimed = claimed_job(database)
    assert write(database, claimed, Verdict("queued", delay=5.0, refund=True, reason="snoozed"))
    stored = columns_of(database, claimed.id)
    assert (stored["attempts"], stored["refunds"], stored["claims"]) == (0, 0, 1)


def test_a_release_is_as_if_it_had_never_been_claimed(database: Database) -> None:
    claimed = claimed_job(database, guard="g", slot=0)
    with database.begin() as connection:
        assert release(database, connection, claimed.lock_token) == {claimed.id}
    stored = columns_of(database, claimed.id)
    assert (stored["state"], stored["attempts"], stored["claims"]) == ("queued", 0, 1)
    assert (stored["slot"], stored["gated"], stored["lock_token"]) == (0, False, None)


@pytest.mark.parametrize("verdict", [Verdict("succeeded"), FAIL, AGAIN])
def test_a_second_finish_and_a_wrong_token_change_nothing(
    database: Database, verdict: Verdict
) -> None:
    claimed = claimed_job(database)
    assert not write(database, claimed._replace(lock_token="other"), verdict)
    assert columns_of(database, claimed.id)["state"] == "running"
    assert write(database, claimed, verdict)
    before = columns_of(database, claimed.id)
    assert not write(database, claimed, Verdict("succeeded", result_json='"late"'))
    assert columns_of(database, claimed.id) == before


def test_after_a_rescue_the_former_holder_is_refused(database: Database) -> None:
    first = claimed_job(database)
    let_leases_run_out(database)
    assert rescue(database).ids == (first.id,)
    execute(database, "UPDATE sched_jobs SET run_at = created_at")
    (second,) = claim_due(database, 1)
    assert not write(database, first, Verdict("succeeded", result_json='"first"'))
    assert write(database, second, Verdict("succeeded", result_json='"second"'))
    assert columns_of(database, first.id)["result"] == '"second"'
    assert second.token > first.token


@pytest.mark.parametrize(
    ("verdict", "state"),
    [(Verdict("succeeded"), "succeeded"), (FAIL, "cancelled"), (AGAIN, "cancelled")],
)
def test_a_cancel_ends_a_running_job_wherever_it_would_have_gone_on(
    database: Database, verdict: Verdict, state: str
) -> None:
    claimed = claimed_job(database)
    assert operations.cancel_job(database, claimed.id, actor="test") == "requested"
    assert look(database, [claimed.lock_token]).cancelled == {claimed.id}
    assert write(database, claimed, verdict)
    stored = columns_of(database, claimed.id)
    assert stored["state"] == state
    assert stored["finished_at"] is not None


def test_failed_jobs_can_be_destroyed_and_finished_ones_dropped(database: Database) -> None:
    failed, done = claimed_job(database), claimed_job(database)
    assert write(database, failed, FAIL, drop_failed=True)
    assert write(database, done, Verdict("succeeded"), drop_finished=True)
    assert query(database, "SELECT id FROM sched_jobs") == []


def test_a_value_that_the_database_refuses_fails_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        add(database)
    batch = [
        Finished(job.id, job.lock_token, 1, Verdict("succeeded", result_json="1"))
        for job in claim_due(database, 5)
    ]
    bad = batch[2].job_id
    honest = finish_module._complete

    def refuse(database: Database, connection: Any, succeeded: list[Finished]) -> set[int]:
        if any(each.job_id == bad for each in succeeded):
            raise DataError("UPDATE", {}, Exception("a value out of range"))
        return honest(database, connection, succeeded)

    monkeypatch.setattr(finish_module, "_complete", refuse)
    reply = exchange(database, Request(finished=batch), Retention())
    assert reply.ours == {each.job_id for each in batch}
    states = {each.job_id: columns_of(database, each.job_id)["state"] for each in batch}
    assert states.pop(bad) == "failed"
    assert set(states.values()) == {"succeeded"}


def test_an_outage_is_not_taken_for_a_refused_value(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claimed_job(database)

    def lost(*arguments: object) -> None:
        raise DBAPIError("UPDATE", {}, Exception("gone"), connection_invalidated=True)

    monkeypatch.setattr("cronqueue.exchange.finish", lost)
    done = Finished(claimed.id, claimed.lock_token, 1, Verdict("succeeded"))
    with pytest.raises(DBAPIError):
        exchange(database, Request(finished=[done]), Retention())
    assert columns_of(database, claimed.id)["state"] == "running"


def test_a_lost_job_runs_again_at_once_the_first_time_then_with_the_back_off(
    database: Database,
) -> None:
    claimed = claimed_job(database)
    let_leases_run_out(database)
    rescue(database)
    assert columns_of(database, claimed.id)["run_at"] - now() < timedelta(seconds=1)
    execute(database, "UPDATE sched_jobs SET run_at = created_at")
    claim_due(database, 1)
    let_leases_run_out(database)
    rescue(database)
    stored = columns_of(database, claimed.id)
    assert stored["run_at"] - now() > timedelta(seconds=15)
    assert (stored["rescues"], stored["attempts"]) == (2, 2)


def test_a_job_whose_last_attempt_is_lost_has_failed(database: Database) -> None:
    claimed = claimed_job(database, max_attempts=1)
    let_leases_run_out(database)
    rescue(database)
    stored = columns_of(database, claimed.id)
    assert (stored["state"], stored["reason"]) == ("failed", "worker lost")
    assert "not heard of" in stored["last_error"]


def test_a_living_lease_is_not_rescued_and_says_when_it_runs_out(database: Database) -> None:
    claimed_job(database)
    rescued = rescue(database)
    assert rescued.ids == ()
    assert rescued.expires_in == pytest.approx(LEASE.total_seconds(), abs=3)


def test_of_a_dead_process_only_begun_jobs_spend_their_attempt(database: Database) -> None:
    for _ in range(3):
        add(database)
    begun, *waiting = claim_due(database, 3)
    return_jobs(database, WORKER.worker_id, Death("segfault", frozenset([begun.id])))
    stored = columns_of(database, begun.id)
    assert (stored["state"], stored["attempts"], stored["run_alone"]) == ("queued", 1, True)
    for job in waiting:
        stored = columns_of(database, job.id)
        assert (stored["state"], stored["attempts"], stored["run_alone"]) == ("queued", 0, False)


def test_neighbours_of_a_timeout_get_their_attempt_back_three_times(database: Database) -> None:
    culprit, neighbour = add(database, max_attempts=9), add(database, max_attempts=9)
    for refunds in (1, 2, 3, 3):
        execute(database, "UPDATE sched_jobs SET run_at = created_at")
        started = frozenset(job.id for job in claim_due(database, 2))
        return_jobs(database, WORKER.worker_id, Death("hard timeout", started, culprit))
        assert columns_of(database, neighbour)["refunds"] == refunds
    assert columns_of(database, neighbour)["attempts"] == 1
    assert columns_of(database, culprit)["attempts"] == 4


def test_a_renewal_writes_only_leases_past_a_third(database: Database) -> None:
    fresh = claimed_job(database)
    renew(database, [fresh.lock_token], LEASE)
    stored = columns_of(database, fresh.id)
    assert stored["locked_until"] - stored["locked_at"] == LEASE
    near = database.moment(now() + LEASE / 2)
    execute(database, "UPDATE sched_jobs SET locked_until = :near", near=near)
    renewal = renew(database, [fresh.lock_token, "unknown"], LEASE)
    assert renewal.held == {fresh.lock_token: {fresh.id}, "unknown": frozenset()}
    assert columns_of(database, fresh.id)["locked_until"] - now() > LEASE * 0.9


def test_what_expired_is_missed_if_never_tried_else_failed(database: Database) -> None:
    past = now() - timedelta(seconds=1)
    never, tried = add(database, expires_at=past), add(database, expires_at=past, attempts=2)
    assert prune.expire(database) == 2
    assert columns_of(database, never)["reason"] == "missed:deadline"
    assert columns_of(database, never)["state"] == "skipped"
    assert columns_of(database, tried)["reason"] == "expired"
    assert columns_of(database, tried)["state"] == "failed"


def test_pruning_keeps_failed_jobs_and_leaves_verdicts_in_the_ledger(database: Database) -> None:
    moment = now() - timedelta(days=8)
    old = {"finished_at": moment, "schedule": "s", "planned_for": moment}
    done = add(database, state="succeeded", **old)
    failed = add(database, state="failed", finished_at=moment)
    young = add(database, state="succeeded", finished_at=now())
    occurrence = (
        "INSERT INTO sched_occurrences (schedule, planned_for, job_id) VALUES ('s', :at, :id)"
    )
    execute(database, occurrence, at=database.moment(moment), id=done)
    assert prune.prune(database, timedelta(days=7), 1_000) == 1
    left = query(database, "SELECT id FROM sched_jobs ORDER BY id")
    assert left == [(failed,), (young,)]
    assert query(database, "SELECT verdict FROM sched_ledger") == [("succeeded",)]


def test_pruning_by_count_keeps_the_newest(database: Database) -> None:
    ended = [
        add(database, state="succeeded", finished_at=now() - timedelta(minutes=5 - i))
        for i in range(5)
    ]
    assert prune.prune(database, timedelta(days=7), 2) >= 2
    left = {each for (each,) in query(database, "SELECT id FROM sched_jobs")}
    assert set(ended[-2:]) <= left
    assert ended[0] not in left


def test_a_job_deleted_behind_our_back_is_lost_in_the_ledger(database: Database) -> None:
    job_id = add(database)
    occurrence = (
        "INSERT INTO sched_occurrences (schedule, planned_for, job_id) VALUES ('s', :at, :id)"
    )
    execute(database, occurrence, at=database.moment(now()), id=job_id)
    assert query(database, "SELECT verdict FROM sched_ledger") == [("queued",)]
    execute(database, "DELETE FROM sched_jobs")
    assert query(database, "SELECT verdict FROM sched_ledger") == [("lost:deleted",)]


def test_the_same_finish_again_after_an_unknown_outcome_is_harmless(database: Database) -> None:
    claimed = claimed_job(database)
    done = Finished(claimed.id, claimed.lock_token, 1, Verdict("succeeded", result_json="1"))
    assert exchange(database, Request(finished=[done]), Retention()).ours == {claimed.id}
    again = done._replace(verdict=Verdict("succeeded", result_json="2"))
    assert exchange(database, Request(finished=[again]), Retention()).ours == frozenset()
    assert columns_of(database, claimed.id)["result"] == "1"
