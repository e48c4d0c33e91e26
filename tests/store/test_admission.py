"""The gate in the database: who is let through, who waits, and that no guard is ever held twice."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from cronqueue import operations, prune, rescue
from cronqueue.admission import Admission, admit, find_waiting, is_due, seconds_until_due
from cronqueue.database import Database
from cronqueue.finish import hold_unknown, release
from cronqueue.retry import Verdict
from cronqueue.wakeup import heard_here
from cronsched.options import CatchUp, Overlap
from job_rows import (
    add,
    add_occurrence,
    all_jobs,
    at,
    claim_due,
    execute,
    get,
    hand_in,
    ids,
    opened,
    pass_time,
    verdicts,
)
from statement_cost import measured

AGAIN = Verdict("queued", delay=60.0, error="boom", attempt_outcome="failed")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


def declare(
    database: Database, overlap: Overlap = "skip", catch_up: CatchUp = "latest", name: str = "s"
) -> None:
    """A schedule's row, as far as the gate reads it."""
    definition = (
        f'{{"overlap": "{overlap}", "catch_up": "{catch_up}", "catch_up_window": 86400,'
        ' "catch_up_limit": 100, "misfire_after": 60}'
    )
    execute(
        database,
        "INSERT INTO sched_schedules (name, source, definition, fingerprint, timing_hash, payload_hash, tz,"
        " valid_from, materialized_until, refill_at, created_at, updated_at)"
        " VALUES (:name, 'a.py', :definition, '', '', '', 'UTC', :at, :at, :at, :at, :at)",
        name=name,
        definition=definition,
        at=database.moment(at(0)),
    )


def occurrence(database: Database, ago: float = 1.0, **values: Any) -> int:
    """An occurrence of "s" that came due some minutes ago."""
    moment = at(-60 * ago)
    return add_occurrence(
        database, **{"planned_for": moment, "run_at": moment, "guard": "s", "gated": True} | values
    )


def test_what_is_gated_is_claimed_only_after_it_was_admitted(database: Database) -> None:
    declare(database)
    job_id = occurrence(database)
    assert claim_due(database) == []
    assert admit(database).ruling.admitted == (job_id,)
    assert (get(database, job_id).gated, get(database, job_id).slot) == (False, 0)
    assert ids(claim_due(database)) == [job_id]
    assert get(database, job_id).slot == 0


def test_the_end_of_a_job_frees_its_guard(database: Database) -> None:
    declare(database)
    occurrence(database, 3)
    admit(database)
    (running,) = claim_due(database)
    later = occurrence(database, 2)
    assert admit(database).ruling.ended[0].reason == f"skipped:overlap:{running.id}"
    hand_in(database, running)
    assert get(database, running.id).slot is None
    newest = occurrence(database, 1)
    assert admit(database).ruling.admitted == (newest,)
    assert verdicts(database) == ["succeeded", f"skipped:overlap:{running.id}", "queued"]
    job = get(database, later)
    assert (job.state, job.reason, job.gated) == ("skipped", f"skipped:overlap:{running.id}", False)


def test_late_ones_are_coalesced_with_a_verdict_each(database: Database) -> None:
    declare(database)
    first, second, third = (occurrence(database, ago) for ago in (3, 2, 1))
    admit(database)
    assert verdicts(database) == [f"coalesced:{third}", f"coalesced:{third}", "queued"]
    assert [job.state for job in all_jobs(database)] == ["skipped", "skipped", "queued"]
    assert [first, second] < [third]


def test_one_that_waits_is_admitted_when_its_guard_is_freed(database: Database) -> None:
    declare(database, "queue_one")
    occurrence(database, 3)
    admit(database)
    (running,) = claim_due(database)
    waiter = occurrence(database, 2)
    admit(database)
    assert (get(database, waiter).state, get(database, waiter).held_reason) == ("held", "overlap")
    assert claim_due(database) == []
    with database.snapshot() as connection:
        assert find_waiting(database, connection, {"s", "other"}) == {"s"}
        assert not is_due(database, connection, ())
    hand_in(database, running)
    with database.snapshot() as connection:
        assert is_due(database, connection, ())
    assert admit(database, freed=["s"]).ruling.admitted == (waiter,)
    assert (get(database, waiter).state, get(database, waiter).held_reason) == ("queued", None)
    assert ids(claim_due(database)) == [waiter]


