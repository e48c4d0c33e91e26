"""A PostgreSQL cluster that was made without a locale stores texts without knowing their encoding."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from cronqueue import configuration, schema
from cronqueue.database import Database
from cronqueue.enqueueing import enqueue
from cronqueue.models import Job
from postgres_server import PostgresServer


@pytest.fixture
def ascii_database(
    postgres_server: PostgresServer, postgres_admin: psycopg.Connection[tuple[Any, ...]]
) -> Iterator[Database]:
    name = sql.Identifier(f"sched_ascii_{uuid.uuid4().hex[:8]}")
    postgres_admin.execute(
        sql.SQL("CREATE DATABASE {} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0").format(
            name
        )
    )
    database = Database(postgres_server.url(name.as_string().strip('"')))
    yield database
    configuration.use_database(None)
    database.dispose()
    postgres_admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def test_texts_come_back_as_they_were_on_a_cluster_without_an_encoding(
    ascii_database: Database,
) -> None:
    schema.upgrade(ascii_database)
    configuration.use_database(ascii_database)
    job = enqueue("mail.welcome", args=["Grüße"], key="Schlüssel")
    found = Job.get(job.id)
    assert found is not None
    assert found.key == "Schlüssel"
