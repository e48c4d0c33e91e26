"""Triggers: rules that yield instants, each a function of the rule alone.

Wherever a search begins and however a range is cut, the instants are the same; so two daemons, a restart
and a preview agree, and the primary key of the occurrences makes double insertion harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Any, Protocol, cast

from cronqueue.errors import CronqueueError, DefinitionError
from cronsched import cronexpr
from cronsched.timezones import DST_GAPS, DST_OVERLAPS, DstGap, DstOverlap, WallClock, check_zone

Spec = dict[str, object]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# How far ahead `next_after` looks: past the longest pause of any rule that ever comes again.
SEARCH_LIMIT = timedelta(days=366 * cronexpr.LONGEST_PAUSE_YEARS)
# Tries at an instant that several rules share, before they count as never meeting.
_MEETING_TRIES = 2_000
_SECOND = timedelta(seconds=1)
_LATEST = datetime(9998, 12, 31, tzinfo=UTC)


class OpaqueTrigger(CronqueueError):
    """A stored trigger of a class that only the schedule file knows; load the file to compute it."""


class SearchExhausted(CronqueueError):
    """Triggers joined by "and" do not meet within a reasonable search."""


class Trigger(Protocol):
    """A rule for instants. Implementations are frozen values."""

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The instants in [start, end): aware, UTC, whole seconds, ascending, computed lazily."""

    def spec(self) -> Spec:
        """The rule as JSON-able values, from which `trigger_from_spec` makes an equal trigger."""

    def describe(self) -> str:
        """The rule in plain words."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression on the clock of a zone. `H` fields are drawn from `hash_name`."""

    expression: str
    tz: str = "UTC"
    dst_gap: DstGap = "shift"
    dst_overlap: DstOverlap = "first"
    hash_name: str | None = None

    def __post_init__(self) -> None:
        check_zone(self.tz)
        check_dst(self.dst_gap, self.dst_overlap)
        parsed = cronexpr.parse(self.expression, self.hash_name)
        object.__setattr__(self, "expression", parsed.text)
        if not cronexpr.uses_hash(self.expression):
            object.__setattr__(self, "hash_name", None)

    @property
    def parsed(self) -> cronexpr.CronExpression:
        return cronexpr.parse(self.expression, self.hash_name)

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        clock = WallClock(self.tz, self.dst_gap, self.dst_overlap)
        parsed = self.parsed
        return clock.instants(
            parsed.times, whole_second(start), whole_second(end), fixed=not parsed.follows_clock
        )

    def spec(self) -> Spec:
        return {
            "kind": "cron",
            "expression": self.expression,
            "tz": self.tz,
            "dst_gap": self.dst_gap,
            "dst_overlap": self.dst_overlap,
            "hash_name": self.hash_name,
        }

    def describe(self) -> str:
        from cronsched.describe import cron_words

        return cron_words(self.parsed, self.tz)


@dataclass(frozen=True, slots=True)
class Every:
    """Elapsed time: every `seconds`, counted from `anchor` in both directions."""

    seconds: int
    anchor: datetime = EPOCH

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise DefinitionError("every: give whole seconds, at least one")
        check_aware("anchor", self.anchor)
        object.__setattr__(self, "anchor", self.anchor.astimezone(UTC).replace(microsecond=0))

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        period = timedelta(seconds=self.seconds)
        instant = self.anchor - (self.anchor - whole_second(start)) // period * period
        while instant < end:
            yield instant
            instant += period

    def spec(self) -> Spec:
        return {"kind": "every", "seconds": self.seconds, "anchor": to_text(self.anchor)}

    def describe(self) -> str:
        from cronsched.describe import every_words

        return every_words(self.seconds, None if self.anchor == EPOCH else self.anchor)


