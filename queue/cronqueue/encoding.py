"""Values to JSON text, in one walk that touches only exactly known types.

A subclass is refused, not degraded: a str subclass would come back as a plain str. No method of a
foreign object is called, so that a hostile `__iter__`, `__eq__` or `__repr__` never runs.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from cronqueue.decoding import MAX_DEPTH, MAX_INT_DIGITS, find_zone, shown
from cronqueue.errors import EncodingError
from cronqueue.known_types import known_by_kind, type_name
from cronqueue.secret import Secret

# Bytes of UTF-8. A row is read by every claim, list and dashboard page: larger data belongs
# elsewhere, with its id in the arguments.
MAX_ARGS_BYTES: Final = 256 * 1024
# Bytes of UTF-8; the same reason.
MAX_RESULT_BYTES: Final = 256 * 1024

_LARGEST_TEXT: Final = max(MAX_ARGS_BYTES, MAX_RESULT_BYTES)
_LARGEST_INT: Final = 10**MAX_INT_DIGITS

_Writer = Callable[[Any, int], str]


def encode_call(args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    """`{"args": [...], "kwargs": {...}}` for a job's row; takes only a list or tuple, and a dict.

    Raises EncodingError with the place (`args[0]["when"]`) and the remedy.
    """
    positional = _rooted("args", _args, args, 0)
    text = f'{{"args":{positional},"kwargs":{_rooted("kwargs", _kwargs, kwargs, 0)}}}'
    return _measured("the arguments", text, MAX_ARGS_BYTES)


def encode_value(value: object, name: str = "value") -> str:
    """One value, such as a job's result; raises EncodingError with the place and the remedy."""
    return _measured(f"the {name}", _rooted(name, _write, value, 1), MAX_RESULT_BYTES)


class _Refused(Exception):
    """A value that cannot be written; on its way up every container adds its step to the path."""

    def __init__(self, reason: str, found: object = None, cause: Exception | None = None) -> None:
        self.reason = reason
        self.chain = [found]
        self.steps: list[str] = []
        self.cause = cause

    def told(self, root: str) -> str:
        """The message: the place, then the reason and remedy."""
        chain, steps = self.chain[::-1], self.steps[::-1]
        first: dict[int, int] = {}
        for place, container in enumerate(chain):
            seen = first.setdefault(id(container), place)
            if seen != place and container is not None:
                here, there = _path(root, steps[:place]), _path(root, steps[:seen])
                return f"{here}: this is {there} itself; data that contains itself has no JSON form"
        return f"{_path(root, steps)}: {self.reason}"


def _path(root: str, steps: list[str]) -> str:
    path = root + "".join(steps)
    return path if len(path) <= 300 else f"{path[:200]}...{path[-80:]}"


def _rooted(root: str, write: _Writer, value: object, depth: int) -> str:
    try:
        return write(value, depth)
    except Exception as fault:
        refused = _as_refused(fault)
        raise EncodingError(refused.told(root)) from refused.cause


def _as_refused(fault: Exception) -> _Refused:
    if isinstance(fault, _Refused):
        return fault
    # A field that is a property, or a dict that another thread changes meanwhile, raises anything.
    return _Refused(f"reading it raised {type_name(type(fault))}", cause=fault)


def _within(fault: Exception, container: object, step: str) -> _Refused:
    refused = _as_refused(fault)
    refused.chain.append(container)
    refused.steps.append(step)
    return refused


def _measured(what: str, text: str, limit: int) -> str:
    size = len(text) if text.isascii() else len(text.encode())
    if size > limit:
        raise EncodingError(f"{what} take {size:,} bytes as JSON; {_too_large(limit)}")
    return text


def _too_large(limit: int) -> str:
    return f"no more than {limit:,} bytes fit: store the data elsewhere and pass its id"


def _args(args: object, depth: int) -> str:
    if type(args) is not tuple and type(args) is not list:
        raise _Refused(f"must be a list or a tuple, not {type_name(type(args))}")
    return _array(args, depth)


