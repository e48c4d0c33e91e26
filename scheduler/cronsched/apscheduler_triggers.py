"""APScheduler 3 triggers, taken over by value.

Its own classes are stored by what was said in them and computed here: APScheduler's answers depend on when
it is asked (defaults of "now", fires of the other half of an OrTrigger, overlaps of the clock), it drops
days whose time the clock skips, and an AndTrigger may search for ever. `own_triggers` has the classes that
it does not bring along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import count
from typing import Any, cast

from cronqueue.errors import DefinitionError
from cronsched.almanac import KIND, OwnTrigger
from cronsched.cronexpr import LONGEST_PAUSE_YEARS
from cronsched.own_triggers import adopt_own
from cronsched.timezones import DstGap, DstOverlap, WallClock, check_zone
from cronsched.triggers import (
    EPOCH,
    Bounded,
    Every,
    Meeting,
    Once,
    SearchExhausted,
    Spec,
    Trigger,
    Union,
    next_after,
    whole_second,
)

_SECOND = timedelta(seconds=1)
# A start that APScheduler took from the clock was taken while the file was being read.
_LOADING_TIME = timedelta(seconds=60)
_CRON_FIELDS = ("year", "month", "day", "week", "day_of_week", "hour", "minute", "second")
# Where the search for an expression that never comes begins.
_REFERENCE = datetime(2001, 1, 1)  # noqa: DTZ001 - a wall clock's time


@dataclass(frozen=True, slots=True)
class ApsCron:
    """APScheduler's CronTrigger: weekday 0 is Monday, all fields must hold; on the clock of its zone."""

    fields: tuple[str, ...]
    tz: str
    dst_gap: DstGap = "shift"
    dst_overlap: DstOverlap = "first"

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        named = dict(zip(_CRON_FIELDS, self.fields, strict=True))
        fixed = not named["hour"].startswith("*") and not named["minute"].startswith("*")
        clock = WallClock(self.tz, self.dst_gap, self.dst_overlap)
        return clock.instants(self.times, whole_second(start), whole_second(end), fixed=fixed)

    def times(self, start: datetime) -> Iterator[datetime]:
        """Naive wall-clock times from `start` on."""
        from apscheduler.triggers.cron import CronTrigger

        named = dict(zip(_CRON_FIELDS, self.fields, strict=True))
        wall = start.replace(tzinfo=UTC)
        while True:
            # Without an end it would walk to the year 9999 for a date that never comes.
            last = wall.replace(year=min(wall.year + LONGEST_PAUSE_YEARS, 9998), day=1)
            trigger = CronTrigger(**named, timezone=UTC, end_date=last)
            found = trigger.get_next_fire_time(None, wall)
            if found is None:
                return
            yield found.replace(tzinfo=None)
            wall = found + _SECOND

    def spec(self) -> Spec:
        return {
            "kind": "apscheduler.cron",
            "fields": list(self.fields),
            "tz": self.tz,
            "dst_gap": self.dst_gap,
            "dst_overlap": self.dst_overlap,
        }

    def describe(self) -> str:
        said = [
            f"{name}={text}"
            for name, text in zip(_CRON_FIELDS, self.fields, strict=True)
            if text != "*"
        ]
        return f"cron {', '.join(said) or 'every second'} ({self.tz})"


@dataclass(frozen=True, slots=True)
class ApsCalendar:
    """APScheduler's CalendarIntervalTrigger: `months`, then `days`, added to a date again and again.

    A month without the day of the start is left out, as APScheduler does. A day whose time the clock
    skips is kept: it runs at the end of the gap.
    """

    first: date
    months: int
    days: int
    at: time
    tz: str
    dst_gap: DstGap = "shift"
    dst_overlap: DstOverlap = "first"

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        clock = WallClock(self.tz, self.dst_gap, self.dst_overlap)
        return clock.instants(self.times, whole_second(start), whole_second(end), fixed=True)

    def times(self, start: datetime) -> Iterator[datetime]:
        """Naive wall-clock times from `start` on."""
        day: date | None = self._day_near(start.date())
        while day is not None:
            wall = datetime.combine(day, self.at)
            if wall >= start:
                yield wall
            day = self._following(day)

    def _day_near(self, day: date) -> date:
        if self.months or day <= self.first:
            return self.first
        return self.first + (day - self.first) // timedelta(self.days) * timedelta(self.days)

    def _following(self, day: date) -> date | None:
        for months in count(self.months, max(self.months, 1)):
            year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
            if year >= 9998:
                return None
            try:
                return date(year, month + 1, day.day) + timedelta(self.days)
            except ValueError:  # this month has no such day: one interval further
                continue
        return None

    def spec(self) -> Spec:
        return {
            "kind": "apscheduler.calendar",
            "first": self.first.isoformat(),
            "months": self.months,
            "days": self.days,
            "at": self.at.isoformat(),
            "tz": self.tz,
            "dst_gap": self.dst_gap,
            "dst_overlap": self.dst_overlap,
        }

    def describe(self) -> str:
        steps = [
            f"{size} {unit}"
            for size, unit in ((self.months, "months"), (self.days, "days"))
            if size
        ]
        return f"every {' and '.join(steps)} from {self.first} at {self.at} ({self.tz})"


def adopt(
    trigger: object, now: datetime, dst_gap: DstGap = "shift", dst_overlap: DstOverlap = "first"
) -> Trigger:
    """Our trigger for an APScheduler trigger object; raises DefinitionError where it cannot be one.

    What APScheduler filled in from the clock is recognised by `now`: such an interval is counted from
    1970, such a date is refused.
    """
    try:
        adopted = _adopt(trigger, now, (dst_gap, dst_overlap))
        first = next_after(adopted, now)
    except SearchExhausted as error:
        raise DefinitionError(str(error)) from None
    parts = adopted.triggers if isinstance(adopted, Meeting) else ()
    if parts and first is None and all(next_after(part, now) for part in parts):
        raise DefinitionError(f"{adopted.describe()}: never meet")
    return adopted