def test_a_guard_that_a_dead_worker_held_is_found_free_by_a_look(database: Database) -> None:
    declare(database, "queue_one")
    occurrence(database, 3)
    admit(database)
    (lost,) = claim_due(database)
    waiter = occurrence(database, 2)
    admit(database)
    pass_time(database, 31)
    rescue.rescue(database)
    assert get(database, lost.id).slot is None
    assert get(database, lost.id).gated
    assert admit(database).ruling.admitted == (waiter,)


def test_a_retry_passes_the_gate_again(database: Database) -> None:
    declare(database)
    occurrence(database, 3)
    admit(database)
    (failed,) = claim_due(database)
    hand_in(database, failed, AGAIN)
    assert (get(database, failed.id).gated, get(database, failed.id).slot) == (True, None)
    newer = occurrence(database, 1)
    assert admit(database).ruling.admitted == (newer,), "a retry in back-off blocks nobody"
    assert get(database, failed.id).reason == f"superseded:{newer}"
    assert verdicts(database) == [f"superseded:{newer}", "queued"]


def test_a_due_retry_waits_while_another_runs(database: Database) -> None:
    declare(database, "skip", "all")
    occurrence(database, 3)
    admit(database)
    (failed,) = claim_due(database)
    hand_in(database, failed, AGAIN)
    occurrence(database, 1)
    admit(database)
    (running,) = claim_due(database)
    pass_time(database, 61)
    assert admit(database).ruling.waiting == (failed.id,)
    hand_in(database, running)
    assert admit(database, freed=["s"]).ruling.admitted == (failed.id,)


def test_a_claim_that_goes_back_unstarted_keeps_its_guard(database: Database) -> None:
    declare(database)
    occurrence(database)
    admit(database)
    (claimed,) = claim_due(database)
    database.write(lambda c: release(database, c, claimed.lock_token, [claimed.id]))
    assert get(database, claimed.id).slot == 0
    assert ids(claim_due(database)) == [claimed.id]


def test_an_unknown_task_gives_up_its_guard_and_is_let_through_for_a_worker_that_knows_it(
    database: Database,
) -> None:
    declare(database)
    job_id = occurrence(database, task="rare")
    admit(database)
    (claimed,) = claim_due(database)
    database.write(lambda c: hold_unknown(database, c, claimed.lock_token, [claimed.id]))
    job = get(database, job_id)
    assert (job.held_reason, job.gated, job.slot) == ("unknown_task", True, None)
    assert admit(database, known_tasks=["common"]).ruling.admitted == ()
    assert admit(database, known_tasks=["rare"]).ruling.admitted == (job_id,)
    job = get(database, job_id)
    assert (job.state, job.gated, job.slot) == ("held", False, 0), "for those who know it only"


@pytest.mark.parametrize(
    "verdict", [AGAIN, Verdict("queued", delay=60.0, reason="snoozed", refund=True)]
)
def test_a_retry_whose_task_is_unknown_to_a_worker_is_still_a_retry(
    database: Database, verdict: Verdict
) -> None:
    declare(database, "skip", "none")
    occurrence(database)
    admit(database)
    (started,) = claim_due(database)
    hand_in(database, started, verdict)
    pass_time(database, 61)
    admit(database)
    (claimed,) = claim_due(database)
    database.write(lambda c: hold_unknown(database, c, claimed.lock_token, [claimed.id]))
    pass_time(database, 61)
    assert admit(database, known_tasks=["t"]).ruling.admitted == (started.id,), "never missed:late"


def test_one_that_waited_ends_the_retry_of_an_older_one(database: Database) -> None:
    declare(database, "queue_one")
    older = occurrence(database, 3)
    admit(database)
    (running,) = claim_due(database)
    waiter = occurrence(database, 2)
    admit(database)
    hand_in(database, running, AGAIN)
    assert admit(database, freed=["s"]).ruling.admitted == (waiter,)
    assert get(database, older).reason == f"superseded:{waiter}"


