"""Arrays in the text form in which PostgreSQL reads them.

The driver's own way from a list takes six times as long, which is felt in bulks of many columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

Element = str | int | float | datetime | None


def to_array(values: Iterable[Element]) -> str:
    """One parameter for a cast such as `CAST(:names AS text[])`."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Element) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return value.isoformat() if isinstance(value, datetime) else str(value)
