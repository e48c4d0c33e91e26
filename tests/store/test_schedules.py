"""Schedules in the database: written ahead, topped up, changed, taken away, brought back."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cronqueue.clock import ManualClock
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.daemon import Daemon, DaemonOptions
from cronsched.loader import load
from cronsched.materializer import top_up
from cronsched.reconcile import apply, plan
from cronsched.schedule_queries import list_schedules, next_occurrences, trigger
from job_rows import execute, query

SETTINGS = Settings()
HOURLY = """
from cronsched import hourly
@hourly(minute={minute}, priority={priority}, name="h")
def tick(): ...
"""
MANY = """
from cronsched import daily, schedule
from cronqueue import job
@job
def work(): ...
for number in range({count}):
    schedule(work, daily(at="03:30"), name=f"many.{{number:02}}")
"""

EACH_MINUTE = """
from cronsched import cron, schedule
from cronqueue import job
@job
def work(): ...
for number in range({count}):
    schedule(work, cron("* * * * *"), name=f"busy.{{number:02}}")
"""

Files = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Write the files of a schedules folder; None takes one away."""
    folder = tmp_path / "files"
    folder.mkdir(mode=0o755)

    def write(**sources: str | None) -> Path:
        for name, text in sources.items():
            path = folder / f"{name}.py"
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
                path.chmod(0o644)
        return folder

    return write


def now() -> datetime:
    return datetime.now(UTC)


def states(database: Database, schedule: str = "h") -> dict[tuple[str, str | None], int]:
    statement = "SELECT state, reason, COUNT(*) FROM sched_jobs WHERE schedule = :name GROUP BY state, reason"
    return {
        (state, reason): count for state, reason, count in query(database, statement, name=schedule)
    }


def verdicts(database: Database) -> dict[str, int]:
    return dict(query(database, "SELECT verdict, COUNT(*) FROM sched_ledger GROUP BY verdict"))


def test_a_new_schedule_owes_nothing_from_before_it_was_known(
    database: Database, files: Files
) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=7))), SETTINGS)
    early = "SELECT count(*) FROM sched_occurrences WHERE planned_for <= "
    assert query(database, f"{early} (SELECT min(created_at) FROM sched_schedules)") == [(0,)]
    assert query(database, "SELECT count(*) FROM sched_occurrences") == [(24,)]


def test_a_new_schedule_is_written_for_its_horizon(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=7))), SETTINGS)
    rows = query(
        database,
        "SELECT j.state, j.priority, j.origin, j.gated, j.guard, j.slot, o.job_id = j.id FROM sched_jobs j"
        " JOIN sched_occurrences o ON o.schedule = j.schedule AND o.planned_for = j.planned_for",
    )
    assert len(rows) == 24
    assert {tuple(map(str, row)) for row in rows} <= {
        ("queued", "7", "schedule", yes, "h", "None", yes) for yes in ("1", "True")
    }


@pytest.mark.parametrize(
    ("trigger_text", "rows"), [('every("1s")', 600), ('monthly(day=1, at="00:00")', 2)]
)
def test_at_least_two_and_at_most_600_are_written(
    database: Database, files: Files, trigger_text: str, rows: int
) -> None:
    name = trigger_text.partition("(")[0]
    text = f"from cronsched import {name}\n@{trigger_text}\ndef tick(): ...\n"
    apply(database, load(files(a=text)), SETTINGS)
    assert query(database, "SELECT COUNT(*) FROM sched_jobs") == [(rows,)]


def test_the_same_files_again_change_nothing(database: Database, files: Files) -> None:
    folder = files(a=HOURLY.format(minute=5, priority=0))
    apply(database, load(folder), SETTINGS)
    assert apply(database, load(folder), SETTINGS).is_empty
    assert plan(database, load(folder), SETTINGS).is_empty
    assert states(database) == {("queued", None): 24}