@pytest.mark.parametrize("waits", [False, True])
def test_one_that_is_put_off_by_hand_holds_no_guard_until_then(
    database: Database, waits: bool
) -> None:
    declare(database, "queue_one")
    job_id = occurrence(database, 3)
    admit(database)
    if waits:
        (running,) = claim_due(database)
        job_id = occurrence(database, 2)
        admit(database)
    operations.edit_job(database, job_id, operations.Edit(run_at=at(3600)), actor="ann")
    job = get(database, job_id)
    assert (job.state, job.held_reason, job.gated, job.slot) == ("queued", None, True, None)
    if waits:
        hand_in(database, running)
    newer = occurrence(database, 1)
    assert admit(database, freed=["s"]).ruling.admitted == (newer,)
    pass_time(database, 3601)
    assert admit(database).ruling.waiting == (job_id,)


def test_an_edit_that_moves_nothing_leaves_the_guard(database: Database) -> None:
    declare(database)
    job_id = occurrence(database)
    admit(database)
    operations.edit_job(database, job_id, operations.Edit(priority=5), actor="ann")
    assert (get(database, job_id).gated, get(database, job_id).slot) == (False, 0)


def test_run_now_and_an_operators_retry_wait_for_the_guard(database: Database) -> None:
    declare(database)
    occurrence(database, 3)
    admit(database)
    (running,) = claim_due(database)
    tomorrow = occurrence(database, -1440)
    skipped = occurrence(database, 2)
    admit(database)
    operations.run_now(database, tomorrow, actor="ann")
    operations.retry_job(database, skipped, actor="ann")
    assert set(admit(database).ruling.waiting) == {tomorrow, skipped}
    hand_in(database, running)
    assert len(admit(database, freed=["s"]).ruling.admitted) == 1


def test_cancel_running_asks_the_holder_to_stop(database: Database) -> None:
    declare(database, "cancel_running")
    occurrence(database, 3)
    admit(database)
    (running,) = claim_due(database)
    waiter = occurrence(database, 1)
    admit(database)
    assert get(database, running.id).cancel_requested_at == at(0)
    assert get(database, waiter).held_reason == "overlap"


def test_what_is_not_worth_starting_any_more_is_not_admitted(database: Database) -> None:
    declare(database)
    job_id = occurrence(database, 3, expires_at=at(-1))
    fresh = occurrence(database, 5)
    assert admit(database).ruling.admitted == (fresh,)
    assert get(database, job_id).gated


def test_an_admitted_one_that_is_not_worth_starting_any_more_is_in_nobodys_way(
    database: Database,
) -> None:
    declare(database)
    too_late = occurrence(database, 3, expires_at=at(60))
    admit(database)
    pass_time(database, 60)
    newest = occurrence(database, 0)
    assert admit(database).ruling.admitted == (newest,)
    prune.expire(database)
    assert verdicts(database) == ["missed:deadline", "queued"]
    assert get(database, too_late).slot is None


def test_after_an_outage_what_is_due_now_does_not_wait_for_all_that_is_late(
    database: Database,
) -> None:
    late = [occurrence(database, 60, guard=name, schedule=name) for name in "abcde"]
    pressing = occurrence(database, 60, guard="f", schedule="f", expires_at=at(600))
    live = add(database, run_at=at(-1))
    admit(database)
    assert [each.id for each in claim_due(database, 9)] == [pressing, live, late[0]]
    pass_time(database, 60)
    assert [each.id for each in claim_due(database, 9)] == late[1:]


def test_a_gate_without_a_guard_is_opened(database: Database) -> None:
    job_id = add(database, gated=True)
    admit(database)
    assert ids(claim_due(database)) == [job_id]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_guard_that_cannot_be_asked_for_is_mended_and_stops_nobody(database: Database) -> None:
    waiting = add(database, state="held", held_reason="overlap", guard="a\0b")
    gated = add(database, gated=True, guard="\0")
    other = add(database)
    admit(database)
    assert sorted(ids(claim_due(database))) == [waiting, gated, other]


