"""Cron expressions: five fields, or six with the seconds first, checked here and computed with croniter.

The dialect is Debian cron's: with both day fields set, either of them is enough, unless one of them begins
with `*`. Beyond it: names, ranges round the end (`fri-mon`), `L`, `fri#2`, `friL`, `@daily`, and `H`.

croniter is handed canonical lists of values only, for it reads `5-5` as the whole field, joins `*/2` and a
weekday with "or", draws every `H` from one hash, wants the seconds last, joins `#` with the other day field
by "and", and changes what its shorthands mean from one major release to the next. Zones stay outside too:
it doubles fixed times in an overlap, and its answers there depend on where the search begins.
"""

from __future__ import annotations

import difflib
import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, lru_cache
from heapq import merge
from importlib.metadata import version
from itertools import islice, product
from threading import Lock

from cronqueue.errors import DefinitionError
from cronsched.cronfields import KINDS, Field, FieldKind, parse_field

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MAX_LENGTH = 200
# A 29 February that must be a certain weekday comes after 40 years at the latest.
LONGEST_PAUSE_YEARS = 41
_SHAPE = "give 5 fields (minute hour day month weekday), or 6 with the seconds first"
_OTHER_NICKNAMES = {
    "@reboot": 'use @hook("worker_start")',
    "@every": 'use every("5m")',
}
# Croniter takes 75 us for the first day, and 35 for each that follows.
_KEPT_DAYS = 40
# Days of each month, by its number.
_LENGTHS = (
    (),
    *((28, 29) if month == 2 else (monthrange(2001, month)[1],) for month in range(1, 13)),
)
_ANY_DAY, _ANY_WEEKDAY = (parse_field("*", kind, kind.name, None) for kind in (KINDS[3], KINDS[5]))
_ZONE_PREFIX = re.compile(r"(?:CRON_TZ|TZ)=(\S+)[ \t]+(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CronExpression:
    """A checked expression. `follows_clock` is false for the fixed times of the DST rule."""

    text: str
    fields: tuple[Field, ...]
    follows_clock: bool
    # What croniter computes: their union are the days of the expression.
    days: tuple[str, ...]

    def field(self, name: str) -> Field:
        return next(field for field in self.fields if field.kind.name == name)

    def times(self, start: datetime) -> Iterator[datetime]:
        """Naive wall-clock times from `start` on, inclusive; they end where the calendar does."""
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        streams = [iter(_first_days(days, midnight)) for days in self.days]
        hours, minutes, seconds = (self._values(name) for name in ("hour", "minute", "second"))
        for day in _without_repeats(merge(*streams)):
            first = (start.hour, start.minute) if day == midnight else (0, 0)
            for hour, minute in product(hours, minutes):
                if (hour, minute) < first:
                    continue
                for second in seconds:
                    time = day.replace(hour=hour, minute=minute, second=second)
                    if time >= start:
                        yield time

    def _values(self, name: str) -> list[int]:
        found = next((field.values for field in self.fields if field.kind.name == name), {0})
        return sorted(found)


def split_zone(text: object) -> tuple[str | None, str]:
    """The zone of a `CRON_TZ=Zone` prefix, if there is one, and the rest; raises DefinitionError."""
    if not isinstance(text, str):
        raise DefinitionError(f"cron {text!r} is not a text: {_SHAPE}")
    prefixed = _ZONE_PREFIX.fullmatch(text.strip())
    return (prefixed[1], prefixed[2]) if prefixed else (None, text)


@lru_cache(maxsize=4096)
def parse(text: str, hash_name: str | None = None) -> CronExpression:
    """Check an expression and expand it; raises DefinitionError that names the field and the remedy."""
    words = _words(text)
    kinds: tuple[FieldKind, ...] = KINDS[-len(words) :]
    fields = tuple(
        parse_field(word, kind, f"cron {text!r}, field {position} ({kind.name})", hash_name)
        for position, (word, kind) in enumerate(zip(words, kinds, strict=True), start=1)
    )
    days = tuple(_days(fields))
    if not days:
        day, month, weekday = words[-3:]
        raise DefinitionError(
            f"cron {text!r} never comes: no date has day {day!r}, month {month!r} and weekday {weekday!r}"
        )
    by_name = {field.kind.name: field for field in fields}
    follows_clock = by_name["minute"].follows_clock or by_name["hour"].follows_clock
    return CronExpression(" ".join(text.split()), fields, follows_clock, days)


@cache
def croniter_major() -> int:
    """The major release of croniter: a stored schedule notes which one computed it."""
    return int(version("croniter").partition(".")[0])


def uses_hash(text: str) -> bool:
    """Whether the expression needs the schedule's name: whether a field has an `H`."""
    return re.search(r"(?:^|[\s,])[Hh](?:$|[\s,(/])", text) is not None


def explicit(expression: CronExpression) -> str:
    """The expression with every nickname and `H` replaced by what it stands for."""
    words = _words(expression.text)
    drawn = (uses_hash(word) for word in words)
    fields = zip(words, expression.fields, drawn, strict=True)
    return " ".join(_values(field) if is_drawn else word for word, field, is_drawn in fields)


def _words(text: object) -> list[str]:
    if not isinstance(text, str):
        raise DefinitionError(f"cron {text!r} is not a text: {_SHAPE}")
    shown = text if len(text) <= 60 else f"{text[:60]}..."
    if len(text) > MAX_LENGTH:
        raise DefinitionError(
            f"cron {shown!r} has {len(text)} characters, at most {MAX_LENGTH} are allowed"
        )
    if not text.isascii() or not text.replace("\t", " ").isprintable():
        raise DefinitionError(
            f"cron {shown!a} has a character that is not plain ASCII; retype it by hand"
        )
    words = text.split()
    if words and words[0].startswith("@"):
        words = _expand_nickname(words)
    if len(words) not in (5, 6):
        year = "; a year is not supported, use start= and end=" if len(words) == 7 else ""
        raise DefinitionError(f"cron {shown!r} has {len(words)} fields: {_SHAPE}{year}")
    return words


def _expand_nickname(words: list[str]) -> list[str]:
    name = words[0].lower()
    if name in NICKNAMES:
        if len(words) > 1:
            raise DefinitionError(f"cron {' '.join(words)!r}: {name} stands alone")
        return NICKNAMES[name].split()
    if name in _OTHER_NICKNAMES:
        raise DefinitionError(f"cron {name!r} is not a time: {_OTHER_NICKNAMES[name]}")
    near = difflib.get_close_matches(name, NICKNAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NICKNAMES)}"
    raise DefinitionError(f"cron {' '.join(words)!r}: {hint}")


