"""Rows handed to the database as one JSON text per statement, which both databases read as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, TextClause, text
from sqlalchemy.sql.selectable import TextualSelect

from cronqueue.columns import Instant
from cronqueue.database import Database

T = TypeVar("T")

# Rows per statement: each takes a fraction of a second.
_CHUNK = 5_000


def table_of(database: Database, shape: Mapping[str, str]) -> str:
    """The table `new` that the parameter `rows` holds as JSON."""
    if database.is_postgresql:
        columns = ", ".join(f"{name} {kind}" for name, kind in shape.items())
        return f"json_to_recordset(CAST(:rows AS json)) AS new({columns})"
    columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in shape)
    return f"(SELECT {columns} FROM json_each(:rows)) AS new"


def bound(database: Database, statement: str, *instants: str) -> TextClause | TextualSelect:
    """The statement in this database's words; the named columns come back as times."""
    numbers = "SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json)) AS each(value)"
    sql = statement.format(
        now=database.now_sql,
        names=names_of(database),
        ids=numbers if database.is_postgresql else "SELECT value FROM json_each(:ids)",
        no=no(database),
    )
    if not instants:
        return text(sql)
    return text(sql).columns(**{name: Instant() for name in instants})


def returned(
    database: Database,
    connection: Connection,
    statement: TextClause | TextualSelect,
    rows: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
) -> Sequence[Row[Any]]:
    """What a statement over `rows` returns."""
    return connection.execute(statement, {"rows": json.dumps(rows), **parameters}).all()


def names_of(database: Database) -> str:
    """The query of the names that the parameter `names` holds as JSON."""
    if database.is_postgresql:
        return "SELECT json_array_elements_text(CAST(:names AS json))"
    return "SELECT value FROM json_each(:names)"


def json_columns(database: Database) -> dict[str, str]:
    """The columns that hold JSON."""
    form = "CAST(new.{} AS json)" if database.is_postgresql else "new.{}"
    return {column: form.format(column) for column in ("args", "tags")}


def no(database: Database) -> str:
    """The literal for false."""
    return "false" if database.is_postgresql else "0"


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The rows of one statement each."""
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
