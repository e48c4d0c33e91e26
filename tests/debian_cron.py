"""Debian's cron daemon by its own definition, the slow way: every minute that a zone's clock shows is walked.

It is the judge of `cronsched`, so it shares nothing with it: no code, no cron library, only `zoneinfo`.
The daemon keeps a clock of its own and compares it with the wall clock at each wake-up. One minute on is
normal. Up to three hours on, the minutes in between were missed: fixed times among them run now, times
that follow the clock do not. Up to three hours back, only the latter run until the wall clock has caught
up. Anything further is a new clock. The daemon starts a job once for each missed time; here once for all.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE, SECOND, HOUR = timedelta(minutes=1), timedelta(seconds=1), timedelta(hours=1)
LIMIT = timedelta(hours=3)
_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_NOT_ZONES = ("localtime", "posixrules", "Factory", "posix/", "right/")


@dataclass(frozen=True, slots=True)
class WakeUp:
    """One step of the daemon. `missed` are the times jumped over; a repeated time was shown before."""

    instant: datetime
    wall: datetime
    missed: tuple[datetime, ...]
    repeated: bool
    comes_again: bool


@dataclass(frozen=True, slots=True)
class Expression:
    """Five or six fields of numbers, ranges, steps and lists, as sets."""

    fields: tuple[frozenset[int], ...]
    fixed: bool
    both_days: bool

    @classmethod
    def read(cls, text: str) -> Expression:
        words = text.split()
        minute, hour, day, _, weekday = words[-5:]
        words = words if len(words) == 6 else ["0", *words]
        return cls(
            tuple(_values(word, *bounds) for word, bounds in zip(words, _BOUNDS, strict=True)),
            fixed=not minute.startswith("*") and not hour.startswith("*"),
            both_days=day.startswith("*") or weekday.startswith("*"),
        )

    def matches(self, wall: datetime) -> bool:
        seconds, minutes, hours, days, months, weekdays = self.fields
        if wall.minute not in minutes or wall.hour not in hours or wall.second not in seconds:
            return False
        day, weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return wall.month in months and (day and weekday if self.both_days else day or weekday)


def zone_names() -> list[str]:
    """Every zone of the installed tzdata."""
    return sorted(
        name for name in zoneinfo.available_timezones() if not name.startswith(_NOT_ZONES)
    )


def clock_changes(tz: str, first_year: int, last_year: int) -> Iterator[datetime]:
    """The instants of those years at which the zone's offset changes: every hour is looked at."""
    zone = ZoneInfo(tz)
    instant, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC)
    offset = instant.astimezone(zone).utcoffset()
    while instant < end:
        following = instant + HOUR
        if following.astimezone(zone).utcoffset() != offset:
            while instant.astimezone(zone).utcoffset() == offset:
                instant += MINUTE
            yield instant
            offset = following.astimezone(zone).utcoffset()
        instant = following


def wake_ups(tz: str, start: datetime, end: datetime, step: timedelta = MINUTE) -> list[WakeUp]:
    """The daemon's steps in [start, end). It should start well before a change of the clock."""
    zone = ZoneInfo(tz)
    found: list[WakeUp] = []
    own_clock = (start - step).astimezone(zone).replace(tzinfo=None)
    instant = start
    while instant < end:
        wall = instant.astimezone(zone).replace(tzinfo=None)
        moved = wall - own_clock
        repeated = -LIMIT <= moved <= timedelta(0)
        missed: tuple[datetime, ...] = ()
        if step < moved <= LIMIT:
            missed = tuple(own_clock + number * step for number in range(1, moved // step))
        if not repeated:
            own_clock = wall
        found.append(WakeUp(instant, wall, missed, repeated, comes_again=False))
        instant += step
    return list(_with_repetitions(found))


def runs(
    expression: Expression,
    steps: list[WakeUp],
    dst_gap: str = "shift",
    dst_overlap: str = "first",
) -> list[datetime]:
    """The steps at which the daemon would start the job; other settings of the two knobs are ours."""
    if not expression.fixed:
        return [step.instant for step in steps if expression.matches(step.wall)]
    found = []
    for step in steps:
        passed_over = step.repeated if dst_overlap == "first" else False
        passed_over |= step.comes_again and dst_overlap == "last"
        due = expression.matches(step.wall) and not passed_over
        made_up = dst_gap == "shift" and any(map(expression.matches, step.missed))
        if due or made_up:
            found.append(step.instant)
    return found


def _with_repetitions(steps: list[WakeUp]) -> Iterator[WakeUp]:
    again = {step.wall for step in steps if step.repeated}
    for step in steps:
        comes_again = step.wall in again and not step.repeated
        yield WakeUp(step.instant, step.wall, step.missed, step.repeated, comes_again)


def _values(text: str, low: int, high: int) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.replace("*", f"{low}-{high}").partition("-")
        end = int(last) if last else high if step else int(first)
        values |= set(range(int(first), end + 1, int(step or 1)))
    return frozenset(values)