def test_a_pass_tops_up_from_the_cursor_without_a_hole_or_a_double(
    database: Database, files: Files
) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    cursor = now() + timedelta(hours=20)
    moment = {"at": database.moment(cursor), "past": database.moment(now() - timedelta(seconds=1))}
    execute(database, "DELETE FROM sched_jobs WHERE planned_for > :at", at=moment["at"])
    execute(database, "DELETE FROM sched_occurrences WHERE planned_for > :at", at=moment["at"])
    execute(
        database, "UPDATE sched_schedules SET materialized_until = :at, refill_at = :past", **moment
    )
    top_up(database, SETTINGS)
    assert states(database) == {("queued", None): 24}
    assert top_up(database, SETTINGS).schedules == 0


def test_passes_that_come_too_late_again_and_again_miss_no_minute_of_many_schedules(
    database: Database, files: Files
) -> None:
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    clock = ManualClock(start)
    late = Database(database.url, clock=clock)
    settings = replace(SETTINGS, horizon=timedelta(minutes=2))
    apply(late, load(files(a=EACH_MINUTE.format(count=40))), settings)
    for seconds in (5, 55, 61, 119, 121, 600, 1, 240, 59, 90):
        clock.time += timedelta(seconds=seconds)
        top_up(late, settings)
    late.dispose()
    passed = (clock.time - start) // timedelta(minutes=1)
    due = {"now": database.moment(clock.time)}
    for table in ("sched_occurrences", "sched_jobs"):
        counted = query(
            database,
            f"SELECT schedule, COUNT(*), COUNT(DISTINCT planned_for) FROM {table}"
            " WHERE planned_for <= :now GROUP BY schedule",
            **due,
        )
        assert len(counted) == 40
        assert {row[1:] for row in counted} == {(passed, passed)}