def test_a_definition_that_cannot_be_read_stops_nobody(database: Database) -> None:
    declare(database, name="t")
    execute(database, "UPDATE sched_schedules SET definition = '{'")
    other = occurrence(database, schedule="t", guard="t")
    first = occurrence(database, 2)
    assert set(admit(database).ruling.admitted) == {first, other}


def test_nobody_can_hold_a_guard_twice(database: Database) -> None:
    add(database, guard="s", slot=0)
    with pytest.raises(IntegrityError):
        add(database, guard="s", slot=0)


def test_the_gate_says_when_it_has_something_to_do(database: Database) -> None:
    declare(database)

    def due_in(*known: str) -> float | None:
        with database.snapshot() as connection:
            return seconds_until_due(database, connection, known)

    assert due_in() is None
    occurrence(database, -1)
    assert due_in() == 60.0
    pass_time(database, 60)
    assert due_in() == 0.0


def test_a_full_batch_says_that_there_is_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronqueue.admission.BATCH", 2)
    for number in range(3):
        declare(database, name=f"s{number}")
        occurrence(database, 3 - number, schedule=f"s{number}", guard=f"s{number}")
    assert admit(database).more
    assert not admit(database).more
    assert len([job for job in all_jobs(database) if job.slot == 0]) == 3


def test_a_guard_that_somebody_else_is_at_is_left_to_them(postgres_url: str) -> None:
    for database in opened(postgres_url):
        declare(database)
        job_id = occurrence(database)
        execute(database, "INSERT INTO sched_guards (key) VALUES ('s')")
        with database.begin() as somebody:
            somebody.exec_driver_sql("SELECT key FROM sched_guards WHERE key = 's' FOR UPDATE")
            assert admit(database, freed=["s"]) == Admission(busy=frozenset({"s"}))
        assert admit(database).ruling.admitted == (job_id,)


def test_a_full_batch_at_which_somebody_else_is_keeps_nobody(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cronqueue.admission.BATCH", 1)
    for database in opened(postgres_url):
        declare(database)
        occurrence(database)
        execute(database, "INSERT INTO sched_guards (key) VALUES ('s')")
        with database.begin() as somebody:
            somebody.exec_driver_sql("SELECT key FROM sched_guards WHERE key = 's' FOR UPDATE")
            assert admit(database) == Admission(crowded=True)
        assert admit(database).more


def test_jobs_that_are_let_through_together_are_made_known_to_other_workers(
    database: Database,
) -> None:
    hints: list[str] = []
    with heard_here(lambda: hints.append("jobs")):
        occurrence(database, guard="a")
        admit(database)
        assert hints == []
        for guard in ("b", "c"):
            occurrence(database, 2, guard=guard, schedule=guard)
        admit(database)
    assert hints == ["jobs"]


def test_guards_are_looked_up_in_a_set_however_many_are_due(postgres_url: str) -> None:
    for database in opened(postgres_url):
        occurrence(database)
        with measured(database) as cost:
            admit(database)
        assert "hashed SubPlan" in str(cost)


def test_an_admitted_job_that_is_being_claimed_counts_as_running(postgres_url: str) -> None:
    for database in opened(postgres_url):
        declare(database)
        first = occurrence(database, 2)
        admit(database)
        second = occurrence(database, 1)
        with database.begin() as claiming:
            claiming.exec_driver_sql(f"SELECT id FROM sched_jobs WHERE id = {first} FOR UPDATE")
            (ended,) = admit(database).ruling.ended
        assert (ended.id, ended.reason) == (second, f"skipped:overlap:{first}")


def test_an_operator_at_a_due_job_is_not_waited_for(postgres_url: str) -> None:
    for database in opened(postgres_url):
        declare(database)
        occurrence(database)
        with database.begin() as operator:
            operator.exec_driver_sql("SELECT id FROM sched_jobs FOR UPDATE")
            assert admit(database).ruling.admitted == ()
        assert len(admit(database).ruling.admitted) == 1
