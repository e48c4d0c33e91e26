"""One field of a cron expression: text to the set of its values, every fault named with its place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cronqueue.errors import DefinitionError

MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")

_PLAIN = re.compile(r"(?P<low>\*|[^-/]+)(?:-(?P<high>[^-/]+))?(?:/(?P<step>.+))?")
_HASHED = re.compile(r"[Hh](?:\((?P<low>[^-()]+)-(?P<high>[^-()]+)\))?(?:/(?P<step>.+))?")
_NTH = re.compile(r"(?P<day>[^#]+)#(?P<nth>.*)")
_LAST = re.compile(r"(?:[Ll](?P<after>[0-7])|(?P<before>[0-7]|[A-Za-z]{3,})[Ll])")
_NUMBER = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class FieldKind:
    """What a field of this name may hold."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    # The last value of a bare `H`: a day that every month has.
    hash_high: int | None = None

    @property
    def is_weekday(self) -> bool:
        return self.name == "weekday"

    @property
    def is_day(self) -> bool:
        return self.name == "day"


KINDS = (
    FieldKind("second", 0, 59),
    FieldKind("minute", 0, 59),
    FieldKind("hour", 0, 23),
    FieldKind("day", 1, 31, hash_high=28),
    FieldKind("month", 1, 12, MONTHS),
    FieldKind("weekday", 0, 6, WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Field:
    """The values of one field. `nth` holds (weekday, n) of `fri#2`, and n = 0 for the last one."""

    kind: FieldKind
    values: frozenset[int]
    nth: frozenset[tuple[int, int]]
    last_day: bool
    starts_with_star: bool
    follows_clock: bool

    @property
    def covers_all(self) -> bool:
        return len(self.values) == self.kind.high - self.kind.low + 1


def parse_field(text: str, kind: FieldKind, place: str, hash_name: str | None) -> Field:
    """Read one field; raises DefinitionError. `H` takes its value from a hash of `hash_name`."""
    reader = _Reader(kind, place, hash_name)
    values: set[int] = set()
    nth: set[tuple[int, int]] = set()
    last_day = False
    for item in text.split(","):
        if kind.is_day and item in ("L", "l"):
            last_day = True
        elif kind.is_weekday and (special := reader.nth_weekday(item)):
            nth.add(special)
        else:
            values.update(reader.values(item))
    star = text.startswith(("*", "?"))
    every_nth_hashed = re.match(r"[Hh]/", text) is not None
    return Field(kind, frozenset(values), frozenset(nth), last_day, star, star or every_nth_hashed)


@dataclass(frozen=True, slots=True)
class _Reader:
    kind: FieldKind
    place: str
    hash_name: str | None

    def values(self, item: str) -> Iterator[int]:
        if not item:
            raise self.fault("something is missing before or after a comma")
        if item == "?" and (self.kind.is_day or self.kind.is_weekday):
            item = "*"
        if hashed := _HASHED.fullmatch(item):
            return self._hashed(hashed)
        plain = _PLAIN.fullmatch(item)
        if plain is None or (plain["low"] == "*" and plain["high"]):
            raise self.fault(
                f"{item!r} is not a value, a range such as 1-5, a list such as 1,3 or a step such as */2"
            )
        return self._plain(plain)

    def nth_weekday(self, item: str) -> tuple[int, int] | None:
        if nth := _NTH.fullmatch(item):
            if nth["nth"] not in ("1", "2", "3", "4", "5"):
                raise self.fault(f"{item!r}: a month has 1 to 5 of a weekday, as in fri#2")
            return self._number(nth["day"]) % 7, int(nth["nth"])
        last = _LAST.fullmatch(item)
        return (self._number(last["after"] or last["before"]) % 7, 0) if last else None

    def _plain(self, item: re.Match[str]) -> Iterator[int]:
        low, high, step = item["low"], item["high"], item["step"]
        if low == "*":
            first, last = self.kind.low, self.kind.high
        else:
            first = self._number(low)
            # `a/n` counts from a to the end of the field.
            last = self._number(high) if high else self.kind.high if step else first
        return self._cycle(first, last, self._step(step, first, last))

    def _hashed(self, item: re.Match[str]) -> Iterator[int]:
        low, high, step = item["low"], item["high"], item["step"]
        if low:
            first, last = self._number(low), self._number(high)
            if first > last:
                raise self.fault(f"{item[0]!r}: the range of H goes from low to high")
        else:
            first, last = self.kind.low, self.kind.high
            if not step:
                last = self.kind.hash_high or last
        every = self._step(step, first, last)
        reach = every if step else last - first + 1
        start = first + self._hash() % reach
        return self._cycle(start, last if step else start, every)

    def _cycle(self, first: int, last: int, step: int) -> Iterator[int]:
        """`fri-mon` and `22-2` go round the end of the field."""
        size = self.kind.high - self.kind.low + 1
        length = last - first if last >= first else last - first + size
        for offset in range(0, length + 1, step):
            yield self.kind.low + (first + offset - self.kind.low) % size

    def _step(self, text: str | None, first: int, last: int) -> int:
        if text is None:
            return 1
        size = self.kind.high - self.kind.low + 1
        count = (last - first) % size + 1
        if not _NUMBER.fullmatch(text) or int(text) == 0:
            raise self.fault(f"the step {text!r} is not a whole number of at least 1")
        if int(text) > count:
            raise self.fault(
                f"the step {text} is larger than the {count} values it walks over; name the value instead"
            )
        return int(text)

    def _number(self, text: str) -> int:
        if _NUMBER.fullmatch(text):
            number = int(text)
            highest = 7 if self.kind.is_weekday else self.kind.high
            if not self.kind.low <= number <= highest:
                raise self.fault(f"{text} is not within {self.kind.low}-{highest}")
            return number
        for index, name in enumerate(self.kind.names):
            if text.lower() in (name, name[:3]):
                return index + self.kind.low
        raise self.fault(self._not_a_number(text))

    def _not_a_number(self, text: str) -> str:
        if self.kind.is_weekday and text in ("L", "l"):
            return "L alone is no weekday: friL is the last Friday of the month"
        if self.kind.is_day and text[-1] in "Ww":
            return f"{text!r}: W (nearest working day) is not supported"
        named = f" or a name such as {self.kind.names[1][:3]}" if self.kind.names else ""
        return f"{text!r} is not a number from {self.kind.low} to {self.kind.high}{named}"

    def _hash(self) -> int:
        if self.hash_name is None:
            raise self.fault("H is drawn from the schedule's name, and there is none here")
        position = KINDS.index(self.kind)
        return int.from_bytes(hashlib.sha256(f"{self.hash_name}\n{position}".encode()).digest()[:8])

    def fault(self, message: str) -> DefinitionError:
        return DefinitionError(f"{self.place}: {message}")