def _kwargs(kwargs: object, depth: int) -> str:
    if type(kwargs) is not dict:
        raise _Refused(f"must be a dict, not {type_name(type(kwargs))}")
    return _members(kwargs, kwargs, depth, _key_step)


def _write(value: object, depth: int) -> str:
    return _WRITERS.get(type(value), _registered)(value, depth)


def _array(items: list[object] | tuple[object, ...], depth: int) -> str:
    _check_depth(items, depth)
    parts: list[str] = []
    size = 0
    for item in items:
        try:
            part = _WRITERS.get(type(item), _registered)(item, depth + 1)
        except Exception as fault:
            raise _within(fault, items, f"[{len(parts)}]") from None
        parts.append(part)
        size += len(part)
        if size > _LARGEST_TEXT:
            raise _Refused(_too_large(_LARGEST_TEXT))
    return f"[{','.join(parts)}]"


def _object(value: dict[Any, object], depth: int) -> str:
    text = _members(value, value, depth, _key_step)
    # Asked only now: every key is a plain str, so that no foreign __eq__ is called.
    return f'{{"$type":"dict","value":{text}}}' if "$type" in value else text


def _members(
    pairs: Mapping[Any, object], owner: object, depth: int, step: Callable[[str], str]
) -> str:
    _check_depth(owner, depth)
    parts: list[str] = []
    size = 0
    for key, item in pairs.items():
        name = _key(key)
        try:
            part = _WRITERS.get(type(item), _registered)(item, depth + 1)
        except Exception as fault:
            raise _within(fault, owner, step(key)) from None
        parts.append(f"{name}:{part}")
        size += len(name) + len(part)
        if size > _LARGEST_TEXT:
            raise _Refused(_too_large(_LARGEST_TEXT))
    return f"{{{','.join(parts)}}}"


