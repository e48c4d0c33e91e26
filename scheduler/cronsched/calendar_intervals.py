"""Calendar intervals: every so many days, weeks, months or years, at times of the wall clock."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal, get_args

from cronqueue.errors import DefinitionError
from cronsched.cronexpr import LONGEST_PAUSE_YEARS
from cronsched.timezones import DstGap, DstOverlap, WallClock, check_zone
from cronsched.triggers import Spec, check_dst, whole_second

MonthEnd = Literal["clamp", "skip"]

MONTH_ENDS: tuple[str, ...] = get_args(MonthEnd)
_MOST_MONTHS = 12 * (LONGEST_PAUSE_YEARS - 1)
_MOST_DAYS = 365 * (LONGEST_PAUSE_YEARS - 1)
_LAST_YEAR = 9998


@dataclass(frozen=True, slots=True)
class CalendarEvery:
    """Every `months` or every `days`, counted from the date `anchor` in both directions, at times of the day.

    Each date is counted from the anchor, not from the one before it: from 31 January, clamped, a month on
    is 28 February and two months on is 31 March.
    """

    anchor: date
    months: int
    days: int
    at: tuple[time, ...]
    tz: str = "UTC"
    month_end: MonthEnd = "clamp"
    dst_gap: DstGap = "shift"
    dst_overlap: DstOverlap = "first"

    def __post_init__(self) -> None:
        check_zone(self.tz)
        check_dst(self.dst_gap, self.dst_overlap)
        check_month_end(self.month_end)
        if (self.months > 0) == (self.days > 0) or min(self.months, self.days) < 0:
            raise DefinitionError(
                "calendar_every: give weeks and days, or months and years, as in calendar_every(months=3)"
            )
        if self.months > _MOST_MONTHS or self.days > _MOST_DAYS:
            raise DefinitionError(f"calendar_every: at most {LONGEST_PAUSE_YEARS - 1} years")
        if not self.at:
            raise DefinitionError('calendar_every: at is empty: give a time such as at="07:30"')
        object.__setattr__(self, "at", tuple(sorted(set(self.at))))

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        clock = WallClock(self.tz, self.dst_gap, self.dst_overlap)
        return clock.instants(self.times, whole_second(start), whole_second(end), fixed=True)

    def times(self, start: datetime) -> Iterator[datetime]:
        """Naive wall-clock times from `start` on."""
        for day in self._dates(start.date()):
            for at in self.at:
                wall = datetime.combine(day, at)
                if wall >= start:
                    yield wall

    def _dates(self, first: date) -> Iterator[date]:
        if self.days:
            step = timedelta(self.days)
            day = self.anchor - (self.anchor - first) // step * step
            while day.year <= _LAST_YEAR:
                yield day
                day += step
            return
        passed = (first.year - self.anchor.year) * 12 + first.month - self.anchor.month
        number = passed // self.months * self.months
        while (month := self.anchor.year * 12 + self.anchor.month - 1 + number) // 12 <= _LAST_YEAR:
            day_of_month = self._day_of(month // 12, month % 12 + 1)
            if day_of_month is not None:
                yield day_of_month
            number += self.months

    def _day_of(self, year: int, month: int) -> date | None:
        length = monthrange(year, month)[1]
        if self.anchor.day > length and self.month_end == "skip":
            return None
        return date(year, month, min(self.anchor.day, length))

    def spec(self) -> Spec:
        return {
            "kind": "calendar_every",
            "anchor": self.anchor.isoformat(),
            "months": self.months,
            "days": self.days,
            "at": [at.isoformat() for at in self.at],
            "tz": self.tz,
            "month_end": self.month_end,
            "dst_gap": self.dst_gap,
            "dst_overlap": self.dst_overlap,
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> CalendarEvery:
        """The trigger whose `spec()` this is."""
        values = {key: value for key, value in spec.items() if key != "kind"}
        read = {
            "anchor": date.fromisoformat(values["anchor"]),
            "at": tuple(time.fromisoformat(at) for at in values["at"]),
        }
        return cls(**values | read)

    def describe(self) -> str:
        from cronsched.describe import calendar_words

        words = calendar_words(self.months, self.days, self.anchor)
        at = ", ".join(at.isoformat("seconds" if at.second else "minutes") for at in self.at)
        ends = self.months and self.anchor.day > 28
        end = f", {_END_WORDS[self.month_end]}" if ends else ""
        return f"{words} at {at}{end} ({self.tz})"


_END_WORDS = {
    "clamp": "in a shorter month on its last day",
    "skip": "shorter months left out",
}


def check_month_end(month_end: object) -> None:
    """Raises DefinitionError unless it is one of the two."""
    if month_end not in MONTH_ENDS:
        raise DefinitionError(
            f"month_end {month_end!r}: choose one of {', '.join(map(repr, MONTH_ENDS))}"
        )
