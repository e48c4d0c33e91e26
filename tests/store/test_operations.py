"""What operators do to jobs and queues, on each database."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from cronqueue import operations
from cronqueue.claim import Band, Claimant, claim, find_lanes, new_token
from cronqueue.database import Database
from cronqueue.errors import DefinitionError, KeyTaken, RunAtError, StateError
from cronqueue.finish import Finished, finish
from cronqueue.models import Job, Occurrence
from cronqueue.registration import Presence, ask_to_drain, heartbeat
from cronqueue.retry import Verdict
from cronqueue.settings import Settings
from job_rows import query

ACTOR = "ann@host"
LATER = datetime.now(UTC) + timedelta(hours=1)
ENDED: dict[str, Any] = {"finished_at": datetime(2026, 1, 2, tzinfo=UTC)}
FAILED: dict[str, Any] = ENDED | {
    "state": "failed",
    "failed_at": datetime(2026, 1, 2, tzinfo=UTC),
    "attempts": 25,
    "claims": 31,
    "last_error": "ValueError: no",
    "reason": "attempts spent",
}


@pytest.mark.parametrize("state", ["failed", "cancelled", "skipped"])
def test_an_ended_job_is_queued_again_with_fresh_attempts(database: Database, state: str) -> None:
    job_id = add(database, **FAILED | {"state": state, "run_at": LATER, "rescues": 2})
    operations.retry_job(database, job_id, actor=ACTOR)
    job = get(database, job_id)
    assert (job.state, job.attempts, job.rescues) == ("queued", 0, 0)
    assert job.run_at <= database.server_now()
    assert (job.failed_at, job.finished_at, job.reason) == (None, None, None)
    assert job.last_error == "ValueError: no", "it still tells what went wrong"


def test_a_retry_never_resets_the_number_of_claims(database: Database) -> None:
    job_id = add(database, **FAILED)
    operations.retry_job(database, job_id, actor=ACTOR)
    assert get(database, job_id).claims == 31


def test_a_retried_job_is_claimed_although_its_deadline_had_passed(database: Database) -> None:
    late = datetime(2026, 1, 1, tzinfo=UTC)
    job_id = add(database, **ENDED, state="skipped", expires_at=late, reason="missed:deadline")
    operations.retry_job(database, job_id, actor=ACTOR)
    assert claim_all(database)[0] == [job_id]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("queued", "is queued: `sched jobs run-now"),
        ("held", "is held: `sched jobs run-now"),
        ("running", "is running: it must end first"),
        ("succeeded", "has succeeded: enqueue its task anew"),
    ],
)
def test_what_is_not_ended_badly_cannot_be_retried(
    database: Database, state: str, says: str
) -> None:
    job_id = add(database, **in_state(state))
    with pytest.raises(StateError, match=says):
        operations.retry_job(database, job_id, actor=ACTOR)
    assert get(database, job_id).state == state
    assert audit(database) == []


def test_a_retry_takes_the_key_again(database: Database) -> None:
    job_id = add(database, **FAILED, key="welcome:7")
    operations.retry_job(database, job_id, actor=ACTOR)
    assert get(database, job_id).unique_key == "welcome:7"


def test_a_retry_whose_key_is_taken_names_the_holder(database: Database) -> None:
    job_id = add(database, **FAILED, key="welcome:7")
    holder = add(database, key="welcome:7", unique_key="welcome:7")
    with pytest.raises(KeyTaken, match=f"'welcome:7' is held by job {holder}"):
        operations.retry_job(database, job_id, actor=ACTOR)
    assert get(database, job_id).state == "failed"


def test_of_two_concurrent_retries_of_one_key_one_wins(database: Database) -> None:
    ids = [add(database, **FAILED, key="k") for _ in range(2)]
    barrier = threading.Barrier(2)
    taken: list[KeyTaken] = []

    def retry(job_id: int) -> None:
        barrier.wait()
        try:
            operations.retry_job(database, job_id, actor=ACTOR)
        except KeyTaken as error:
            taken.append(error)

    threads = [threading.Thread(target=retry, args=[job_id]) for job_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = {job_id: get(database, job_id).state for job_id in ids}
    assert sorted(states.values()) == ["failed", "queued"]
    assert [states[error.holder] for error in taken] == ["queued"]


def test_a_retried_occurrence_goes_through_the_gate_and_loses_its_verdict(
    database: Database,
) -> None:
    job_id = add(database, **ENDED, **occurrence("skipped:overlap:3"), state="skipped")
    operations.retry_job(database, job_id, actor=ACTOR)
    job = get(database, job_id)
    assert (job.gated, job.pinned, job.slot) == (True, True, None)
    assert verdict(database) is None


@pytest.mark.parametrize("state", ["queued", "held"])
def test_a_waiting_job_is_cancelled_and_lets_go_of_everything(
    database: Database, state: str
) -> None:
    held = {"key": "k", "unique_key": "k", "guard": "g", "slot": 0}
    job_id = add(database, **in_state(state), **held)
    done = operations.cancel_job(database, job_id, actor=ACTOR, reason="not needed")
    job = get(database, job_id)
    assert done == "cancelled"
    assert (job.state, job.reason) == ("cancelled", "not needed")
    assert job.finished_at is not None
    assert (job.unique_key, job.slot, job.held_reason, job.gated) == (None, None, None, False)


def test_a_running_job_is_only_asked_to_stop(database: Database) -> None:
    job_id = add(database)
    claim_all(database)
    assert operations.cancel_job(database, job_id, actor=ACTOR) == "requested"
    job = get(database, job_id)
    assert job.state == "running"
    assert job.cancel_requested_at is not None


def test_asking_again_keeps_the_time_of_the_first_request(database: Database) -> None:
    job_id = add(database)
    claim_all(database)
    operations.cancel_job(database, job_id, actor=ACTOR)
    first = get(database, job_id).cancel_requested_at
    operations.cancel_job(database, job_id, actor=ACTOR)
    assert get(database, job_id).cancel_requested_at == first


def test_a_job_that_was_asked_to_stop_ends_as_cancelled_where_it_would_be_retried(
    database: Database,
) -> None:
    job_id = add(database)
    _, lock_token = claim_all(database)
    operations.cancel_job(database, job_id, actor=ACTOR)
    retry = Verdict("queued", delay=5.0, error="x", attempt_outcome="failed")
    database.write(
        lambda connection: finish(database, connection, [Finished(job_id, lock_token, 1, retry)])
    )
    assert get(database, job_id).state == "cancelled"
    operations.retry_job(database, job_id, actor=ACTOR)
    assert get(database, job_id).cancel_requested_at is None


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "skipped"])
def test_an_ended_job_cannot_be_cancelled(database: Database, state: str) -> None:
    job_id = add(database, **in_state(state))
    with pytest.raises(StateError, match="there is nothing left to cancel"):
        operations.cancel_job(database, job_id, actor=ACTOR)


def test_the_ledger_says_cancelled_whatever_reason_was_given(database: Database) -> None:
    job_id = add(database, **occurrence(None))
    operations.cancel_job(database, job_id, actor=ACTOR, reason="superseded")
    assert verdict(database) == "cancelled"


def test_a_deleted_occurrence_leaves_its_verdict(database: Database) -> None:
    job_id = add(database, **FAILED, **occurrence(None))
    operations.delete_job(database, job_id, actor=ACTOR)
    assert find(database, job_id) is None
    assert verdict(database) == "failed"


def test_a_running_job_cannot_be_deleted(database: Database) -> None:
    job_id = add(database)
    claim_all(database)
    with pytest.raises(StateError, match="is running: it must end first"):
        operations.delete_job(database, job_id, actor=ACTOR)
    assert find(database, job_id) is not None


@pytest.mark.parametrize("state", ["queued", "held"])
def test_run_now_makes_a_waiting_job_due_and_pins_it(database: Database, state: str) -> None:
    job_id = add(database, **in_state(state) | {"run_at": LATER})
    operations.run_now(database, job_id, actor=ACTOR)
    assert get(database, job_id).pinned
    assert claim_all(database)[0] == [job_id]


def test_run_now_leaves_a_due_job_its_place(database: Database) -> None:
    due = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    job_id = add(database, run_at=due)
    operations.run_now(database, job_id, actor=ACTOR)
    assert get(database, job_id).run_at == due


def test_run_now_does_not_pass_a_guard_that_somebody_holds(database: Database) -> None:
    job_id = add(database, **occurrence(None), run_at=LATER)
    operations.run_now(database, job_id, actor=ACTOR)
    assert get(database, job_id).gated
    assert claim_all(database)[0] == []


def test_an_ended_job_cannot_be_run_now(database: Database) -> None:
    job_id = add(database, **FAILED)
    with pytest.raises(StateError, match=f"has failed: `sched jobs retry {job_id}`"):
        operations.run_now(database, job_id, actor=ACTOR)


@pytest.mark.parametrize("act", ["retry_job", "cancel_job", "delete_job", "run_now"])
def test_a_job_that_does_not_exist_is_a_lookup_error(database: Database, act: str) -> None:
    with pytest.raises(LookupError, match="there is no job 4711"):
        getattr(operations, act)(database, 4711, actor=ACTOR)
    assert audit(database) == []


def test_every_act_is_one_row_of_the_audit(database: Database) -> None:
    first, second = add(database), add(database, **FAILED)
    operations.run_now(database, first, actor=ACTOR)
    operations.cancel_job(database, first, actor=ACTOR, reason="why not")
    operations.retry_job(database, second, actor="bob@host")
    operations.delete_job(database, first, actor=ACTOR)
    assert audit(database) == [
        (ACTOR, "run-now", f"job {first}", None),
        (ACTOR, "cancel", f"job {first}", {"reason": "why not"}),
        ("bob@host", "retry", f"job {second}", None),
        (ACTOR, "delete", f"job {first}", None),
    ]


def test_many_jobs_are_retried_in_batches_and_the_others_left_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "BATCH", 2)
    failed = [add(database, **FAILED) for _ in range(3)]
    running = add(database)
    claim_all(database)
    assert operations.retry_jobs(database, [*failed, running, 4711], actor=ACTOR) == 3
    assert [get(database, job_id).state for job_id in failed] == ["queued"] * 3
    assert get(database, running).state == "running"
    assert [(target, detail) for _, _, target, detail in audit(database)] == [
        ("2 jobs", {"ids": failed[:2]}),
        ("1 jobs", {"ids": failed[2:]}),
    ]


def test_of_many_jobs_with_one_key_one_is_retried(database: Database) -> None:
    ids = [add(database, **FAILED, key="k") for _ in range(3)] + [add(database, **FAILED)]
    assert operations.retry_jobs(database, ids, actor=ACTOR) == 2
    assert sorted(get(database, job_id).state for job_id in ids) == [
        "failed",
        "failed",
        "queued",
        "queued",
    ]


def test_many_jobs_are_cancelled_and_counted_by_what_became_of_them(database: Database) -> None:
    add(database)
    claim_all(database)
    waiting = [add(database), add(database, **in_state("held"))]
    done = operations.cancel_jobs(database, range(1, 10), actor=ACTOR)
    assert done == operations.Cancelled(cancelled=2, requested=1)
    assert [get(database, job_id).state for job_id in waiting] == ["cancelled", "cancelled"]


def test_many_jobs_are_deleted_but_for_the_running_ones(database: Database) -> None:
    running = add(database)
    claim_all(database)
    others = [add(database), add(database, **FAILED)]
    assert operations.delete_jobs(database, [running, *others], actor=ACTOR) == 2
    assert [find(database, job_id) is None for job_id in (running, *others)] == [False, True, True]


def test_many_jobs_are_made_due(database: Database) -> None:
    ids = [add(database, run_at=LATER), add(database, **in_state("held"))]
    assert operations.run_jobs_now(database, ids, actor=ACTOR) == 2
    assert sorted(claim_all(database)[0]) == ids


def test_an_act_on_nothing_leaves_no_trace(database: Database) -> None:
    assert operations.retry_jobs(database, [], actor=ACTOR) == 0
    assert operations.delete_jobs(database, [4711], actor=ACTOR) == 0
    assert audit(database) == []


def test_nobody_claims_from_a_paused_queue_until_it_is_resumed(database: Database) -> None:
    job_id = add(database, queue="mail")
    operations.pause_queue(database, "mail", actor=ACTOR, reason="the server is down")
    assert claim_all(database)[0] == []
    operations.resume_queue(database, "mail", actor=ACTOR)
    assert claim_all(database)[0] == [job_id]
    assert audit(database) == [
        (ACTOR, "pause", "queue mail", {"reason": "the server is down"}),
        (ACTOR, "resume", "queue mail", None),
    ]


def test_a_pause_can_be_given_another_reason_and_end(database: Database) -> None:
    operations.pause_queue(database, "mail", actor="bob@host", reason="a")
    operations.pause_queue(database, "mail", actor=ACTOR, reason="b", until=LATER)
    with database.snapshot() as connection:
        row = connection.execute(text("SELECT * FROM sched_queues")).one()
    assert (row.paused_by, row.paused_reason) == (ACTOR, "b")


def test_a_pause_cannot_end_in_the_past_nor_at_a_naive_time(database: Database) -> None:
    with pytest.raises(RunAtError, match="has passed"):
        operations.pause_queue(
            database, "mail", actor=ACTOR, until=datetime(2026, 1, 1, tzinfo=UTC)
        )
    with pytest.raises(RunAtError, match="has no time zone"):
        operations.pause_queue(database, "mail", actor=ACTOR, until=LATER.replace(tzinfo=None))


def test_what_cannot_be_a_queue_cannot_be_paused(database: Database) -> None:
    with pytest.raises(DefinitionError, match="without a comma"):
        operations.pause_queue(database, "mail,web", actor=ACTOR)


def test_a_queue_that_is_not_paused_cannot_be_resumed(database: Database) -> None:
    with pytest.raises(StateError, match="queue 'mail' is not paused"):
        operations.resume_queue(database, "mail", actor=ACTOR)


def test_the_user_has_a_name_and_a_host() -> None:
    user, _, host = operations.this_user().partition("@")
    assert user
    assert host


def in_state(state: str) -> dict[str, Any]:
    """The columns that a row of this state must have."""
    if state == "held":
        return {"state": "held", "held_reason": "unknown_task"}
    if state == "running":
        return {"state": "running", "lock_token": "t", "locked_until": LATER}
    return {"state": state} | (ENDED if state != "queued" else {})


def occurrence(verdict: str | None) -> dict[str, Any]:
    planned_for = datetime(2026, 1, 2, tzinfo=UTC)
    return {
        "schedule": "s",
        "planned_for": planned_for,
        "origin": "schedule",
        "guard": "s",
        "_verdict": verdict,
    }


def add(database: Database, **columns: Any) -> int:
    settled = columns.pop("_verdict", None)
    job: Job[Any] = Job(**{"task": "demo.add", **columns})

    def work(connection: Any) -> int:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            session.add(job)
            session.flush()
            job_id = job.id
            if job.schedule:
                line = Occurrence(
                    schedule=job.schedule,
                    planned_for=job.planned_for,
                    verdict=settled,
                    job_id=job_id,
                )
                session.add(line)
                session.flush()
        return job_id

    return database.write(work)


def find(database: Database, job_id: int) -> Job[Any] | None:
    with database.snapshot() as connection, Session(connection, expire_on_commit=False) as session:
        return session.get(Job, job_id)


def get(database: Database, job_id: int) -> Job[Any]:
    job = find(database, job_id)
    assert job is not None
    return job


def verdict(database: Database) -> str | None:
    with database.snapshot() as connection:
        found: str | None = connection.execute(
            text("SELECT verdict FROM sched_occurrences")
        ).scalar_one()
    return found


def test_a_name_stands_for_all_workers_that_bear_it_and_an_id_for_one_executor(
    database: Database,
) -> None:
    present = [
        Presence(each, "worker", name, 1, "running", Settings())
        for each, name in (("a1", "a"), ("a2", "a"), ("b1", "b"))
    ]
    heartbeat(database, present)
    drained = "SELECT id FROM sched_workers WHERE drain_requested_at IS NOT NULL ORDER BY id"
    assert ask_to_drain(database, "a2", actor=ACTOR) == "a"
    assert query(database, drained) == [("a2",)]
    (first,) = query(database, "SELECT drain_requested_at FROM sched_workers WHERE id = 'a2'")
    assert ask_to_drain(database, "a", actor=ACTOR) == "a"
    assert query(database, drained) == [("a1",), ("a2",)]
    assert query(database, "SELECT drain_requested_at FROM sched_workers WHERE id = 'a2'") == [
        first
    ]
    assert [heartbeat(database, [each]) for each in present] == [True, True, False]
    assert audit(database)[0] == (ACTOR, "drain", "worker a", {"executors": ["a2"]})


def test_who_takes_no_jobs_cannot_be_drained(database: Database) -> None:
    heartbeat(database, [Presence("d1", "daemon", "d", 1, "running", Settings())])
    with pytest.raises(StateError, match="'d' is a daemon, which takes no jobs"):
        ask_to_drain(database, "d", actor=ACTOR)
    with pytest.raises(LookupError, match="no worker 'w' has been heard of"):
        ask_to_drain(database, "w", actor=ACTOR)
    assert audit(database) == []


def audit(database: Database) -> list[tuple[str, str, str, Any]]:
    statement = text(
        "SELECT actor, action, target, CAST(detail AS text) AS detail FROM sched_audit ORDER BY id"
    )
    with database.snapshot() as connection:
        rows = connection.execute(statement).all()
    return [
        (row.actor, row.action, row.target, None if row.detail is None else json.loads(row.detail))
        for row in rows
    ]


def claim_all(database: Database) -> tuple[list[int], str]:
    lock_token = new_token()
    claimant = Claimant("w", "worker", timedelta(seconds=30))

    def work(connection: Any) -> list[int]:
        lanes = find_lanes(database, connection, Band())
        return [job.id for job in claim(database, connection, lanes, 100, claimant, lock_token)]

    return database.write(work), lock_token
