"""The roles of `sched db grants`: each can do its own work on PostgreSQL, and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from starlette.testclient import TestClient

from command import Project
from cronqueue import enqueue, job, schema
from cronqueue.clock import ManualClock
from cronqueue.database import Database
from cronqueue.errors import ConfigurationError
from cronqueue.grants import ROLES, statements
from cronqueue.models import Base
from cronqueue.prune import forget_requests
from cronqueue.queries import Filter, select_jobs
from cronqueue.requests import enqueue_once
from cronqueue.settings import Settings
from cronsched.web import anybody, app
from interleavings.moves import of_operators, of_schedules, of_workers
from interleavings.world import AT, World, faults, make_world
from job_rows import configured, execute, query

OWN = {
    "worker": of_workers,
    "daemon": of_schedules,
    "operator": of_operators,
}


@pytest.fixture
def world(postgres_url: str) -> Iterator[World]:
    """A database with something of everything, and the roles; they go with it."""
    clock = ManualClock(AT)
    database = Database(postgres_url, clock=clock)
    world = make_world(database, clock)
    for kind in ROLES:
        for statement in statements(kind, _role(database, kind)):
            execute(database, statement)
        # What the test itself counts with.
        execute(database, f'GRANT INSERT ON changes TO "{_role(database, kind)}"')
        execute(database, f'GRANT USAGE ON SEQUENCE changes_n_seq TO "{_role(database, kind)}"')
    yield world
    for kind in ROLES:
        name = _role(database, kind)
        execute(database, f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')
    database.dispose()


@contextmanager
def acting_as(world: World, kind: str) -> Iterator[Database]:
    """The database as a process of this role sees it."""
    database = Database(_url(world, kind), clock=world.clock)
    schema.require(database)
    yield database
    database.dispose()


def _url(world: World, kind: str) -> str:
    options = {"options": f"-c role={_role(world.database, kind)}"}
    return world.database.url.update_query_dict(options).render_as_string(hide_password=False)


def _role(database: Database, kind: str) -> str:
    """Roles belong to the whole server, tests to their own databases."""
    return f"{database.url.database}_{kind}"


@pytest.mark.parametrize("kind", OWN)
def test_a_role_can_do_all_of_its_work(world: World, kind: str) -> None:
    with acting_as(world, kind) as database:
        for name, move in OWN[kind](world).items():
            world.restore()
            move(database)
            assert list(faults(world, allows_deletion=True)) == [], name


def test_the_programs_run_under_their_roles(world: World, sqlite_project: Project) -> None:
    greet = ("enqueue", "tasks.greet", "--args", '["you"]')
    for kind, words in (
        ("daemon", ("daemon", "--once")),
        ("enqueuer", greet),
        ("worker", ("worker", "--burst")),
        ("reader", ("jobs", "list", "--state", "succeeded")),
        ("operator", ("queues", "pause", "mail")),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "cronsched.cli", *words],
            env=os.environ | {"SCHED_DATABASE_URL": _url(world, kind)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (kind, done.stderr)
        assert "permission denied" not in done.stderr
    ended = "SELECT state FROM sched_jobs WHERE task = 'tasks.greet'"
    assert query(world.database, ended) == [("succeeded",)]


@pytest.mark.parametrize("kind", ["reader", "operator"])
def test_the_web_shows_its_pages_under_its_roles(world: World, kind: str) -> None:
    paths = (
        "",
        "timeline",
        "jobs",
        "failures",
        "schedules",
        "queues",
        "workers",
        "audit",
        "readyz",
    )
    with acting_as(world, kind) as database:
        site = app(authenticate=anybody, database=database, settings=Settings())
        client = TestClient(site, base_url="http://localhost")
        answers = {path: client.get(f"/{path}").status_code for path in paths}
        metrics = client.get("/metrics").text
    assert set(answers.values()) == {200}, answers
    assert "sched_database_up 1\n" in metrics


def test_a_request_is_kept_by_the_web_and_forgotten_by_a_worker(world: World) -> None:
    @job(name="public")
    def public() -> None: ...

    with acting_as(world, "operator") as database:
        assert enqueue_once(database, "k", {}, public.call(), "ann")[2] is True
    with acting_as(world, "worker") as database:
        world.clock.time += timedelta(days=2)
        assert forget_requests(database, timedelta(days=1)) == 1


def test_an_enqueuer_enqueues_with_a_key_that_is_taken_too(world: World) -> None:
    with acting_as(world, "enqueuer") as database, configured(database):
        first = enqueue("work", ["secret"], key="mine")
        assert first.created
        again = enqueue("work", ["other"], key="mine")
        assert (again.id, again.created, again.state) == (first.id, False, "queued")


def test_an_enqueuer_does_no_more(world: World) -> None:
    for statement in (
        "SELECT args FROM sched_jobs",
        "SELECT result FROM sched_jobs",
        "SELECT last_error FROM sched_jobs",
        "SELECT * FROM sched_attempts",
        "SELECT * FROM sched_audit",
        "UPDATE sched_jobs SET priority = 9",
        "DELETE FROM sched_jobs",
    ):
        assert _is_refused(world, "enqueuer", statement), statement


def test_a_reader_sees_everything_and_changes_nothing(world: World) -> None:
    with acting_as(world, "reader") as database:
        assert len(select_jobs(database, Filter())) > 0
        query(database, "SELECT * FROM sched_ledger")
    for table in Base.metadata.tables:
        assert _is_refused(world, "reader", f"DELETE FROM {table}")
        assert _is_refused(world, "reader", f"INSERT INTO {table} SELECT * FROM {table}")


def test_no_role_changes_the_schema_or_what_the_audit_says(world: World) -> None:
    for statement in (
        "UPDATE sched_audit SET actor = 'somebody else'",
        "DELETE FROM sched_audit",
        "TRUNCATE sched_jobs",
        "DROP TABLE sched_jobs",
        "ALTER TABLE sched_jobs ADD COLUMN more int",
        "UPDATE sched_schema_version SET version_num = '9999'",
    ):
        for kind in ROLES:
            assert _is_refused(world, kind, statement), (kind, statement)


def test_a_role_does_not_do_the_work_of_another(world: World) -> None:
    for kind, statement in (
        ("worker", "UPDATE sched_manifests SET release = 1"),
        ("worker", "DELETE FROM sched_schedules"),
        ("worker", "DELETE FROM sched_overrides"),
        ("worker", "INSERT INTO sched_queues (name) VALUES ('q')"),
        ("daemon", "INSERT INTO sched_queues (name) VALUES ('q')"),
    ):
        assert _is_refused(world, kind, statement), (kind, statement)


def test_the_statements_can_be_run_again_and_take_back_what_was_too_much(world: World) -> None:
    name = _role(world.database, "reader")
    execute(world.database, f'GRANT ALL ON sched_jobs TO "{name}"')
    for statement in statements("reader", name):
        execute(world.database, statement)
    assert _is_refused(world, "reader", "DELETE FROM sched_jobs")


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no role 'root': enqueuer, worker"):
        list(statements("root"))


def test_a_name_stays_a_name() -> None:
    made = list(statements("reader", 'x"; DROP TABLE sched_jobs; --'))
    assert all('"x""; DROP TABLE sched_jobs; --"' in statement for statement in made)


def _is_refused(world: World, kind: str, statement: str) -> bool:
    with acting_as(world, kind) as database, database.autocommit() as connection:
        try:
            connection.execute(text(statement))
        except ProgrammingError as error:
            return getattr(error.orig, "sqlstate", "") == "42501"
    return False
