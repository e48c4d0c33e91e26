"""The ledger keeps its lines for a while, and counts them afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from cronqueue.columns import Instant
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched import retention
from cronsched.backfill import backfill
from cronsched.definition import Definition
from cronsched.ledger_audit import audit
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.retention import forget_retired, prune_ledger
from cronsched.triggers import Cron, Every
from job_rows import NOW, add, execute, opened, pass_time, query

SETTINGS = Settings()
DAY = timedelta(days=1)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)
MINUTELY = Definition("s", "t", Every(60), source="a.py")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


def declare(database: Database, *made: Definition) -> None:
    apply(database, make_manifest(made), SETTINGS, allow_removals=True)


def known(database: Database, made: Definition, since: timedelta) -> None:
    """Stands in the database since then, and has nothing to come."""
    declare(database, made)
    execute(database, "DELETE FROM sched_occurrences")
    execute(database, "DELETE FROM sched_jobs")
    execute(database, "DELETE FROM sched_revisions")
    moments = {"name": made.name, "definition": made.to_json()}
    moments |= {"since": database.moment(NOW - since), "now": database.moment(NOW)}
    execute(
        database, "UPDATE sched_schedules SET materialized_until = :now", now=moments.pop("now")
    )
    execute(
        database,
        "INSERT INTO sched_revisions (schedule, revision, definition, kind, valid_from)"
        " VALUES (:name, 1, :definition, 'added', :since)",
        **moments,
    )


def occurred(
    database: Database,
    moments: list[datetime],
    verdict: str | None = "succeeded",
    schedule: str = "s",
) -> None:
    rows = [
        {"schedule": schedule, "planned_for": database.moment(each), "verdict": verdict}
        for each in moments
    ]
    statement = (
        "INSERT INTO sched_occurrences (schedule, planned_for, verdict)"
        " VALUES (:schedule, :planned_for, :verdict)"
    )
    with database.begin() as connection:
        connection.execute(text(statement), rows)


def left(database: Database) -> list[datetime]:
    statement = text("SELECT planned_for FROM sched_occurrences ORDER BY planned_for")
    with database.snapshot() as connection:
        return list(connection.execute(statement.columns(planned_for=Instant())).scalars())


def ranges(database: Database) -> list[tuple[datetime, datetime, str, int]]:
    statement = text(
        "SELECT starts_at, ends_at, verdict, count FROM sched_occurrence_ranges ORDER BY starts_at, verdict"
    ).columns(starts_at=Instant(), ends_at=Instant())
    with database.snapshot() as connection:
        return [tuple(row) for row in connection.execute(statement)]


def test_old_occurrences_are_counted_by_hour_and_verdict(database: Database) -> None:
    known(database, MINUTELY, 100 * DAY)
    old = HOUR - 91 * DAY
    occurred(database, [old + timedelta(minutes=each) for each in range(40)])
    occurred(database, [old + timedelta(minutes=40)], "coalesced:12")
    occurred(database, [old + timedelta(minutes=41)], "coalesced:13")
    occurred(database, [old + timedelta(minutes=42)], "skipped:overlap:7")
    occurred(database, [old + timedelta(minutes=60)], "missed:late")
    occurred(database, young := [HOUR - 90 * DAY, HOUR - DAY])
    assert prune_ledger(database, SETTINGS) == 44
    hour = timedelta(hours=1)
    assert ranges(database) == [
        (old, old + hour, "coalesced", 2),
        (old, old + hour, "skipped:overlap", 1),
        (old, old + hour, "succeeded", 40),
        (old + hour, old + 2 * hour, "missed:late", 1),
    ]
    assert left(database) == young
    assert prune_ledger(database, SETTINGS) == 0


def test_an_occurrence_stays_as_long_as_its_job_and_is_added_to_its_hour_later(
    database: Database,
) -> None:
    known(database, MINUTELY, 100 * DAY)
    old = HOUR - 91 * DAY
    occurred(database, [old, old + timedelta(minutes=1)])
    job_id = add(database, schedule="s", planned_for=old, state="failed", finished_at=old)
    execute(
        database,
        "UPDATE sched_occurrences SET job_id = :id, verdict = NULL WHERE planned_for = :old",
        id=job_id,
        old=database.moment(old),
    )
    assert prune_ledger(database, SETTINGS) == 1
    assert left(database) == [old]
    execute(database, "DELETE FROM sched_jobs")
    execute(database, "UPDATE sched_occurrences SET verdict = 'succeeded'")
    assert prune_ledger(database, SETTINGS) == 1
    assert [count for *_, count in ranges(database)] == [2]


@pytest.mark.parametrize(
    ("trigger", "kept"),
    [
        (Every(59), 2),
        (Cron("*/10 * 9-17 * * *"), 2),
        (Every(60), 90),
        (Cron("0,1 0 9 * * *"), 90),
    ],
    ids=["seconds", "seconds of the day", "minutes", "two a day"],
)
def test_schedules_below_a_minute_are_kept_for_two_days(
    database: Database, trigger: Every | Cron, kept: int
) -> None:
    known(database, replace(MINUTELY, trigger=trigger), 100 * DAY)
    occurred(database, [HOUR - days * DAY for days in range(120)])
    prune_ledger(database, SETTINGS)
    assert len(left(database)) == kept + 1


def test_the_setting_says_for_how_long(database: Database) -> None:
    known(database, MINUTELY, 100 * DAY)
    occurred(database, [HOUR - days * DAY for days in range(120)])
    prune_ledger(database, Settings(keep_occurrences=timedelta(days=7)))
    assert len(left(database)) == 8


def test_the_audit_takes_what_is_counted_as_decided(database: Database) -> None:
    known(database, MINUTELY, 92 * DAY)
    start = HOUR - 91 * DAY
    occurred(database, [start + timedelta(minutes=each) for each in range(180)])
    assert prune_ledger(database, SETTINGS) == 180
    assert audit(database, start, start + timedelta(hours=3)).findings == ()
    beyond = audit(database, start, start + timedelta(hours=3, minutes=1)).findings
    assert [(each.kind, each.planned_for) for each in beyond] == [
        ("missing", start + timedelta(hours=3))
    ]


def test_a_backfill_leaves_alone_what_is_counted(database: Database) -> None:
    known(database, MINUTELY, 92 * DAY)
    start = HOUR - 91 * DAY
    occurred(database, [start + timedelta(minutes=each) for each in range(60)])
    prune_ledger(database, SETTINGS)
    told = backfill(
        database, "s", start, start + timedelta(minutes=63), SETTINGS, actor="ann", dry_run=True
    )
    assert (len(told.holes), told.left_alone) == (3, 60)


def test_passes_at_once_count_each_occurrence_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 100)
    known(database, MINUTELY, 100 * DAY)
    occurred(database, [HOUR - 95 * DAY + timedelta(minutes=each) for each in range(2000)])
    together = threading.Barrier(4)

    def work() -> int:
        together.wait()
        total = 0
        while done := prune_ledger(database, SETTINGS):
            total += done
        return total

    with ThreadPoolExecutor(4) as pool:
        done = sum(each.result() for each in [pool.submit(work) for _ in range(4)])
    while more := prune_ledger(database, SETTINGS):
        done += more
    assert done == 2000
    assert sum(count for *_, count in ranges(database)) == 2000
    assert left(database) == []


def test_a_retired_schedule_goes_when_nothing_is_left_of_it(database: Database) -> None:
    declare(database, MINUTELY, replace(MINUTELY, name="other"))
    declare(database, replace(MINUTELY, name="other"))
    pass_time(database, 15 * DAY.total_seconds())
    assert forget_retired(database) == 0, "the ledger has lines of it"
    execute(database, "DELETE FROM sched_occurrences WHERE schedule = 's'")
    assert forget_retired(database) == 1
    for table, column in (("sched_schedules", "name"), ("sched_revisions", "schedule")):
        names = query(database, f"SELECT {column} FROM {table} WHERE {column} = 's'")
        assert names == []
    assert query(database, "SELECT name FROM sched_schedules") == [("other",)]


def test_a_retired_schedule_stays_for_two_weeks(database: Database) -> None:
    declare(database, MINUTELY, replace(MINUTELY, name="other"))
    declare(database, replace(MINUTELY, name="other"))
    execute(database, "DELETE FROM sched_occurrences WHERE schedule = 's'")
    pass_time(database, 13 * DAY.total_seconds())
    assert forget_retired(database) == 0
    pass_time(database, 1 * DAY.total_seconds() + 1)
    assert forget_retired(database) == 1
