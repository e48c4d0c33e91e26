"""Arguments and results as JSON text with a closed set of tagged types.

Plain JSON carries None, bool, int, float, str, list, tuple (read back as a list) and dict. The
rest is `{"$type": <tag>, "value": ...}`: datetime, date, time, timedelta, Decimal, UUID, bytes,
ints beyond 64 bits, dicts with a key "$type", and the types of `register_type`. Reading never
imports anything and finds no class outside these, whatever a row says.

The text suits a `json` or text column. `jsonb` would rewrite numbers: 1e22 would return as an int.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, overload

from cronqueue.decoding import decode_call, decode_value
from cronqueue.encoding import MAX_ARGS_BYTES, MAX_RESULT_BYTES, encode_call, encode_value
from cronqueue.known_types import register

__all__ = [
    "MAX_ARGS_BYTES",
    "MAX_RESULT_BYTES",
    "decode_call",
    "decode_value",
    "encode_call",
    "encode_value",
    "register_type",
]

T = TypeVar("T")


@overload
def register_type(cls: type[T], name: str | None = None) -> type[T]: ...
@overload
def register_type(cls: None = None, name: str | None = None) -> Callable[[type[T]], type[T]]: ...
def register_type(
    cls: type[T] | None = None, name: str | None = None
) -> type[T] | Callable[[type[T]], type[T]]:
    """Let values of an Enum or dataclass be arguments and results; works as a decorator.

    Both the enqueuing process and the worker must register it. `name` (default: `module.qualname`)
    is stored with every value. When a type has moved, register it a second time under its old
    name: the name registered first is written, all are read.

    An Enum's member is stored by its name, a Flag by its number. A dataclass is stored by the
    fields of its constructor and rebuilt by calling it. Raises DefinitionError.
    """
    if cls is None:
        return lambda kind: register(kind, name)
    return register(cls, name)
