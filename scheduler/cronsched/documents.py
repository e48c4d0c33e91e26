"""Documents: what the command and the web say to programs, as plain values of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

FORMAT_VERSION = 1


def versioned(data: Any) -> dict[str, Any]:
    """The document as plain values."""
    return {"format_version": FORMAT_VERSION, "data": plain(data)}


def plain(value: Any) -> Any:
    """A value as JSON knows it: times in UTC, durations in seconds, `..._json` columns opened."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {_name(str(key)): _opened(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return value


def _name(key: str) -> str:
    return key.removesuffix("_json")


def _opened(key: str, value: Any) -> Any:
    if not key.endswith("_json") or value is None:
        return plain(value)
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return value  # a damaged row is shown as it is


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
