"""Arrays arrive in PostgreSQL as they were sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import text

from cronqueue.arrays import to_array
from job_rows import opened

ODD = (
    "",
    "NULL",
    "null",
    '"',
    "\\",
    '\\"',
    "{",
    "}",
    "a,b",
    " a ",
    "'",
    "line\nline",
    "grün 🕛",
    "%s :x",
)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", [*ODD, None]),
        ("bigint", [0, -1, 2**62, None]),
        ("float8", [0.1, 1e300, None]),
        ("bool", [True, False, None]),
        ("text", []),
    ],
)
def test_an_array_arrives_as_it_was_sent(postgres_url: str, kind: str, values: list[Any]) -> None:
    assert _sent(postgres_url, kind, values) == values


def test_moments_of_any_zone_arrive_to_the_microsecond(postgres_url: str) -> None:
    utc = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    other = utc.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert _sent(postgres_url, "timestamptz", [utc, None, other]) == [utc, None, utc]


def _sent(url: str, kind: str, values: list[Any]) -> list[Any]:
    for database in opened(url):
        statement = text(f"SELECT CAST(:values AS {kind}[])")
        with database.snapshot() as connection:
            found: list[Any] = connection.execute(
                statement, {"values": to_array(values)}
            ).scalar_one()
            return found
    raise AssertionError("no database")
