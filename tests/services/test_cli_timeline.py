"""`sched timeline` and `sched forecast`, as their users call them."""

from __future__ import annotations

import re
from datetime import timedelta

from command import Project
from cronqueue.database import Database
from job_rows import add, execute, now

DONE = {"task": "t", "state": "succeeded", "origin": "adhoc"}


def a_worker(database: Database, places: int) -> None:
    execute(
        database,
        "INSERT INTO sched_workers (id, kind, name, host, pid, version, state, concurrency, started_at,"
        " heartbeat_at) VALUES ('w', 'worker', 'w', 'h', 7, '1', 'running', :places, :now, :now)",
        places=places,
        now=database.moment(now()),
    )


def test_a_line_shows_what_ran_what_is_written_and_what_is_only_expected(
    project: Project, database: Database
) -> None:
    ended = now() - timedelta(hours=1)
    add(database, **DONE, run_at=ended, started_at=ended, finished_at=ended)
    add(database, task="t", run_at=now() + timedelta(hours=2))
    add(database, task="t", run_at=now() + timedelta(hours=3), state="held", held_reason="paused")
    project.run("daemon", "--once")

    (lane,) = [
        row
        for row in project.run("timeline", "--for", "30h").stdout.splitlines()
        if row.startswith("t ")
    ]
    assert [mark for mark in lane[:80] if mark in "#oxz."] == ["#", "o", "z"]
    refresh = next(
        row
        for row in project.run("timeline", "--for", "72h").stdout.splitlines()
        if "tasks.refresh" in row
    )
    assert "o." in refresh


def test_the_lines_of_one_queue_can_be_asked_for(project: Project, database: Database) -> None:
    add(database, task="t", queue="mail")
    add(database, task="u", queue="other")
    document = project.data("timeline", "--queue", "mail")
    assert [lane["name"] for lane in document["lanes"]] == ["t"]


def test_the_timeline_is_a_calendar_too(project: Project, database: Database) -> None:
    add(database, task="t", queue="mail", run_at=now() + timedelta(hours=2))
    project.run("daemon", "--once")
    printed = project.run("timeline", "--ics", "--queue", "mail").stdout
    assert printed.startswith("BEGIN:VCALENDAR")
    assert printed.count("BEGIN:VEVENT") == 1
    assert "UID:tasks.refresh-20" in project.run("timeline", "--ics").stdout
    assert "give one of them" in project.refused("timeline", "--ics", "--json")


def test_a_forecast_tells_whether_it_fits_and_how_late_it_will_be(
    project: Project, database: Database
) -> None:
    assert "no worker is running" in project.run("forecast").stdout
    a_worker(database, places=1)
    assert project.run("forecast").stdout.startswith("it fits: 1 place")
    assert project.data("forecast")["fits"] is True

    ended = now()
    add(database, **DONE, run_at=ended, started_at=ended - timedelta(hours=1), finished_at=ended)
    for _ in range(3):
        add(database, task="t", run_at=now() + timedelta(hours=1))
    told = project.run("forecast").stdout
    assert told.startswith("it does not fit into 1 place: jobs will be ")
    assert re.search(r"^CROWDED MINUTE +JOBS\n.* +3$", told, re.MULTILINE)
    assert project.data("forecast")["fits"] is False
