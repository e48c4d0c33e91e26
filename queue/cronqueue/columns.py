"""Column types: how a moment and a JSON text lie in each database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Integer, Text, cast
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

# `2026-01-02T03:04:05.678000Z`: always 27 characters, so that text order is time order.
SQLITE_INSTANT_GLOB = (
    "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
    "T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z"
)

# The range of times that a row may hold: what every driver reads back, with room on both sides.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)

# SQLite numbers rows itself only in a column declared exactly INTEGER PRIMARY KEY.
BigId = BigInteger().with_variant(Integer(), "sqlite")


class Instant(TypeDecorator[datetime]):
    """A moment: `timestamptz` on PostgreSQL, text of fixed width in UTC on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return to_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if dialect.name == "postgresql":
            moment: datetime = value
            return moment.astimezone(UTC)
        return from_text(value)


class RawJson(TypeDecorator[str]):
    """JSON kept as its text: it is decoded where a fault in it can be told from a fault of ours."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(JSON())
        return dialect.type_descriptor(Text())

    def bind_processor(self, dialect: Dialect) -> None:
        return None  # the text is JSON already

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        return None

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return cast(column, Text)


class server_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The server's time as a column's default, for rows that are inserted by hand."""

    inherit_cache = True


@compiles(server_now)
def _server_now(element: server_now, compiler: SQLCompiler, **options: Any) -> str:
    return "now()"


@compiles(server_now, "sqlite")
def _server_now_sqlite(element: server_now, compiler: SQLCompiler, **options: Any) -> str:
    # Milliseconds are all that SQLite's clock has; three zeros make the width right.
    return "strftime('%Y-%m-%dT%H:%M:%f', 'now') || '000Z'"


def to_text(moment: datetime) -> str:
    """A moment as SQLite stores it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def from_text(text: Any) -> datetime:
    """A moment from SQLite's text; EARLIEST where somebody wrote none, such as the 31st of February.

    An error here would be one of the statement, and take all other rows with it.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return EARLIEST
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
