"""Redaction: what a job was given may hold secrets, and screens are looked at over shoulders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|api_?key|private_?key|authorization|credential",
    re.IGNORECASE,
)


def redacted(value: Any, *, within: bool = False) -> Any:
    """The value without any `Secret`, and without what stands under a name such as `password`.

    At any depth, and whatever stands there: bytes and dates are mappings in stored JSON.
    """
    if isinstance(value, Mapping):
        if within and value.get("$type") == "secret":
            return HIDDEN
        return {
            key: HIDDEN
            if within and not isinstance(each, bool | None) and _SECRET.search(str(key))
            else redacted(each, within=within or key in _OF_USERS)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [redacted(each, within=within) for each in value]
    return value


def redacted_json(stored: str | None) -> str | None:
    """The same for stored JSON; a text without secrets, or a damaged one, stays as it is."""
    try:
        found = json.loads(stored or "null")
        shown = redacted(found, within=True)
    except (ValueError, RecursionError):
        return stored
    return stored if shown == found else json.dumps(shown, ensure_ascii=False)


# What users have put there; our own columns have names such as `token` too.
_OF_USERS = ("args", "result", "progress", "tags", "detail")
