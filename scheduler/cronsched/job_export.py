"""Lists of jobs as files: CSV for spreadsheets, a JSON object a line for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from cronqueue.queries import JobRow
from cronsched.documents import plain
from cronsched.redaction import redacted

# What a spreadsheet takes for the begin of a formula, which it would carry out.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
_COLUMNS = tuple(each.name.removesuffix("_json") for each in fields(JobRow))


def csv_lines(rows: Iterable[JobRow]) -> Iterator[str]:
    """A header, and a line for each job; a text that looks like a formula begins with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)

    def line(cells: Iterable[Any]) -> str:
        writer.writerow(cells)
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text

    yield line(_COLUMNS)
    for row in rows:
        yield line(map(_cell, _document(row).values()))


def json_lines(rows: Iterable[JobRow]) -> Iterator[str]:
    """A job a line, as the API tells of it."""
    for row in rows:
        yield json.dumps(_document(row), ensure_ascii=False) + "\n"


FORMATS: Mapping[str, tuple[Callable[[Iterable[JobRow]], Iterator[str]], str]] = {
    "csv": (csv_lines, "text/csv"),
    "jsonl": (json_lines, "application/x-ndjson"),
}


def _document(row: JobRow) -> dict[str, Any]:
    document: dict[str, Any] = redacted(plain(row))
    return document


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else value
