"""Stages for tests with real processes: on both databases, or on the one that matters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cronqueue import schema
from cronqueue.database import Database
from postgres_server import PostgresServer
from services import Stage, stage_in


@pytest.fixture
def stage(database_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage on each kind of database."""
    with stage_in(tmp_path, database_url) as stage:
        yield stage


@pytest.fixture
def sqlite_stage(sqlite_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage on SQLite, for what does not depend on the database."""
    with stage_in(tmp_path, sqlite_url) as stage:
        yield stage


@pytest.fixture
def postgres_stage(postgres_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage on PostgreSQL."""
    with stage_in(tmp_path, postgres_url) as stage:
        yield stage


@pytest.fixture
def stage_on_own_server(own_postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Stage]:
    """A stage on a PostgreSQL that the test may stop and start."""
    url = own_postgres_server.url()
    database = Database(url)
    schema.upgrade(database)
    database.dispose()
    with stage_in(tmp_path, url) as stage:
        yield stage