def _check_depth(container: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        reason = f"more than {MAX_DEPTH} containers inside each other: flatten the data"
        raise _Refused(reason, container)


def _key(key: object) -> str:
    if type(key) is not str:
        raise _Refused(
            f"has a key of type {type_name(type(key))}: JSON has only str keys, use str(key)"
        )
    try:
        return _string(key, 0)
    except _Refused as refused:
        raise _Refused(f"the key {shown(key)} {refused.reason}") from None


def _key_step(key: str) -> str:
    return f"[{shown(key)}]"


def _field_step(name: str) -> str:
    return f".{name}"


def _string(value: str, depth: int) -> str:
    if len(value) > _LARGEST_TEXT:
        raise _Refused(f"has {len(value):,} characters; {_too_large(_LARGEST_TEXT)}")
    # Printable text, the usual case, has neither of the two that databases refuse.
    if not value.isprintable():
        if "\0" in value:
            raise _Refused("has a NUL character, which databases refuse: remove it, or pass bytes")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Refused(
                "has a lone surrogate, which is no text: replace it, or pass bytes"
            ) from None
    return encode_basestring(value)


def _integer(value: int, depth: int) -> str:
    # Databases and many JSON readers end at 64 bits; beyond, they round without a word.
    if -(2**63) <= value < 2**63:
        return int.__repr__(value)
    if not -_LARGEST_INT < value < _LARGEST_INT:
        raise _Refused(f"an int of more than {MAX_INT_DIGITS:,} digits: pass it as bytes")
    return _tagged("int", int.__repr__(value))


def _float(value: float, depth: int) -> str:
    if not math.isfinite(value):
        raise _Refused(f"JSON has no {value}: pass None or a str instead")
    return float.__repr__(value)


def _moment(value: datetime | time, depth: int) -> str:
    tag = "datetime" if type(value) is datetime else "time"
    zone, more = value.tzinfo, ""
    if type(zone) is ZoneInfo:
        value, more = value.replace(tzinfo=None), f',"zone":"{_zone_key(zone)}"'
    elif zone is not None and type(zone) is not timezone:
        raise _Refused(f"its time zone is a {type_name(type(zone))}: use zoneinfo.ZoneInfo or UTC")
    elif type(zone) is timezone and zone.utcoffset(None).microseconds:
        raise _Refused("its offset from UTC has a fraction of a second, which does not read back")
    if value.fold:
        more += ',"fold":1'
    return f'{{"$type":"{tag}","value":"{value.isoformat()}"{more}}}'


def _zone_key(zone: ZoneInfo) -> str:
    try:
        return find_zone(zone.key).key
    except Exception:
        raise _Refused("its ZoneInfo has no key of the time zone database: use UTC") from None


def _timedelta(value: timedelta, depth: int) -> str:
    microseconds = value // timedelta(microseconds=1)
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    return _tagged("timedelta", f"{'-' * (microseconds < 0)}{seconds}.{rest:06}")


def _decimal(value: Decimal, depth: int) -> str:
    if not value.is_finite():
        raise _Refused("a Decimal that is no finite number: pass None or a str instead")
    return _tagged("decimal", str(value))


def _bytes(value: bytes, depth: int) -> str:
    if len(value) > _LARGEST_TEXT:
        raise _Refused(f"has {len(value):,} bytes; {_too_large(_LARGEST_TEXT)}")
    return _tagged("bytes", base64.b64encode(value).decode())


def _secret(value: Secret[object], depth: int) -> str:
    _check_depth(value, depth)
    return f'{{"$type":"secret","value":{_write(value.reveal(), depth + 1)}}}'


def _tagged(tag: str, text: str) -> str:
    return f'{{"$type":"{tag}","value":"{text}"}}'


_WRITERS: Final[dict[type[Any], _Writer]] = {
    str: _string,
    int: _integer,
    float: _float,
    bool: lambda value, depth: "true" if value else "false",
    type(None): lambda value, depth: "null",
    list: _array,
    tuple: _array,
    dict: _object,
    datetime: _moment,
    date: lambda value, depth: _tagged("date", value.isoformat()),
    time: _moment,
    timedelta: _timedelta,
    Decimal: _decimal,
    UUID: lambda value, depth: _tagged("uuid", str(value)),
    bytes: _bytes,
    Secret: _secret,
}


def _registered(value: Any, depth: int) -> str:
    kind = type(value)
    known = known_by_kind(kind)
    if known is None:
        raise _Refused(_advice(kind))
    if issubclass(kind, enum.Flag):
        text = _integer(value._value_, depth)
    elif issubclass(kind, enum.Enum):
        text = _string(value._name_, depth)
    else:
        fields = {name: getattr(value, name) for name in known.fields}
        text = _members(fields, value, depth, _field_step)
    return f'{{"$type":{encode_basestring(known.name)},"value":{text}}}'


def _advice(kind: type[Any]) -> str:
    name = type_name(kind)
    if issubclass(kind, enum.Enum):
        return f"{name} is not registered: decorate the Enum with register_type, or pass its .value"
    if dataclasses.is_dataclass(kind):
        return f"{name} is not registered: decorate it with register_type, or pass its id or fields"
    for base in _WRITERS:
        if issubclass(kind, base):
            return f"{name} would come back as a plain {base.__name__}: pass a plain one"
    for bases, remedy in _REMEDIES.items():
        if issubclass(kind, bases):
            return f"{name} cannot be stored: {remedy}"
    return f"{name} cannot be stored: pass plain data such as an id, or a registered dataclass"


_REMEDIES: Final[dict[tuple[type[Any], ...], str]] = {
    (set, frozenset): "pass sorted(value) or list(value)",
    (types.GeneratorType, range, map, filter, zip, enumerate, reversed): "pass list(value)",
    (types.CoroutineType,): "await it and pass the result",
    (bytearray, memoryview): "pass bytes(value)",
    (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType): "pass its name",
}
