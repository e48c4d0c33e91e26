"""Migrations of what was written by earlier schemas."""

import json
from collections.abc import Iterator

import pytest
from alembic import command

from cronqueue import schema
from cronqueue.database import Database
from job_rows import execute, query


@pytest.fixture(params=["sqlite", "postgresql"])
def older(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with the first schema."""
    if request.param == "sqlite":
        url = f"sqlite:///{request.getfixturevalue('tmp_path') / 'old.db'}"
    else:
        url = request.getfixturevalue("empty_postgres_url")
    database = Database(url)
    _migrate(database, "0001")
    yield database
    database.dispose()


def test_occurrences_that_were_written_without_a_gate_get_theirs(older: Database) -> None:
    rules = {
        "alone": ("skip", None, "latest", 86400.0),
        "shared": ("queue_one", "both", "none", None),
        "freely": ("allow", None, "latest", None),
        "without": ("allow", None, "all", None),
    }
    for name, (overlap, key, catch_up, window) in rules.items():
        definition = {
            "overlap": overlap,
            "overlap_key": key,
            "catch_up": catch_up,
            "catch_up_window": window,
            "catch_up_limit": None,
        }
        moment = "2026-01-02T03:04:05.678000Z"
        execute(
            older,
            "INSERT INTO sched_schedules (name, source, definition, fingerprint, timing_hash, payload_hash,"
            " tz, valid_from, materialized_until, refill_at, created_at, updated_at)"
            " VALUES (:name, 'a.py', :definition, '', '', '', 'UTC', :at, :at, :at, :at, :at)",
            name=name,
            definition=json.dumps(definition),
            at=moment,
        )
        execute(
            older,
            "INSERT INTO sched_jobs (task, schedule, planned_for, origin)"
            " VALUES ('t', :name, :at, 'schedule')",
            name=name,
            at=moment,
        )
    execute(older, "INSERT INTO sched_jobs (task) VALUES ('t')")
    assert schema.upgrade(older).version == "0001"
    assert query(older, "SELECT guard, gated FROM sched_jobs ORDER BY id") == [
        ("alone", True),
        ("both", True),
        ("freely", True),
        (None, False),
        (None, False),
    ]


def _migrate(database: Database, version: str) -> None:
    with database.begin() as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.upgrade(config, version)
