"""JSON text back to values.

A row may have been written by anybody: whatever the text is, the only exception is DecodingError,
and no more happens than a look into the closed tables of this module and `known_types`.
"""

from __future__ import annotations

import base64
import enum
import json
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, Final, NoReturn, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from cronqueue.errors import DecodingError
from cronqueue.known_types import KnownType, known_by_name, type_name
from cronqueue.secret import Secret

# Containers inside each other: far below what Python and the databases can follow (about 1,000).
MAX_DEPTH: Final = 64
# Decimal digits of an int: Python itself reads no more than 4,300 by default.
MAX_INT_DIGITS: Final = 4_000

_SECONDS: Final = re.compile(r"(-?)([0-9]{1,14})\.([0-9]{6})")
_INTEGER: Final = re.compile(rf"-?[0-9]{{1,{MAX_INT_DIGITS}}}")
_ZONE_KEY: Final = re.compile(r"[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,3}")

T = TypeVar("T")


def decode_call(text: str) -> tuple[list[object], dict[str, object]]:
    """What `encode_call` was given, tuples as lists; raises DecodingError, whatever the text is."""
    call = _parse(text)
    if type(call) is not dict or call.keys() != {"args", "kwargs"}:
        raise DecodingError(f'expected {{"args": [...], "kwargs": {{...}}}}, not {shown(text)}')
    args, kwargs = call["args"], call["kwargs"]
    if type(args) is not list or type(kwargs) is not dict:
        raise DecodingError(f'"args" must be a list, "kwargs" an object: {shown(text)}')
    if _is_plain(text):
        return args, kwargs
    return [_revive(item, 1) for item in args], _revive_members(kwargs, 0)


def decode_value(text: str) -> object:
    """What `encode_value` was given, tuples as lists; raises DecodingError like `decode_call`."""
    value = _parse(text)
    return value if _is_plain(text) else _revive(value, 1)


def find_zone(key: object) -> ZoneInfo:
    """The zone of this key; raises ValueError, KeyError or OSError."""
    # The key becomes a file's path: only the form of real keys goes that way.
    if type(key) is not str or not _ZONE_KEY.fullmatch(key):
        raise ValueError("no key of a time zone")
    return ZoneInfo(key)


def shown(text: str) -> str:
    """A short, printable piece of a text for messages, in quotes."""
    piece = text[:60]
    quoted = encode_basestring(piece) if piece.isprintable() else json.dumps(piece)
    return quoted if len(text) <= 60 else f"{quoted}..."


def _parse(text: str) -> Any:
    if type(text) is not str:
        raise DecodingError(f"expected JSON as str, not {type_name(type(text))}")
    document = text.strip(" \t\r\n")
    try:
        # raw_decode takes half the time of decode.
        value, end = _JSON.raw_decode(document)
        if end != len(document):
            raise ValueError("more text after the value")
        return value
    except RecursionError:
        raise DecodingError(f"nested more than {MAX_DEPTH} deep: {shown(text)}") from None
    except ValueError as fault:
        raise DecodingError(f"not readable JSON: {str(fault)[:100]}: {shown(text)}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number too large for a float")
    return value


_JSON: Final = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _is_plain(text: str) -> bool:
    """Whether nothing can be tagged or too deep, so that the parsed values are final."""
    return (
        '$type"' not in text
        and "\\u" not in text
        and text.count("[") + text.count("{") <= MAX_DEPTH
    )


def _revive(value: Any, depth: int) -> Any:
    if type(value) is list:
        _check_depth(depth)
        return [_revive(item, depth + 1) for item in value]
    if type(value) is not dict:
        return value
    if "$type" in value:
        return _revive_tagged(value, depth)
    return _revive_members(value, depth)


def _revive_members(members: dict[str, Any], depth: int) -> dict[str, Any]:
    _check_depth(depth)
    return {key: _revive(item, depth + 1) for key, item in members.items()}


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise DecodingError(f"nested more than {MAX_DEPTH} deep")