@dataclass(frozen=True, slots=True)
class Once:
    """A list of instants, each of which comes once."""

    instants: tuple[datetime, ...]

    def __post_init__(self) -> None:
        for instant in self.instants:
            check_aware("time", instant)
        whole = {instant.astimezone(UTC).replace(microsecond=0) for instant in self.instants}
        object.__setattr__(self, "instants", tuple(sorted(whole)))

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        return (instant for instant in self.instants if start <= instant < end)

    def spec(self) -> Spec:
        return {"kind": "at", "times": [to_text(instant) for instant in self.instants]}

    def describe(self) -> str:
        return "at " + ", ".join(f"{instant:%Y-%m-%d %H:%M:%S} UTC" for instant in self.instants)


@dataclass(frozen=True, slots=True)
class After:
    """`seconds` after the run before has ended. Nobody knows that ahead: `chains` writes one at a time."""

    seconds: int

    def __post_init__(self) -> None:
        if self.seconds < 1:
            raise DefinitionError("after: give whole seconds, at least one")

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        return iter(())

    def spec(self) -> Spec:
        return {"kind": "after", "seconds": self.seconds}

    def describe(self) -> str:
        from cronsched.describe import after_words

        return after_words(self.seconds)


@dataclass(frozen=True, slots=True)
class Union:
    """Whatever any of the triggers yields; what several yield comes once."""

    triggers: tuple[Trigger, ...]

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        previous = None
        for instant in merge(*(trigger.between(start, end) for trigger in self.triggers)):
            if instant != previous:
                yield instant
            previous = instant

    def spec(self) -> Spec:
        return {"kind": "union", "of": [trigger.spec() for trigger in self.triggers]}

    def describe(self) -> str:
        return " and ".join(trigger.describe() for trigger in self.triggers)