def trigger_from_foreign_spec(spec: Mapping[str, Any]) -> Trigger:
    """The part of `trigger_from_spec` for the kinds of this module."""
    values = {key: value for key, value in spec.items() if key != "kind"}
    if spec["kind"] == "apscheduler.cron":
        return ApsCron(**(values | {"fields": tuple(values["fields"])}))
    if spec["kind"] == "apscheduler.calendar":
        first, at = date.fromisoformat(values["first"]), time.fromisoformat(values["at"])
        return ApsCalendar(**(values | {"first": first, "at": at}))
    if spec["kind"] == KIND:
        return OwnTrigger.from_spec(spec)
    raise DefinitionError(f"trigger of kind {spec['kind']!r} is not known to this release")


_Knobs = tuple[DstGap, DstOverlap]


def _adopt(trigger: object, now: datetime, knobs: _Knobs) -> Trigger:
    if not callable(getattr(trigger, "get_next_fire_time", None)):
        raise DefinitionError(
            f"on() takes an APScheduler 3 trigger object such as CronTrigger(hour=3), not {trigger!r}"
        )
    if getattr(trigger, "jitter", None):
        raise DefinitionError(
            f"{type(trigger).__name__}(jitter=...) is drawn anew at each look: "
            "give jitter= to the schedule instead"
        )
    adopter = _adopters().get(type(trigger))
    return adopt_own(trigger, now) if adopter is None else adopter(trigger, now, knobs)


def _adopters() -> dict[type, Callable[[Any, datetime, _Knobs], Trigger]]:
    from apscheduler.triggers.calendarinterval import (
        CalendarIntervalTrigger,
    )
    from apscheduler.triggers.combining import (
        AndTrigger,
        OrTrigger,
    )
    from apscheduler.triggers.cron import CronTrigger
    from apscheduler.triggers.date import DateTrigger
    from apscheduler.triggers.interval import IntervalTrigger

    return {
        CronTrigger: _cron,
        IntervalTrigger: _interval,
        DateTrigger: _date,
        CalendarIntervalTrigger: _calendar,
        AndTrigger: lambda trigger, now, knobs: Meeting(_parts(trigger, now, knobs)),
        OrTrigger: lambda trigger, now, knobs: Union(_parts(trigger, now, knobs)),
    }


def _cron(trigger: Any, now: datetime, knobs: _Knobs) -> Trigger:
    fields = tuple(str(part) for part in trigger.fields)
    cron = ApsCron(fields, _zone_name(trigger.timezone), *knobs)
    if fields[0] == "*" and next(cron.times(_REFERENCE), None) is None:
        raise DefinitionError(f"{trigger!r} never comes: no date fits all of its fields")
    return _bounded(cron, trigger.start_date, trigger.end_date)


def _interval(trigger: Any, now: datetime, knobs: _Knobs) -> Trigger:
    if trigger.interval % _SECOND or trigger.interval < _SECOND:
        raise DefinitionError(f"{trigger!r}: an interval is whole seconds, at least one")
    seconds = trigger.interval // _SECOND
    if _taken_from_clock(trigger.start_date, now + trigger.interval):
        return _bounded(Every(seconds, EPOCH), None, trigger.end_date)
    return _bounded(Every(seconds, trigger.start_date), trigger.start_date, trigger.end_date)


def _date(trigger: Any, now: datetime, knobs: _Knobs) -> Trigger:
    if _taken_from_clock(trigger.run_date, now):
        raise DefinitionError(
            "DateTrigger() without run_date means now, at each load of the file: "
            "give run_date=, or enqueue the task"
        )
    return Once((trigger.run_date,))


def _calendar(trigger: Any, now: datetime, knobs: _Knobs) -> Trigger:
    state = trigger.__getstate__()
    years, months, weeks, days = state["interval"]
    if min(years, months, weeks, days) < 0:
        raise DefinitionError(f"{trigger!r}: intervals are not negative")
    zone = _zone_name(trigger.timezone)
    interval = (years * 12 + months, weeks * 7 + days)
    calendar = ApsCalendar(trigger.start_date, *interval, time(*state["time"]), zone, *knobs)
    if trigger.end_date is None:
        return calendar
    last = datetime.combine(trigger.end_date, time.max, tzinfo=trigger.timezone)
    return Bounded(calendar, None, last.astimezone(UTC))


def _parts(trigger: Any, now: datetime, knobs: _Knobs) -> tuple[Trigger, ...]:
    if not trigger.triggers:
        raise DefinitionError(
            f"{type(trigger).__name__} joins no triggers: give it a list of at least one"
        )
    return tuple(_adopt(part, now, knobs) for part in trigger.triggers)


def _bounded(trigger: Trigger, start: datetime | None, end: datetime | None) -> Trigger:
    if start is None and end is None:
        return trigger
    return Bounded(trigger, start and whole_second(start), end and end.astimezone(UTC))


def _taken_from_clock(moment: datetime, expected: datetime) -> bool:
    # What people write has no microseconds, what a clock says nearly always has.
    return bool(moment.microsecond) and abs(moment - expected) <= _LOADING_TIME


def _zone_name(zone: tzinfo) -> str:
    key = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if key is None and zone.utcoffset(None) == timedelta(0):
        key = "UTC"
    if key is None:
        raise DefinitionError(
            f'{zone!r} has no name: give the trigger timezone="Europe/London" or the like'
        )
    return check_zone(cast(str, key))
