"""The schema: made once however many make it, the same by every way, refused in one line otherwise."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.schema import CreateTable

from cronqueue import schema
from cronqueue.database import Database
from cronqueue.errors import SchemaMismatch
from cronqueue.models import LEDGER_VIEW, Base
from job_rows import execute, query

UPGRADE = """
import sys
from cronqueue import schema
from cronqueue.database import Database
print("ready", flush=True)
sys.stdin.readline()
getattr(schema, sys.argv[2])(Database(sys.argv[1]))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture
def empty(empty_url: str) -> Iterator[Database]:
    database = Database(empty_url)
    yield database
    database.dispose()


@pytest.fixture
def migrated(empty: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database of the same kind with our schema."""
    fixture = "postgres_url" if empty.is_postgresql else "sqlite_url"
    database = Database(request.getfixturevalue(fixture))
    yield database
    database.dispose()


def at_once(url: str, function: str, count: int = 4) -> list[str]:
    """Call a function of the schema in several processes at the same moment; what they complain of."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, url, function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=60)[1] for process in processes]


def catalog(database: Database) -> dict[str, Any]:
    """Everything that the database says of its tables, views and indexes."""
    if not database.is_postgresql:
        statement = (
            "SELECT type || ' ' || name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"
        )
        return {name: _spaced(sql) for name, sql in query(database, statement)}
    columns = query(
        database,
        "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity,"
        " ordinal_position FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 7",
    )
    indexes = query(
        database, "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    )
    constraints = query(
        database,
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace",
    )
    options = query(
        database, "SELECT relname, reloptions::text FROM pg_class WHERE relname ~ '^sched_'"
    )
    views = query(database, "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'")
    return {
        "columns": columns,
        **{f"index {name}": definition for name, definition in indexes},
        **{f"constraint {name}": definition for name, definition in constraints},
        **{f"options {name}": options for name, options in options},
        **{f"view {name}": definition for name, definition in views},
    }


def test_upgrades_at_once_all_succeed_and_one_of_them_migrates(
    empty_url: str, empty: Database
) -> None:
    assert at_once(empty_url, "upgrade") == [""] * 4
    versions = query(empty, f"SELECT version_num FROM {schema.VERSION_TABLE}")
    assert versions == [(schema.HEAD,)]
    assert schema.upgrade(empty).fit == "ok"


@pytest.mark.parametrize("content", [None, b""])
def test_an_absent_or_empty_file_gets_its_schema_from_whoever_comes_first(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "new.db"
    if content is not None:
        path.write_bytes(content)
    assert at_once(f"sqlite:///{path}", "require") == [""] * 4
    assert schema.current(Database(f"sqlite:///{path}")).fit == "ok"


def test_a_server_gets_its_schema_by_an_upgrade_only(empty_postgres_url: str) -> None:
    database = Database(empty_postgres_url)
    with pytest.raises(SchemaMismatch, match=r"has no tables yet: run `sched db upgrade`$"):
        schema.require(database)
    assert inspect(database.engine).get_table_names() == []
    assert schema.current(database) == schema.SchemaState(None, "empty")
    schema.upgrade(database)
    schema.require(database)
    database.dispose()


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        ("9999", r"has schema 9999, newer than \d+: upgrade cronqueue on this machine$"),
        ("0000", r"has schema 0000, this release needs \d+: run `sched db upgrade`$"),
        ("later", r"has schema later, newer than \d+: upgrade cronqueue on this machine$"),
    ],
)
def test_another_version_is_refused_in_one_line(
    database: Database, version: str, complaint: str
) -> None:
    execute(database, f"UPDATE {schema.VERSION_TABLE} SET version_num = :version", version=version)
    with pytest.raises(SchemaMismatch, match=complaint) as caught:
        schema.require(database)
    assert "\n" not in str(caught.value)
    with pytest.raises(SchemaMismatch):
        schema.upgrade(database)
    assert query(database, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [(version,)]


@pytest.mark.parametrize("made_by_hand", ["sched_jobs", "sched_workers"])
def test_tables_that_no_upgrade_has_made_are_left_alone(empty: Database, made_by_hand: str) -> None:
    execute(empty, f"CREATE TABLE {made_by_hand} (id integer PRIMARY KEY)")
    for use in (schema.require, schema.upgrade):
        with pytest.raises(SchemaMismatch, match=r"that no `sched db upgrade` has made: take them"):
            use(empty)
    assert inspect(empty.engine).get_table_names() == [made_by_hand]


def test_tables_of_others_are_no_hindrance(empty: Database) -> None:
    execute(empty, "CREATE TABLE sched_of_somebody_else (id integer PRIMARY KEY)")
    schema.upgrade(empty)
    schema.require(empty)


def test_an_upgrade_that_breaks_off_leaves_nothing_behind(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(empty, "CREATE TABLE sched_ledger (id integer PRIMARY KEY)")  # the view comes last
    with pytest.raises(Exception, match="sched_ledger"):
        schema.upgrade(empty)
    assert inspect(empty.engine).get_table_names() == ["sched_ledger"]
    execute(empty, "DROP TABLE sched_ledger")
    schema.upgrade(empty)


def test_what_db_sql_prints_makes_the_same_schema(empty: Database, migrated: Database) -> None:
    script = schema.sql(empty.dialect)
    connection = empty.engine.raw_connection()
    if empty.is_postgresql:
        connection.cursor().execute(script)  # type: ignore[arg-type, unused-ignore]
        connection.commit()
    else:
        connection.driver_connection.executescript(script)  # type: ignore[union-attr]
    connection.close()
    assert schema.current(empty).fit == "ok"
    assert catalog(empty) == catalog(migrated)


def test_the_models_and_the_migrations_are_the_same(empty: Database, migrated: Database) -> None:
    with empty.begin() as connection:
        Base.metadata.create_all(connection)
        connection.execute(text(LEDGER_VIEW))
    made, wanted = catalog(empty), catalog(migrated)
    ours = {name for name in wanted if schema.VERSION_TABLE not in name}
    assert made.keys() >= ours - {"columns"}
    for name in sorted(ours - {"columns"}):
        assert made[name] == wanted[name]
    if empty.is_postgresql:
        assert made["columns"] == [
            row for row in wanted["columns"] if row[0] != schema.VERSION_TABLE
        ]


def test_there_is_no_way_back() -> None:
    migrations = Path(schema.__file__).parent / "migrations" / "versions"
    for migration in migrations.glob("*.py"):
        assert "def downgrade" not in migration.read_text()


def test_every_migration_has_its_statements_for_both_databases() -> None:
    for dialect in ("postgresql", "sqlite"):
        script = schema.sql(dialect)
        created = set(re.findall(r"CREATE TABLE (\w+)", script)) - {schema.VERSION_TABLE}
        assert created == set(Base.metadata.tables)
        assert str(CreateTable(Base.metadata.tables["sched_guards"])).split()[2] in script
        assert f"'{schema.HEAD}'" in script


def _spaced(sql: Any) -> Any:
    """Without differences of layout."""
    return re.sub(r"\s*([(),;])\s*", r"\1", re.sub(r"\s+", " ", sql)).strip() if sql else sql
