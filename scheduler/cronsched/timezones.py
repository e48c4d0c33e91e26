"""Wall clocks: zones by name, their changes of offset, and what a daily time means on such a day.

The rule is Debian cron's. A fixed time that the clock jumps over runs once, at the end of the gap; one
that the clock shows twice runs in the first pass. Times that follow the clock (`*` hours or minutes) run
whenever the clock shows them. Moves of hours, such as a change of the date line, are a new clock.
"""

from __future__ import annotations

import difflib
import hashlib
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from cronqueue.errors import DefinitionError

DstGap = Literal["shift", "skip"]
DstOverlap = Literal["first", "last", "both"]
# Naive wall-clock times from the given one on, ascending; without an end, or until the rule has none.
WallTimes = Callable[[datetime], Iterator[datetime]]

DST_GAPS: tuple[str, ...] = get_args(DstGap)
DST_OVERLAPS: tuple[str, ...] = get_args(DstOverlap)
# Debian cron's limits: a clock that moved further was set anew. The daemon counts a jump of 180 minutes
# forwards as 181, hence a gap must be shorter than that, while an overlap may be exactly as long.
LIMIT = timedelta(hours=3)
_SECOND = timedelta(seconds=1)
# More than any clock differs from UTC.
_FAR_FROM_UTC = timedelta(days=2)
_NONE_YET = datetime.min  # noqa: DTZ901 - a wall clock's time
_NONE_MORE = datetime.max  # noqa: DTZ901 - a wall clock's time
# Names that stand in some zone folders but mean another thing on each host, or count leap seconds.
_UNPORTABLE = ("localtime", "posixrules", "Factory", "posix/", "right/")


@dataclass(frozen=True, slots=True)
class Transition:
    """The instant from which on a zone's clock shows another offset."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def gap(self) -> timedelta:
        """What the clock jumps over; zero where it does not, or where it is a new clock."""
        jump = self.after - self.before
        return jump if timedelta(0) < jump < LIMIT else timedelta(0)

    @property
    def overlap(self) -> timedelta:
        """What the clock shows twice; zero where it does not, or where it is a new clock."""
        jump = self.before - self.after
        return jump if timedelta(0) < jump <= LIMIT else timedelta(0)


@dataclass(frozen=True, slots=True)
class WallClock:
    """A zone, and what is made of times that its clock skips or repeats."""

    tz: str
    dst_gap: DstGap = "shift"
    dst_overlap: DstOverlap = "first"

    def instants(
        self, times: WallTimes, start: datetime, end: datetime, *, fixed: bool
    ) -> Iterator[datetime]:
        """The instants in [start, end), UTC, at which the clock shows `times`; ascending.

        `fixed` times obey the two knobs; others follow the clock. The answer does not depend on where
        the range begins or is cut.
        """
        window = _Window(times)
        for segment in _segments(self.tz, start, end):
            opening = segment.opening
            at_gap_end = False
            if fixed and self.dst_gap == "shift" and opening and opening.at == segment.start:
                at_gap_end = window.has_any(_wall(opening.at, opening.before), opening.gap)
            if at_gap_end:
                yield segment.start
            for instant in segment.instants(window):
                if at_gap_end and instant == segment.start:
                    continue
                if not fixed or self._keeps(segment, instant):
                    yield instant

    def _keeps(self, segment: _Segment, instant: datetime) -> bool:
        opening, closing = segment.opening, segment.closing
        if self.dst_overlap == "first" and opening:
            return instant >= opening.at + opening.overlap
        if self.dst_overlap == "last" and closing:
            return instant < closing.at - closing.overlap
        return True


def check_zone(name: object) -> str:
    """The IANA name if there is such a zone; raises DefinitionError with the nearest names."""
    text = name.key if isinstance(name, ZoneInfo) else name
    if not isinstance(text, str) or not text:
        raise DefinitionError(f'tz {name!r}: give the name of a zone, such as "Europe/London"')
    if text.startswith(_UNPORTABLE):
        raise DefinitionError(
            f'tz {text!r} depends on the host: name a zone, such as "Europe/London"'
        )
    try:
        ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise DefinitionError(f"tz {text!r} is not a known time zone{_suggestion(text)}") from None
    return text


def first_shown(tz: str, wall: datetime, start: datetime | None = None) -> datetime:
    """The first instant (from `start` on) at which the clock shows the time or has jumped over it."""
    near = wall.replace(tzinfo=UTC) - _FAR_FROM_UTC
    begin = near if start is None else max(near, start)
    for segment in _segments(tz, begin, near + 4 * _FAR_FROM_UTC):
        if wall < _wall(segment.end, segment.offset):
            shown_since = _wall(segment.start, segment.offset)
            return segment.start + max(wall - shown_since, timedelta(0))
    raise ValueError(f"the clock of {tz} shows {wall} only before {start}")


def wall_clock(tz: str, moment: datetime) -> datetime:
    """What the zone's clock shows at that moment, as a naive datetime."""
    return moment.astimezone(ZoneInfo(tz)).replace(tzinfo=None)


