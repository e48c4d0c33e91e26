"""Failed jobs in groups, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from cronqueue.database import Database
from cronqueue.failuregroups import failures
from job_rows import NOW, add, opened

MINUTE = timedelta(minutes=1)

TRACEBACK = """Traceback (most recent call last):
  File "mail.py", line {line}, in send
    deliver()
    ~~~~~~~^^
smtplib.SMTPServerDisconnected: please run connect() first
"""


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    yield from opened(database_url)


def test_failures_are_grouped_by_task_and_by_what_was_raised(database: Database) -> None:
    for line in (1, 2):
        text = TRACEBACK.format(line=line)
        last = add(database, state="failed", last_error=text, failed_at=NOW + line * MINUTE)
    other = add(database, state="failed", last_error="worker a:1 lost", failed_at=NOW)
    add(database, last_error="it is being retried")
    first, second = failures(database)
    assert (first.task, first.count, first.example_id) == ("t", 2, last)
    assert first.error == "smtplib.SMTPServerDisconnected: please run connect() first"
    assert (first.first_at, first.last_at) == (NOW + MINUTE, NOW + 2 * MINUTE)
    assert (second.error, second.example_id) == ("worker a:1 lost", other)


def test_the_same_error_of_two_tasks_makes_two_groups(database: Database) -> None:
    add(database, state="failed", last_error="E: x", task="a.a")
    add(database, state="failed", last_error="E: x", task="b.b")
    assert [group.task for group in failures(database)] == ["a.a", "b.b"]


def test_a_group_tells_in_which_hours_its_jobs_failed(database: Database) -> None:
    present = NOW.replace(minute=0, second=0, microsecond=0)
    for line, hours in ((1, 0), (2, 0), (1, -2), (1, -23), (1, -24), (1, 1)):
        text, failed_at = TRACEBACK.format(line=line), present + timedelta(hours=hours)
        add(database, state="failed", last_error=text, failed_at=failed_at)
    (group,) = failures(database)
    assert group.by_hour == (1, *[0] * 20, 1, 0, 3)
    assert group.count == 6