def test_what_an_outage_left_out_is_written_late(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    execute(database, "DELETE FROM sched_jobs")
    execute(database, "DELETE FROM sched_occurrences")
    past = database.moment(now() - timedelta(hours=30))
    execute(
        database, "UPDATE sched_schedules SET materialized_until = :at, refill_at = :at", at=past
    )
    top_up(database, SETTINGS)
    assert states(database) == {("queued", None): 54}


def test_a_changed_time_cancels_what_it_no_longer_has(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    edited = load(files(a=HOURLY.format(minute=35, priority=0)))
    (effect,) = plan(database, edited, SETTINGS).effects
    assert (effect.kind, effect.added, effect.kept, effect.cancelled) == ("change", 24, 0, 24)
    apply(database, edited, SETTINGS)
    assert states(database) == {("queued", None): 24, ("cancelled", "superseded"): 24}
    assert verdicts(database) == {"queued": 24, "superseded": 24}
    assert query(database, "SELECT revision FROM sched_schedules") == [(2,)]


def test_an_edit_that_is_undone_brings_the_rows_back(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    ids = query(database, "SELECT id FROM sched_jobs ORDER BY id")
    apply(database, load(files(a=HOURLY.format(minute=35, priority=0))), SETTINGS)
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    assert query(database, "SELECT id FROM sched_jobs WHERE state = 'queued' ORDER BY id") == ids


def test_a_changed_priority_keeps_the_rows(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    before = query(database, "SELECT id, run_at FROM sched_jobs ORDER BY id")
    apply(database, load(files(a=HOURLY.format(minute=5, priority=9))), SETTINGS)
    assert query(database, "SELECT id, run_at FROM sched_jobs ORDER BY id") == before
    assert query(database, "SELECT DISTINCT priority FROM sched_jobs") == [(9,)]
    assert query(database, "SELECT revision FROM sched_schedules") == [(1,)]


def test_what_has_started_is_pinned_or_due_is_left_alone(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    first, second, third = [
        row[0] for row in query(database, "SELECT id FROM sched_jobs ORDER BY id LIMIT 3")
    ]
    running = "state = 'running', lock_token = 't', attempts = 1, locked_until = run_at"
    execute(database, f"UPDATE sched_jobs SET {running} WHERE id = :id", id=first)
    execute(database, "UPDATE sched_jobs SET attempts = 1 WHERE id = :id", id=second)
    execute(database, "UPDATE sched_jobs SET pinned = :yes WHERE id = :id", id=third, yes=True)
    apply(database, load(files(a=HOURLY.format(minute=35, priority=4))), SETTINGS)
    kept = query(
        database, "SELECT state, priority FROM sched_jobs WHERE id <= :id ORDER BY id", id=third
    )
    assert kept == [("running", 0), ("queued", 0), ("queued", 0)]


def test_a_removed_schedule_is_retired_and_may_come_back(database: Database, files: Files) -> None:
    text = HOURLY.format(minute=5, priority=0)
    apply(
        database,
        load(files(a=text, b="from cronsched import hourly\n@hourly\ndef other(): ...\n")),
        SETTINGS,
    )
    apply(database, load(files(a=None)), SETTINGS)
    assert states(database) == {("cancelled", "removed"): 24}
    assert [each.name for each in list_schedules(database)] == ["b.other"]
    apply(database, load(files(a=text)), SETTINGS)
    assert states(database) == {("queued", None): 24}


def test_a_faulty_file_removes_and_changes_nothing(database: Database, files: Files) -> None:
    good = "from cronsched import hourly\n@hourly\ndef other(): ...\n"
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0), b=good)), SETTINGS)
    faulty = HOURLY.format(minute=35, priority=0) + "\n@hourly(minute=99)\ndef bad(): ...\n"
    done = apply(
        database,
        load(files(a=faulty, b=good.replace("hourly\ndef", "hourly(minute=7)\ndef"))),
        SETTINGS,
    )
    assert [effect.name for effect in done.effects] == ["b.other"]
    assert states(database) == {("queued", None): 24}
    ((fault,),) = query(database, "SELECT fault FROM sched_sources WHERE name = 'a.py'")
    assert "a.py:6" in fault
    files(b="import nothing_of_this_name\n")
    assert apply(database, load(files(a=faulty)), SETTINGS).is_empty
    assert len(list_schedules(database)) == 2


def test_most_of_the_calendar_does_not_vanish_at_once(database: Database, files: Files) -> None:
    apply(database, load(files(a=MANY.format(count=12))), SETTINGS)
    done = apply(database, load(files(a=MANY.format(count=5))), SETTINGS)
    assert len(done.changes.kept) == 7
    assert "7 of 12" in str(done.changes.kept_because)
    assert len(list_schedules(database)) == 12
    apply(database, load(files(a="")), SETTINGS)
    assert len(list_schedules(database)) == 12
    apply(database, load(files(a="")), SETTINGS, allow_removals=True)
    assert list_schedules(database) == []


def test_a_stored_definition_that_cannot_be_computed_does_not_stop_the_others(
    database: Database, files: Files
) -> None:
    apply(database, load(files(a=MANY.format(count=2))), SETTINGS)
    past = database.moment(now() - timedelta(days=3))
    execute(
        database, "UPDATE sched_schedules SET refill_at = :at, materialized_until = :at", at=past
    )
    execute(database, "UPDATE sched_schedules SET definition = '{' WHERE name = 'many.00'")
    done = top_up(database, SETTINGS)
    assert done.schedules == 2
    assert [fault.split()[1] for fault in done.faults] == ["many.00"]
    assert done.jobs > 0


def test_a_paused_schedules_rows_are_written_held(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    at = database.moment(now())
    execute(database, "UPDATE sched_schedules SET paused_at = :at", at=at)
    apply(database, load(files(a=HOURLY.format(minute=35, priority=0))), SETTINGS)
    held = query(
        database, "SELECT COUNT(*) FROM sched_jobs WHERE state = 'held' AND held_reason = 'paused'"
    )
    assert held == [(24,)]


def test_jitter_moves_run_at_and_never_the_occurrence(database: Database, files: Files) -> None:
    text = 'from cronsched import hourly\n@hourly(jitter="10m")\ndef tick(): ...\n'
    apply(database, load(files(a=text)), SETTINGS)
    rows = query(database, "SELECT planned_for, run_at FROM sched_jobs")
    moments = [tuple(map(_moment, row)) for row in rows]
    assert all(planned.minute == 0 for planned, _ in moments)
    assert any(run_at > planned for planned, run_at in moments)
    assert all(run_at - planned <= timedelta(minutes=10) for planned, run_at in moments)


def test_a_schedule_is_triggered_outside_its_own_times(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=6))), SETTINGS)
    before = len(query(database, "SELECT 1 FROM sched_occurrences"))
    job_id = trigger(database, "h", SETTINGS, actor="test")
    found = query(
        database, "SELECT origin, priority, schedule FROM sched_jobs WHERE id = :id", id=job_id
    )
    assert found == [("manual", 6, "h")]
    assert len(query(database, "SELECT 1 FROM sched_occurrences")) == before
    with pytest.raises(LookupError, match="there is no schedule"):
        trigger(database, "nobody", SETTINGS, actor="test")