def utc_offset(tz: str, moment: datetime) -> timedelta:
    """What the zone's clock is ahead of UTC at that moment."""
    offset = moment.astimezone(ZoneInfo(tz)).utcoffset()
    assert offset is not None  # an aware datetime has one
    return offset


def transitions(tz: str, start: datetime, end: datetime) -> Iterator[Transition]:
    """The zone's changes of offset in [start, end]."""
    for year in range(start.year, min(end.year, 9998) + 1):
        for transition in _transitions_of_year(tz, year):
            if start <= transition.at <= end:
                yield transition


def offsets_fingerprint(tz: str, start: datetime, end: datetime) -> str:
    """SHA-256 of the zone's offsets in the range: it changes when an update of tzdata moves a clock."""
    changes = [f"{change.at.isoformat()} {change.after}" for change in transitions(tz, start, end)]
    return hashlib.sha256("\n".join([str(utc_offset(tz, start)), *changes]).encode()).hexdigest()


def _suggestion(text: str) -> str:
    names = sorted(
        name for name in zoneinfo.available_timezones() if not name.startswith(_UNPORTABLE)
    )
    by_lower = {name.lower(): name for name in names}
    by_city = {name.lower().rpartition("/")[2]: name for name in names}
    wanted = text.lower().replace(" ", "_")
    near = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=0.6)
    city = difflib.get_close_matches(wanted, by_city, n=1, cutoff=0.8)
    best = by_lower[near[0]] if near else by_city[city[0]] if city else None
    return f": did you mean {best!r}?" if best else ': names are like "Europe/London" or "UTC"'


@lru_cache(maxsize=8192)
def _transitions_of_year(tz: str, year: int) -> tuple[Transition, ...]:
    """Found by looking once a day, on a grid that does not depend on the question."""
    found = []
    low = datetime(year, 1, 1, tzinfo=UTC)
    end = datetime(year + 1, 1, 1, tzinfo=UTC)
    before = utc_offset(tz, low)
    while low < end:
        high = low + timedelta(days=1)
        after = utc_offset(tz, high)
        if after != before:
            found.append(Transition(_first_with_another_offset(tz, low, high), before, after))
        low, before = high, after
    return tuple(found)


def _first_with_another_offset(tz: str, low: datetime, high: datetime) -> datetime:
    before = utc_offset(tz, low)
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if utc_offset(tz, middle) == before:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of one offset, and the changes that are near enough to its ends to matter."""

    start: datetime
    end: datetime
    offset: timedelta
    opening: Transition | None
    closing: Transition | None

    def instants(self, window: _Window) -> Iterator[datetime]:
        for wall in window.between(_wall(self.start, self.offset), _wall(self.end, self.offset)):
            yield wall.replace(tzinfo=UTC) - self.offset


def _segments(tz: str, start: datetime, end: datetime) -> Iterator[_Segment]:
    if start >= end:
        return
    opening: Transition | None = None
    begin, offset = start, utc_offset(tz, start)
    for change in transitions(tz, start - LIMIT, end + LIMIT):
        if change.at <= start:
            opening = change
            continue
        yield _Segment(begin, min(change.at, end), offset, opening, change)
        if change.at >= end:
            return
        begin, offset, opening = change.at, change.after, change
    yield _Segment(begin, end, offset, opening, None)


class _Window:
    """Wall times by range. It remembers where none are, so that the segments of a long pause cost nothing."""

    def __init__(self, times: WallTimes) -> None:
        self._times = times
        self._empty_from = self._empty_until = _NONE_YET

    def between(self, low: datetime, high: datetime) -> Iterator[datetime]:
        if self._empty_from <= low and high <= self._empty_until:
            return
        searched_from = low
        for wall in self._times(low):
            if wall >= high:
                self._empty_from, self._empty_until = searched_from, wall
                return
            yield wall
            searched_from = wall + _SECOND
        self._empty_from, self._empty_until = searched_from, _NONE_MORE

    def has_any(self, low: datetime, length: timedelta) -> bool:
        return any(True for _ in self.between(low, low + length)) if length else False


def _wall(moment: datetime, offset: timedelta) -> datetime:
    return (moment + offset).replace(tzinfo=None)
