"""`Secret`: a value that screens and logs do not show."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Secret(Generic[T]):
    """An argument, a result or a part of one that is stored, and shown as `***` wherever jobs are shown.

    A task that takes a `Secret[str]` is given `Secret("...")` and reads it with `reveal()`. It is hidden,
    not encrypted: who may read the table may read it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return type(other) is Secret and other._value == self._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __repr__(self) -> str:
        return "Secret(***)"