def _revive_tagged(document: dict[str, Any], depth: int) -> Any:
    tag = document["$type"]
    if type(tag) is not str:
        raise DecodingError(f'a "$type" must be a str, not {type_name(type(tag))}')
    reader, known = _READERS.get(tag), known_by_name(tag)
    try:
        if tag == "dict":
            return _revive_members(_only_value(document, dict), depth)
        if tag == "secret":
            _check_depth(depth)
            if document.keys() != {"$type", "value"}:
                raise DecodingError("a malformed secret: give it a value, and nothing else")
            return Secret(_revive(document["value"], depth + 1))
        if reader is not None:
            return reader(document)
        if known is not None:
            return _revive_known(known, document, depth)
    except DecodingError:
        raise
    except Exception as fault:
        raise DecodingError(f"a malformed {shown(tag)}: {type_name(type(fault))}") from fault
    raise DecodingError(
        f"unknown type {shown(tag)}: register it with register_type in a module imported here"
    )


def _revive_known(known: KnownType, document: dict[str, Any], depth: int) -> Any:
    if issubclass(known.kind, enum.Flag):
        stored = _revive(document["value"], depth)
        value = known.kind(stored)
        # An early Python 3.11 (3.11.2 at least) drops unknown flags, which later ones refuse.
        if type(value) is not known.kind or value.value != stored:
            raise DecodingError(f"{known.name} has no such flags")
        return value
    if issubclass(known.kind, enum.Enum):
        name = _only_value(document, str)
        if name not in known.kind.__members__:
            raise DecodingError(f"{known.name} has no member {shown(name)}: give the Enum one back")
        return known.kind.__members__[name]
    fields = _revive_members(_only_value(document, dict), depth)
    unknown = fields.keys() - set(known.fields)
    if unknown:
        raise DecodingError(f"{known.name} has no field {shown(min(unknown))}: give it one back")
    return known.kind(**fields)


def _only_value(document: dict[str, Any], kind: type[T]) -> T:
    value = document.get("value")
    if type(value) is not kind or len(document) != 2:
        raise DecodingError(
            f"a malformed {shown(document['$type'])}: {shown(json.dumps(document))}"
        )
    return value


def _read_datetime(document: dict[str, Any]) -> datetime:
    return _placed(document, datetime.fromisoformat)


def _read_time(document: dict[str, Any]) -> time:
    return _placed(document, time.fromisoformat)


M = TypeVar("M", datetime, time)


def _placed(document: dict[str, Any], parse: Callable[[str], M]) -> M:
    bare = {key: value for key, value in document.items() if key not in ("zone", "fold")}
    moment = parse(_only_value(bare, str))
    fold = document.get("fold", 0)
    if type(fold) is not int:
        raise ValueError("fold is 0 or 1")
    if "zone" not in document:
        return moment.replace(fold=fold)
    if moment.tzinfo is not None:
        raise ValueError("an offset and a zone")
    return moment.replace(tzinfo=find_zone(document["zone"]), fold=fold)


def _read_timedelta(document: dict[str, Any]) -> timedelta:
    match = _SECONDS.fullmatch(_only_value(document, str))
    if match is None:
        raise ValueError("not seconds with six decimal places")
    microseconds = int(match[2] + match[3])
    return timedelta(microseconds=-microseconds if match[1] else microseconds)


def _read_decimal(document: dict[str, Any]) -> Decimal:
    value = Decimal(_only_value(document, str))
    if not value.is_finite():
        raise ValueError("not a finite number")
    return value


def _read_int(document: dict[str, Any]) -> int:
    text = _only_value(document, str)
    if not _INTEGER.fullmatch(text):
        raise ValueError("not a whole number")
    return int(text)


_READERS: Final[dict[str, Callable[[dict[str, Any]], object]]] = {
    "datetime": _read_datetime,
    "date": lambda document: date.fromisoformat(_only_value(document, str)),
    "time": _read_time,
    "timedelta": _read_timedelta,
    "decimal": _read_decimal,
    "uuid": lambda document: UUID(_only_value(document, str)),
    "bytes": lambda document: base64.b64decode(_only_value(document, str), validate=True),
    "int": _read_int,
}