@dataclass(frozen=True, slots=True)
class Meeting:
    """The instants that all of the triggers yield."""

    triggers: tuple[Trigger, ...]

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Raises SearchExhausted where the triggers pass each other again and again."""
        moment, tries = start, 0
        while True:
            firsts = [next(trigger.between(moment, end), None) for trigger in self.triggers]
            instants = [first for first in firsts if first is not None]
            if not instants or len(instants) < len(firsts):
                return
            moment = max(instants)
            if min(instants) == moment:
                yield moment
                moment, tries = moment + _SECOND, 0
            tries += 1
            if tries > _MEETING_TRIES:
                raise SearchExhausted(
                    f"{self.describe()}: do not meet between {start:%Y-%m-%d} and {moment:%Y-%m-%d}; "
                    "write one rule instead of joining two by and"
                )

    def spec(self) -> Spec:
        return {"kind": "meeting", "of": [trigger.spec() for trigger in self.triggers]}

    def describe(self) -> str:
        return " and at the same time ".join(trigger.describe() for trigger in self.triggers)


@dataclass(frozen=True, slots=True)
class Bounded:
    """A trigger from `start` until `end`, both inclusive; None is no bound."""

    trigger: Trigger
    start: datetime | None
    end: datetime | None

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        return self.trigger.between(*cut(start, end, self.start, self.end))

    def spec(self) -> Spec:
        return {
            "kind": "bounded",
            "of": self.trigger.spec(),
            "start": None if self.start is None else to_text(self.start),
            "end": None if self.end is None else to_text(self.end),
        }

    def describe(self) -> str:
        since = f", from {self.start:%Y-%m-%d %H:%M:%S %Z}" if self.start else ""
        until = f", until {self.end:%Y-%m-%d %H:%M:%S %Z}" if self.end else ""
        return f"{self.trigger.describe()}{since}{until}"


def trigger_from_spec(spec: Mapping[str, Any]) -> Trigger:
    """The trigger whose `spec()` this is; raises OpaqueTrigger where only its file can compute it."""
    kind = spec.get("kind")
    if kind == "cron":
        return Cron(**_without_kind(spec))
    if kind == "every":
        return Every(spec["seconds"], from_text(spec["anchor"]))
    if kind == "after":
        return After(spec["seconds"])
    if kind == "at":
        return Once(tuple(from_text(text) for text in spec["times"]))
    if kind == "union":
        return Union(tuple(trigger_from_spec(part) for part in spec["of"]))
    if kind == "meeting":
        return Meeting(tuple(trigger_from_spec(part) for part in spec["of"]))
    if kind == "bounded":
        ends = (None if spec[side] is None else from_text(spec[side]) for side in ("start", "end"))
        return Bounded(trigger_from_spec(spec["of"]), *ends)
    if kind == "calendar_every":
        from cronsched.calendar_intervals import CalendarEvery

        return CalendarEvery.from_spec(spec)
    if kind == "excluding":
        from cronsched.exclusions import Excluding

        return Excluding.from_spec(spec)
    from cronsched.apscheduler_triggers import trigger_from_foreign_spec

    return trigger_from_foreign_spec(spec)


def next_after(trigger: Trigger, moment: datetime) -> datetime | None:
    """The first instant strictly after the moment; None where there is none within 41 years."""
    check_aware("moment", moment)
    start = moment.astimezone(UTC).replace(microsecond=0) + _SECOND
    end = min(start, _LATEST - SEARCH_LIMIT) + SEARCH_LIMIT
    return next(trigger.between(start, end), None)


def cron_trigger(
    text: str,
    *,
    tz: str | None = None,
    default_tz: str = "UTC",
    dst_gap: DstGap = "shift",
    dst_overlap: DstOverlap = "first",
    hash_name: str | None = None,
) -> Cron:
    """A cron trigger from text that may begin with `CRON_TZ=Zone`; raises DefinitionError."""
    prefix, expression = cronexpr.split_zone(text)
    if prefix and tz and prefix != tz:
        raise DefinitionError(
            f"cron {text!r} names the zone {prefix!r}, tz= names {tz!r}: keep one of them"
        )
    return Cron(expression, prefix or tz or default_tz, dst_gap, dst_overlap, hash_name)


def zone_of(trigger: Trigger) -> str | None:
    """The zone whose clock the trigger goes by; None for elapsed time and fixed instants."""
    tz: str | None = getattr(trigger, "tz", None)
    if tz is None and isinstance(trigger, Union | Meeting):
        return next(filter(None, map(zone_of, trigger.triggers)), None)
    return zone_of(trigger.trigger) if isinstance(trigger, Bounded) else tz


def cut(
    start: datetime, end: datetime, first: datetime | None, last: datetime | None
) -> tuple[datetime, datetime]:
    """[start, end) without what lies before `first` and after `last`, both of which stay in."""
    if first is not None:
        start = max(start, first)
    if last is not None:
        end = min(end, last.replace(microsecond=0) + _SECOND)
    return start, end


def check_aware(what: str, moment: object) -> datetime:
    """The moment if it says its offset; raises DefinitionError with the fix."""
    if not isinstance(moment, datetime):
        raise DefinitionError(f"{what} {moment!r}: give an aware datetime")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise DefinitionError(
            f"{what} {moment!r} says no zone: write datetime(..., tzinfo=UTC) or tzinfo=ZoneInfo(...)"
        )
    return moment


def check_dst(dst_gap: object, dst_overlap: object) -> None:
    """Raises DefinitionError unless both knobs have one of their positions."""
    for name, value, choices in (
        ("dst_gap", dst_gap, DST_GAPS),
        ("dst_overlap", dst_overlap, DST_OVERLAPS),
    ):
        if value not in choices:
            raise DefinitionError(
                f"{name} {value!r}: choose one of {', '.join(map(repr, choices))}"
            )


def whole_second(moment: datetime) -> datetime:
    """The moment in UTC, rounded up to a whole second."""
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=0) + _SECOND if moment.microsecond else moment


def to_text(moment: datetime) -> str:
    """The moment as RFC 3339 UTC with whole seconds: `2026-01-02T03:04:05Z`."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def from_text(text: str) -> datetime:
    """The moment that `to_text` wrote."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _without_kind(spec: Mapping[str, Any]) -> dict[str, Any]:
    return cast(dict[str, Any], {key: value for key, value in spec.items() if key != "kind"})