def _days(fields: tuple[Field, ...]) -> Iterator[str]:
    """The days of the expression as croniter's own fields, in which nothing but lists of values is left.

    Only its days: croniter takes as long for a minute as for a day, and times of a day are simply counted.
    What no date fits is left out here: croniter would walk through decades to find that out.
    """
    day, month, weekday = fields[-3:]
    days, weekdays = _parts(day), _parts(weekday)
    if day.starts_with_star or weekday.starts_with_star:
        pairs = [(d, w) for d in days for w in weekdays]
    else:
        pairs = [(d, _ANY_WEEKDAY) for d in days] + [(_ANY_DAY, w) for w in weekdays]
    for day_part, weekday_part in pairs:
        if _has_a_date(day_part, month, weekday_part):
            days_text, weekdays_text = _day_text(day_part), _weekday_text(weekday_part)
            yield f"0 0 {days_text} {_values(month)} {weekdays_text}"


def _parts(field: Field) -> list[Field]:
    """A day field as parts that croniter keeps apart: plain values, and those counted in each month."""
    plain = replace(field, nth=frozenset(), last_day=False)
    counted = replace(field, values=frozenset())
    if field.covers_all:
        return [plain]
    return [part for part in (plain, counted) if part.values or part.nth or part.last_day]


def _has_a_date(day: Field, month: Field, weekday: Field) -> bool:
    """Whether any month of any year has such a day: each length of it, beginning with each weekday."""
    if day.covers_all and weekday.covers_all:
        return True
    shapes = (
        (length, first)
        for length in sorted({length for number in month.values for length in _LENGTHS[number]})
        for first in range(7)
    )
    return any(
        _fits(day, weekday, date, (first + date - 1) % 7, length)
        for length, first in shapes
        for date in range(1, length + 1)
    )


def _fits(day: Field, weekday: Field, date: int, on: int, length: int) -> bool:
    if date not in day.values and not (day.last_day and date == length):
        return False
    if on in weekday.values or (on, (date + 6) // 7) in weekday.nth:
        return True
    return (on, 0) in weekday.nth and date > length - 7


def _values(field: Field) -> str:
    return "*" if field.covers_all else ",".join(map(str, sorted(field.values)))


def _day_text(day: Field) -> str:
    return "L" if day.last_day else _values(day)


def _weekday_text(weekday: Field) -> str:
    counted = (f"L{day}" if n == 0 else f"{day}#{n}" for day, n in sorted(weekday.nth))
    return ",".join(counted) or _values(weekday)


class _FirstDays:
    """The days from a midnight on. The first ones are kept: of most expressions the days are the same."""

    def __init__(self, days: str, midnight: datetime) -> None:
        self._days = days
        self._search = _search(days, midnight)
        self._found: list[datetime] = []
        self._lock = Lock()

    def __iter__(self) -> Iterator[datetime]:
        for index in range(_KEPT_DAYS):
            if index == len(self._found):
                self._find(index)
            if index == len(self._found):
                return
            yield self._found[index]
        yield from _search(self._days, self._found[-1] + timedelta(seconds=1))

    def _find(self, index: int) -> None:
        with self._lock:  # unless another thread has found it meanwhile
            if index == len(self._found):
                self._found += islice(self._search, 1)


@lru_cache(maxsize=1024)
def _first_days(days: str, midnight: datetime) -> _FirstDays:
    return _FirstDays(days, midnight)


def _search(days: str, start: datetime) -> Iterator[datetime]:
    from croniter import CroniterBadDateError, croniter

    # It answers strictly after the time it is given.
    search = croniter(
        days,
        start - timedelta(seconds=1),
        day_or=False,
        max_years_between_matches=LONGEST_PAUSE_YEARS,
    )
    while True:
        try:
            yield search.get_next(datetime)
        except (CroniterBadDateError, OverflowError, ValueError):  # no such date, or past year 9999
            return


def _without_repeats(times: Iterator[datetime]) -> Iterator[datetime]:
    previous = None
    for time in times:
        if time != previous:
            yield time
        previous = time
