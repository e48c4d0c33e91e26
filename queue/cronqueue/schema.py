"""The schema: which one the database has, whether it fits, and bringing it up.

Migrations are Alembic's, inside this package, with a version table of their own. Concurrent upgrades
queue up behind one lock. Only `upgrade` changes a server's schema; an SQLite file without tables is
given them by whoever opens it first.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection, inspect, text

from cronqueue.database import Database, shown
from cronqueue.errors import ConfigurationError, SchemaMismatch
from cronqueue.patience import answers_within

if TYPE_CHECKING:
    from alembic.config import Config

# The schema that this release reads and writes; also the name of the newest migration.
HEAD = "0009"
VERSION_TABLE = "sched_schema_version"
# The key of the advisory lock that serialises upgrades: the bytes of "schd".
_UPGRADE_LOCK = 0x73636864

# Unversioned: tables of ours that no upgrade has made.
Fit = Literal["ok", "empty", "unversioned", "old", "unknown"]


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Which schema a database has, and whether this release can use it."""

    version: str | None
    fit: Fit


def upgrade(database: Database) -> SchemaState:
    """Bring the schema to this release's version; returns what was there before."""
    logging.getLogger("alembic").setLevel(
        logging.WARNING
    )  # it tells of every plug-in, once imported
    from alembic import command
    from alembic.util import CommandError

    with answers_within(None), database.begin() as connection:
        if database.is_postgresql:
            connection.execute(
                text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'")
            )
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        before = _state(connection)
        if before.fit in ("unknown", "unversioned"):
            raise SchemaMismatch(explain(database, before))
        if before.fit != "ok":
            config = _config()
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError:  # no migration bears this name
                unknown = SchemaState(before.version, "unknown")
                raise SchemaMismatch(explain(database, unknown)) from None
    return before


def current(database: Database) -> SchemaState:
    """Which schema the database has."""
    with database.snapshot() as connection:
        return _state(connection)


def require(database: Database) -> None:
    """Make sure that the schema fits; creates it in an empty SQLite file, else raises SchemaMismatch."""
    state = current(database)
    if state.fit == "empty" and not database.is_postgresql:
        upgrade(database)
    elif state.fit != "ok":
        raise SchemaMismatch(explain(database, state))


def sql(dialect: str, start: str | None = None) -> str:
    """The statements of an upgrade, for people who run them by other means."""
    from alembic import command

    if dialect not in ("postgresql", "sqlite"):
        raise ConfigurationError(f"there is no schema for {dialect!r}: postgresql or sqlite")
    output = io.StringIO()
    config = _config()
    config.output_buffer = output
    config.attributes["dialect"] = dialect
    command.upgrade(config, f"{start}:head" if start else "head", sql=True)
    return output.getvalue()


def _state(connection: Connection) -> SchemaState:
    tables = set(inspect(connection).get_table_names())
    version = None
    if VERSION_TABLE in tables:
        version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    if version is None:
        from cronqueue.models import Base

        return SchemaState(None, "unversioned" if tables & Base.metadata.tables.keys() else "empty")
    if version == HEAD:
        return SchemaState(version, "ok")
    return SchemaState(version, "old" if version < HEAD else "unknown")


def explain(database: Database, state: SchemaState) -> str:
    """What is wrong with the schema, and the remedy."""
    where = shown(database.url)
    match state.fit:
        case "empty":
            return f"{where} has no tables yet: run `sched db upgrade`"
        case "old":
            return f"{where} has schema {state.version}, this release needs {HEAD}: run `sched db upgrade`"
        case "unversioned":
            return (
                f"{where} has tables of cronqueue that no `sched db upgrade` has made: "
                "take them away, or use another database"
            )
        case _ if str(state.version) < HEAD:
            return f"{where} has schema {state.version}, which cronqueue never had: use another database"
        case _:
            return f"{where} has schema {state.version}, newer than {HEAD}: upgrade cronqueue on this machine"


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
    )
    config.set_main_option("path_separator", "os")
    return config
