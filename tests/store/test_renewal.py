"""Leases: which rows a renewal touches, and what it tells of our claims."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from cronqueue import operations, rescue
from cronqueue.database import Database
from cronqueue.lease import Renewal, look, renew
from job_rows import (
    LEASE,
    add,
    at,
    claim_due,
    claim_one,
    get,
    hand_in,
    ids,
    opened,
    pass_time,
    recorded_statements,
)

LEASE_SECONDS = LEASE.total_seconds()
THIRD = LEASE_SECONDS / 3


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


def test_a_lease_younger_than_a_third_is_not_written(database: Database) -> None:
    claimed = claim_one(database)
    pass_time(database, THIRD)
    renewal = renew(database, [claimed.lock_token], LEASE)
    assert get(database, claimed.id).locked_until == at(LEASE_SECONDS)
    assert renewal.held == {claimed.lock_token: {claimed.id}}


def test_a_lease_past_a_third_is_renewed_to_its_full_length(database: Database) -> None:
    claimed = claim_one(database)
    pass_time(database, THIRD + 0.000001)
    before = get(database, claimed.id)
    renew(database, [claimed.lock_token], LEASE)
    job = get(database, claimed.id)
    assert job.locked_until == at(LEASE_SECONDS + THIRD + 0.000001)
    assert (job.locked_at, job.updated_at) == (before.locked_at, before.updated_at)


def test_a_job_of_any_length_keeps_its_lease(database: Database) -> None:
    claimed = claim_one(database)
    for _ in range(10):
        pass_time(database, THIRD + 1)
        renew(database, [claimed.lock_token], LEASE)
        assert rescue.rescue(database).ids == ()
    assert hand_in(database, claimed) == {claimed.id}


def test_only_the_named_claims_are_renewed(database: Database) -> None:
    mine, foreign = claim_one(database), claim_one(database)
    pass_time(database, THIRD + 1)
    renew(database, [mine.lock_token], LEASE)
    assert get(database, mine.id).locked_until == at(LEASE_SECONDS + THIRD + 1)
    assert get(database, foreign.id).locked_until == at(LEASE_SECONDS)


def test_a_lost_job_is_not_among_those_that_its_token_holds(database: Database) -> None:
    add(database)
    add(database)
    first, second = claim_due(database, lock_token="token")
    pass_time(database, LEASE_SECONDS + 1)
    rescue.rescue(database)
    pass_time(database, 1)  # a rescued job waits for up to half a second
    (again,) = claim_due(database, 1)
    assert again.id in (first.id, second.id)
    assert renew(database, ["token"], LEASE) == Renewal({"token": frozenset()}, frozenset())
    assert get(database, again.id).locked_until == at(2 * LEASE_SECONDS + 2)


def test_a_claim_that_never_happened_holds_nothing(database: Database) -> None:
    assert renew(database, ["never"], LEASE).held == {"never": frozenset()}


def test_a_finished_job_is_not_brought_back_by_a_renewal(database: Database) -> None:
    claimed = claim_one(database)
    hand_in(database, claimed)
    pass_time(database, THIRD + 1)
    renew(database, [claimed.lock_token], LEASE)
    job = get(database, claimed.id)
    assert (job.state, job.locked_until) == ("succeeded", None)


@pytest.mark.parametrize("renews", [True, False])
def test_a_cancel_is_heard_of_with_or_without_a_renewal(database: Database, renews: bool) -> None:
    add(database)
    add(database)
    jobs = claim_due(database, lock_token="token")
    operations.cancel_job(database, jobs[1].id, actor="ann")
    heard = renew(database, ["token"], LEASE) if renews else look(database, ["token"])
    assert heard == Renewal({"token": frozenset(ids(jobs))}, frozenset([jobs[1].id]))


def test_a_look_writes_nothing(database: Database) -> None:
    claimed = claim_one(database)
    pass_time(database, THIRD + 1)
    with recorded_statements(database) as seen:
        look(database, [claimed.lock_token])
    assert [sql for sql, _ in seen if not sql.strip().startswith(("SELECT", "BEGIN"))] == []
    assert get(database, claimed.id).locked_until == at(LEASE_SECONDS)


def test_a_row_that_is_being_finished_is_passed_over_and_still_held(postgres_url: str) -> None:
    for database in opened(postgres_url):
        add(database)
        add(database)
        first, second = claim_due(database, lock_token="token")
        pass_time(database, THIRD + 1)
        with database.begin() as finishing:
            finishing.execute(
                text("UPDATE sched_jobs SET reason = 'x' WHERE id = :id"), {"id": first.id}
            )
            held = renew(database, ["token"], LEASE).held["token"]
        assert held == {first.id, second.id}
        assert get(database, first.id).locked_until == at(LEASE_SECONDS)
        assert get(database, second.id).locked_until == at(LEASE_SECONDS + THIRD + 1)
