"""A site on each kind of database, and a browser that asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from cronsched.web import anybody, app
from job_rows import opened

SITE = "http://localhost"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


@pytest.fixture
def client(database: Database) -> TestClient:
    """A browser on this machine, where everybody may come in."""
    site = app(authenticate=anybody, settings=Settings(), database=database)
    return TestClient(site, base_url=SITE)


@pytest.fixture
def schedule(database: Database) -> str:
    """The name of a schedule that runs five minutes past each hour: in a minute."""
    return _declare(database)


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    """For what does not depend on the database."""
    yield from opened(sqlite_url)


@pytest.fixture
def sqlite_client(sqlite_database: Database) -> TestClient:
    site = app(authenticate=anybody, settings=Settings(), database=sqlite_database)
    return TestClient(site, base_url=SITE)


@pytest.fixture
def sqlite_schedule(sqlite_database: Database) -> str:
    """The same schedule there."""
    return _declare(sqlite_database)


def _declare(database: Database) -> str:
    made = Definition(
        "s", "t", cron_trigger("5 * * * *"), source="a.py", description="What it is for."
    )
    apply(database, make_manifest([made], [], []), Settings())
    return made.name
