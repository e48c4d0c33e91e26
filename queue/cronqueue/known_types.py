"""The Enums and dataclasses that arguments and results may hold, each under its stored name."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
from pathlib import Path
from typing import Any, Final, TypeVar

from cronqueue.errors import DefinitionError

# Characters of a stored name: it is repeated in every value.
MAX_NAME_LENGTH: Final = 200
# The tags of `encoding` and `decoding`, which no registered type may take.
BUILT_IN_TAGS: Final = frozenset(
    ("bytes", "date", "datetime", "decimal", "dict", "int", "time", "timedelta", "uuid")
)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class KnownType:
    """A registered type; `fields` are those that its constructor takes, none for an Enum."""

    name: str
    kind: type[Any]
    fields: tuple[str, ...]


_by_name: dict[str, KnownType] = {}
_by_kind: dict[type[Any], KnownType] = {}


def register(kind: type[T], name: str | None) -> type[T]:
    """Make a type known; the first name of a type is the one that is written."""
    fields = _constructor_fields(kind)
    known = KnownType(_default_name(kind) if name is None else _checked(name), kind, fields)
    holder = _by_name.get(known.name)
    # A module that is imported anew brings its types again, as new objects.
    if known.name in BUILT_IN_TAGS or (holder and _place(holder.kind) != _place(kind)):
        raise DefinitionError(f"type name {known.name!r} is taken: give {kind!r} another `name`")
    if holder and holder.kind is not kind:
        _by_kind.pop(holder.kind, None)
    _by_name[known.name] = known
    _by_kind.setdefault(kind, known)
    return kind


def known_by_name(name: str) -> KnownType | None:
    """The type of a stored name."""
    return _by_name.get(name)


def known_by_kind(kind: type[Any]) -> KnownType | None:
    """The entry of exactly this class; its subclasses are not known."""
    return _by_kind.get(kind)


def type_name(kind: type[Any]) -> str:
    """A type's name for messages, never failing and never long."""
    try:
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    except Exception:
        return "a type without a name"
    return name if len(name) <= 120 else f"{name[:120]}..."


def _constructor_fields(kind: type[Any]) -> tuple[str, ...]:
    if not isinstance(kind, type) or not (
        issubclass(kind, enum.Enum) or dataclasses.is_dataclass(kind)
    ):
        raise DefinitionError(f"{kind!r} is neither an Enum nor a dataclass: only these register")
    if issubclass(kind, enum.Enum):
        return ()
    names = tuple(field.name for field in dataclasses.fields(kind) if field.init)
    try:
        inspect.signature(kind).bind(**dict.fromkeys(names))
    except TypeError as fault:
        raise DefinitionError(f"{kind!r} cannot be rebuilt from its fields: {fault}") from None
    return names


def _default_name(kind: type[Any]) -> str:
    module = kind.__module__
    if module in ("__main__", "__mp_main__"):
        # A script that is started directly and its worker processes must mean the same type.
        script = getattr(sys.modules["__main__"], "__file__", None)
        module = Path(script).stem if script else "__main__"
    return _checked(f"{module}.{kind.__qualname__}")


def _checked(name: str) -> str:
    if type(name) is not str or not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise DefinitionError(
            f"type name {name!r}: give `name` 1 to {MAX_NAME_LENGTH} printable characters"
        )
    return name


def _place(kind: type[Any]) -> tuple[str, str]:
    return (kind.__module__, kind.__qualname__)
