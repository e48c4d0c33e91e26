"""The audit: what does not add up is found, of each kind; what somebody has decided is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from cronqueue.admission import admit
from cronqueue.database import Database
from cronqueue.models import Job
from cronqueue.prune import prune
from cronqueue.settings import Settings
from cronsched.backfill import backfill
from cronsched.definition import Definition
from cronsched.ledger_audit import audit
from cronsched.manifest import make_manifest
from cronsched.overrides import edit, move, skip
from cronsched.pausing import pause, resume
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from job_rows import (
    NOW,
    add,
    add_occurrence,
    all_jobs,
    at,
    claim_due,
    execute,
    hand_in,
    opened,
    pass_time,
)

HOUR = timedelta(hours=1)
# NOW is four minutes past three.
NEXT = NOW.replace(minute=5, second=0, microsecond=0)
DAY = timedelta(days=1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    for database in opened(database_url):
        declare(database, "5 * * * *")
        yield database


def declare(database: Database, cron: str) -> None:
    """Apply it, and keep what is in force until when."""
    made = Definition("s", "t", cron_trigger(cron), source="a.py")
    apply(database, make_manifest([made]), Settings())
    now = database.moment(database.server_now())
    # Whether or not the reconcile has kept them itself.
    execute(database, "DELETE FROM sched_revisions WHERE valid_from >= :now", now=now)
    execute(
        database, "UPDATE sched_revisions SET valid_until = :now WHERE valid_until IS NULL", now=now
    )
    execute(
        database,
        "INSERT INTO sched_revisions (schedule, revision, definition, kind, valid_from)"
        " SELECT name, revision, definition, 'changed', :now FROM sched_schedules",
        now=now,
    )


def found(database: Database) -> list[tuple[str, datetime]]:
    """Kind and time of what does not add up in the day before and after NOW."""
    done = audit(database, NOW - DAY, NOW + DAY)
    return [(each.kind, each.planned_for) for each in done.findings]


def job_id_of(database: Database, planned_for: datetime) -> int:
    (job_id,) = [job.id for job in all_jobs(database) if job.planned_for == planned_for]
    return job_id


def test_what_is_as_it_was_promised_adds_up(database: Database) -> None:
    assert audit(database, NOW - DAY, NOW + DAY).occurrences == 24
    assert found(database) == []
    pass_time(database, 3 * 3600)
    admit(database)
    hand_in(database, claim_due(database))
    assert found(database) == []


def test_only_the_given_stretch_is_looked_at(database: Database) -> None:
    execute(database, "DELETE FROM sched_occurrences")
    assert audit(database, NEXT, NEXT + HOUR).occurrences == 1
    assert audit(database, NEXT - DAY, NEXT).occurrences == 0


def test_an_occurrence_that_stands_nowhere_is_missing(database: Database) -> None:
    moment = database.moment(NEXT + HOUR)
    execute(database, "DELETE FROM sched_occurrences WHERE planned_for = :at", at=moment)
    assert found(database) == [("missing", NEXT + HOUR)]
    execute(
        database,
        "INSERT INTO sched_occurrence_ranges (schedule, starts_at, ends_at, verdict, count)"
        " VALUES ('s', :at, :end, 'missed:window', 1)",
        at=moment,
        end=database.moment(NEXT + 2 * HOUR),
    )
    assert found(database) == [], "it is among those that were counted instead"


def test_an_occurrence_that_nobody_promised_is_found(database: Database) -> None:
    add_occurrence(database, planned_for=NEXT + HOUR / 2, run_at=NEXT + HOUR / 2)
    assert found(database) == [("unpromised", NEXT + HOUR / 2)]


def test_a_job_that_a_program_deletes_by_its_session_is_lost(database: Database) -> None:
    with database.begin() as connection, Session(connection) as session:
        session.delete(session.get_one(Job, job_id_of(database, NEXT)))
        session.commit()
    assert found(database) == [("lost", NEXT)]


def test_jobs_that_somebody_deletes_by_hand_are_lost(database: Database) -> None:
    moment = database.moment(NEXT + 22 * HOUR)
    execute(database, "DELETE FROM sched_jobs WHERE planned_for >= :at", at=moment)
    assert found(database) == [("lost", NEXT + 22 * HOUR), ("lost", NEXT + 23 * HOUR)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sched_occurrences SET verdict = 'succeeded' WHERE planned_for = :at",
        "UPDATE sched_occurrences SET verdict = 'skipped:overlap:7' WHERE planned_for = :at",
        "UPDATE sched_occurrences SET verdict = 'nonsense' WHERE planned_for = :at",
    ],
)
def test_a_verdict_that_the_job_belies_is_found(database: Database, statement: str) -> None:
    execute(database, statement, at=database.moment(NEXT))
    assert found(database) == [("contradicted", NEXT)]


def test_a_job_that_somebody_revives_by_hand_contradicts_its_verdict(database: Database) -> None:
    skip(database, "s", NEXT, actor="ann")
    execute(
        database,
        "UPDATE sched_jobs SET state = 'queued', reason = NULL, finished_at = NULL WHERE state = 'skipped'",
    )
    assert found(database) == [("contradicted", NEXT)]


def test_two_unfinished_jobs_of_one_occurrence_are_found(database: Database) -> None:
    add(database, schedule="s", planned_for=NEXT, run_at=NEXT, origin="schedule")
    assert found(database) == [("doubled", NEXT)]


def test_what_operators_and_plans_decide_adds_up(database: Database) -> None:
    skip(database, "s", NEXT, actor="ann")
    move(database, "s", NEXT + HOUR, NEXT + 2 * HOUR, actor="ann")
    edit(database, "s", NEXT + 2 * HOUR, 9, actor="ann")
    skip(database, "s", NEXT + 9 * HOUR, actor="ann")
    assert found(database) == []
    pass_time(database, 1800)
    declare(database, "35 * * * *")
    assert found(database) == []
    pause(database, "s", actor="ann")
    pass_time(database, 4 * 3600)
    resume(database, "s", actor="ann")
    assert found(database) == []
    declare(database, "5 * * * *")
    assert found(database) == []


def test_what_is_filled_in_adds_up_even_when_its_jobs_are_pruned(database: Database) -> None:
    backfill(database, "s", NEXT - 3 * HOUR, NEXT, Settings(), actor="ann")
    assert found(database) == []
    for _ in range(3):
        admit(database)
        hand_in(database, claim_due(database))
    pass_time(database, 10 * 24 * 3600)
    prune(database, keep=DAY, keep_count=1000)
    assert [job for job in all_jobs(database) if job.origin == "backfill"] == []
    assert found(database) == []


def test_two_days_are_audited_apart(database: Database) -> None:
    execute(
        database, "DELETE FROM sched_jobs WHERE planned_for < :at", at=database.moment(at(7200))
    )
    assert len(audit(database, NOW, NEXT + HOUR).findings) == 1
    assert len(audit(database, NEXT + HOUR, NEXT + DAY).findings) == 1
