"""What the database refuses of an exchange fails alone; everything else of it is done."""

from __future__ import annotations

from cronqueue.database import Database
from cronqueue.exchange import Request, exchange
from cronqueue.finish import Retention
from job_rows import add, claim_due, ended, execute, recorded_statements, states


def test_a_job_that_cannot_go_back_does_not_keep_others_from_it(database: Database) -> None:
    for _ in range(3):
        add(database)
    first, second, third = claim_due(database)
    # As a person may have set it: then there is no attempt to give back.
    execute(database, "UPDATE sched_jobs SET attempts = 0 WHERE id = :id", id=first.id)
    request = Request((ended(third),), ((first.lock_token, [first.id, second.id]),))
    with recorded_statements(database) as seen:
        reply = exchange(database, request, Retention())
    assert reply.ours == {third.id}
    assert states(database) == ["running", "queued", "succeeded"]
    assert len(seen) < 20


def test_a_release_of_all_that_a_claim_has_taken_may_be_refused(database: Database) -> None:
    (job,) = (add(database), claim_due(database))[1]
    execute(database, "UPDATE sched_jobs SET attempts = 0")
    assert exchange(database, Request((), ((job.lock_token, None),)), Retention()).ours == set()
    assert states(database) == ["running"]