def test_next_agrees_with_what_is_written(database: Database, files: Files) -> None:
    apply(database, load(files(a=HOURLY.format(minute=5, priority=0))), SETTINGS)
    rows = query(database, "SELECT planned_for FROM sched_jobs ORDER BY planned_for LIMIT 5")
    found = [each.planned_for for each in next_occurrences(database, "h", 5)]
    assert found == [_moment(row[0]) for row in rows]


def test_three_daemons_at_once_write_each_occurrence_once(database: Database, files: Files) -> None:
    folder = files(a=MANY.format(count=20), b=HOURLY.format(minute=5, priority=0))
    daemons = [Daemon(database, DaemonOptions(SETTINGS, folder, f"d{n}")) for n in range(3)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda daemon: daemon.turn(0.0), daemons))
        past = database.moment(now() - timedelta(days=2))
        for _ in range(3):
            execute(
                database,
                "UPDATE sched_schedules SET materialized_until = :at, refill_at = :at",
                at=past,
            )
            list(threads.map(lambda daemon: top_up(database, SETTINGS), daemons))
    rows = query(database, "SELECT COUNT(*), COUNT(DISTINCT job_id) FROM sched_occurrences")
    jobs = query(database, "SELECT COUNT(*) FROM sched_jobs")
    assert rows[0][0] == rows[0][1] == jobs[0][0]
    assert query(database, "SELECT COUNT(*) FROM sched_ledger WHERE verdict <> 'queued'") == [(0,)]
    workers = query(database, "SELECT kind FROM sched_workers")
    assert workers == [("daemon",)] * 3


def test_a_daemon_applies_a_file_once_it_has_been_quiet(database: Database, files: Files) -> None:
    folder = files(a=HOURLY.format(minute=5, priority=0))
    daemon = Daemon(database, DaemonOptions(SETTINGS, folder))
    daemon.turn(100.0)
    files(a=HOURLY.format(minute=35, priority=0))
    daemon.turn(101.5)
    assert query(database, "SELECT revision FROM sched_schedules") == [(1,)]
    daemon.turn(104.0)
    assert query(database, "SELECT revision FROM sched_schedules") == [(2,)]


def test_a_daemon_notices_an_edited_calendar_file_too(database: Database, files: Files) -> None:
    event = "BEGIN:VEVENT\nDTSTART;VALUE=DATE:{day}\nEND:VEVENT\n"
    folder = files(a=EXCLUDING)
    (folder / "closed.ics").write_text(event.format(day="20300101"))
    daemon = Daemon(database, DaemonOptions(SETTINGS, folder))
    daemon.turn(100.0)
    tomorrow = now() + timedelta(days=1)
    (folder / "closed.ics").write_text(
        event.format(day=f"{tomorrow:%Y%m%d}") + event.format(day="20300101")
    )
    daemon.turn(101.5)
    daemon.turn(104.0)
    assert query(database, "SELECT revision FROM sched_schedules") == [(2,)]
    planned = query(database, "SELECT planned_for FROM sched_jobs WHERE state = 'queued'")
    assert tomorrow.date() not in {_moment(row[0]).date() for row in planned}


EXCLUDING = """
from cronsched import calendar, hourly

@hourly(name="h", exclude=calendar("closed", ical="closed.ics"))
def h() -> None: ...
"""


def _moment(value: Any) -> datetime:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.astimezone(UTC)


def test_a_definition_survives_the_database(database: Database, files: Files) -> None:
    manifest = load(files(a=HOURLY.format(minute=5, priority=0)))
    apply(database, manifest, SETTINGS)
    ((stored,),) = query(database, "SELECT definition FROM sched_schedules")
    assert json.loads(stored) == json.loads(manifest.schedules[0].to_json())
