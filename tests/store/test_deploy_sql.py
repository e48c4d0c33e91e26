"""The SQL of deploy/ on a real PostgreSQL: accounts, the hot table, the query of the scaler."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from cronqueue import enqueue, schema
from cronqueue.database import Database
from cronqueue.grants import ROLES, statements
from deploy_files import FOLDER, documents
from job_rows import add, configured, execute, now, opened, query


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    yield from opened(postgres_url)


@pytest.fixture
def prefix(postgres: Database) -> Iterator[str]:
    """Roles and accounts with this prefix instead of sched_: they belong to the whole server."""
    prefix = f"{postgres.url.database}_"
    for kind in ROLES:
        for statement in statements(kind, prefix + kind):
            execute(postgres, statement)
    file = (FOLDER / "sql/accounts.sql").read_text()
    execute(postgres, re.sub(r"\bsched_(?=\w+ (?:LOGIN|SET)|\w+;)", prefix, file))
    yield prefix
    made = query(postgres, "SELECT rolname FROM pg_roles WHERE starts_with(rolname, :p)", p=prefix)
    for (role,) in made:
        execute(postgres, f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


def test_an_account_can_do_what_its_process_needs(postgres: Database, prefix: str) -> None:
    for account in ("app", "workers", "daemons", "people", "monitor"):
        url = postgres.url.set(username=prefix + account).render_as_string(hide_password=False)
        database = Database(url)
        schema.require(database)
        if account == "app":
            with configured(database):
                enqueue("tasks.quick")
        database.dispose()
    assert query(postgres, "SELECT task FROM sched_jobs") == [("tasks.quick",)]


def test_the_hot_table_can_be_put_back(postgres: Database) -> None:
    ask = "SELECT reloptions FROM pg_class WHERE relname = 'sched_jobs'"
    ((before,),) = query(postgres, ask)
    execute(postgres, "ALTER TABLE sched_jobs RESET (fillfactor, autovacuum_vacuum_cost_delay)")
    execute(postgres, (FOLDER / "sql/hot-table.sql").read_text())
    ((after,),) = query(postgres, ask)
    assert sorted(after) == sorted(before)


def test_the_scaler_counts_what_runs_and_what_is_due_soon(postgres: Database) -> None:
    scaler, _ = documents(FOLDER / "kubernetes/keda-scaledobject.yaml")
    asked = scaler["spec"]["triggers"][0]["metadata"]["query"]
    assert query(postgres, asked) == [(0,)]
    for minutes in (-5, 1, 3, 60):
        add(postgres, run_at=now() + timedelta(minutes=minutes))
    running = add(postgres, run_at=now())
    execute(
        postgres,
        "UPDATE sched_jobs SET state = 'running', lock_token = 't', locked_until = now() WHERE id = :id",
        id=running,
    )
    assert query(postgres, asked) == [(3,)]
