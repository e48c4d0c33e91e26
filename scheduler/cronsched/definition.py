"""One schedule as it was declared: a frozen value, checked when it is made."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from cronqueue.errors import CronqueueError, DefinitionError
from cronqueue.registry import (
    DEFAULT_QUEUE,
    check_max_attempts,
    check_priority,
    check_queue,
    check_task_name,
)
from cronsched.almanac import Almanac, almanacs_in, follow_up, rule_of
from cronsched.options import CatchUp, OnRemove, Overlap, check_schedule_name
from cronsched.timezones import DstGap, DstOverlap, check_zone
from cronsched.triggers import (
    OpaqueTrigger,
    Trigger,
    cut,
    from_text,
    to_text,
    trigger_from_spec,
)

# What decides when occurrences are and run. A change of it is a new revision of the schedule.
_TIMING = ("trigger", "jitter", "start", "end", "enabled", "splay_place", "splay_places")
# Left out where they say nothing: what was stored before there were any of them means the same still.
_OPTIONAL = (
    "pause_after_failures",
    "on_missed",
    "on_missed_queue",
    "must_start_within",
    "must_finish_by",
    "ping",
    "splay",
    "splay_place",
    "splay_places",
)
_DURATIONS = (
    "timeout",
    "jitter",
    "catch_up_window",
    "misfire_after",
    "start_within",
    "horizon",
    "must_start_within",
)
# Where it stands: no part of what it means.
_PLACE = ("source", "line")


class DefinitionFaults(DefinitionError):
    """Everything that is wrong with one declaration."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__("; ".join(messages))
        self.messages = tuple(messages)


@dataclass(frozen=True, slots=True)
class Definition:
    """A schedule. `source` is its file's name within the folder, a module's name, or "api".

    Durations are timedeltas, None means the general setting. `start` and `end` are the first and the
    last moment an occurrence may have. Raises DefinitionFaults.
    """

    name: str
    task: str
    trigger: Trigger
    args_json: str = '{"args":[],"kwargs":{}}'
    source: str = "api"
    line: int | None = None
    tz: str = "UTC"
    dst_gap: DstGap = "shift"
    dst_overlap: DstOverlap = "first"
    priority: int = 0
    queue: str = DEFAULT_QUEUE
    max_attempts: int | None = None
    timeout: timedelta | None = None
    jitter: timedelta = timedelta(0)
    overlap: Overlap = "skip"
    overlap_key: str | None = None
    catch_up: CatchUp = "latest"
    catch_up_window: timedelta | None = timedelta(days=1)
    catch_up_limit: int | None = 100
    misfire_after: timedelta = timedelta(seconds=60)
    start_within: timedelta | None = None
    start: datetime | None = None
    end: datetime | None = None
    enabled: bool = True
    horizon: timedelta | None = None
    tags: tuple[tuple[str, str], ...] = ()
    description: str | None = None
    renamed_from: str | None = None
    on_remove: OnRemove = "cancel"
    pause_after_failures: int | None = None
    on_missed: str | None = None
    on_missed_queue: str | None = None
    must_start_within: timedelta | None = None
    # So long after its time, or a time of day as text.
    must_finish_by: timedelta | str | None = None
    ping: str | None = None
    splay: str | None = None
    # Which place the schedule has among how many of its splay group; see `splaying`.
    splay_place: int | None = None
    splay_places: int | None = None

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise DefinitionFaults(faults)

    def occurrences(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The nominal instants in [start, end), as far as the schedule is enabled and within its bounds."""
        if not self.enabled:
            return iter(())
        return self.trigger.between(*cut(start, end, self.start, self.end))

    def run_at(self, planned_for: datetime, next_nominal: datetime | None) -> datetime:
        """When the occurrence becomes due: its instant plus a delay below `jitter`.

        The delay is drawn from a hash of name and instant, so everybody draws the same, and ends before
        the next occurrence, so their order is kept. A splay group shares the stretch out evenly instead.
        """
        span = self.jitter
        if not span:
            return planned_for
        if next_nominal is not None:
            span = min(span, next_nominal - planned_for)
        if self.splay_place is not None and self.splay_places is not None:
            return planned_for + span * self.splay_place // self.splay_places
        drawn = hashlib.sha256(f"{self.name}\n{to_text(planned_for)}".encode()).digest()[:8]
        microseconds = (span // timedelta(microseconds=1)) * int.from_bytes(drawn) >> 64
        return planned_for + timedelta(microseconds=microseconds)

    @property
    def timing_hash(self) -> str:
        """Changes with anything that moves an occurrence or its `run_at`."""
        return _timing_hash(self._values())

    @property
    def payload_hash(self) -> str:
        """Changes with anything else that the schedule means."""
        return _payload_hash(self._values())

    @property
    def fingerprint(self) -> str:
        """Changes with anything that the schedule means, not with the place where it is declared."""
        values = self._values()
        return _hash([self.name, _timing_hash(values), _payload_hash(values)])

    @property
    def is_watched(self) -> bool:
        """Whether something is to be done when it runs, fails, is late or missed."""
        asks = (self.pause_after_failures, self.on_missed, self.must_start_within)
        return any(each is not None for each in (*asks, self.must_finish_by, self.ping))

    @property
    def almanacs(self) -> tuple[Almanac, ...]:
        """The times that were written down ahead, because only the user's own class can compute them."""
        return tuple(almanacs_in(self.trigger.spec()))

    def is_known(self, start: datetime, end: datetime) -> bool:
        """Whether all its times in [start, end) can be computed here."""
        if not self.almanacs:
            return True
        try:
            deque(self.occurrences(start, end), maxlen=0)
        except OpaqueTrigger:
            return False
        return True

    def contradicts(self, older: Definition) -> bool:
        """Whether a trigger of the user's own answers otherwise than it did, with no change to be seen."""
        if not (told := self.almanacs) or self.timing_hash != older.timing_hash:
            return False
        return not all(was.agrees_with(now) for was, now in zip(older.almanacs, told, strict=True))

    def continuing(self, older: Definition | None) -> Definition:
        """This one with the times that the older one has written down besides, if they mean the same."""
        if older is None or not self.almanacs or self.timing_hash != older.timing_hash:
            return self
        spec = follow_up(older.trigger.spec(), self.trigger.spec())
        return replace(self, trigger=trigger_from_spec(spec))

    def to_json(self) -> str:
        """The definition as canonical JSON."""
        return canonical_json(self._values())

    @classmethod
    def from_json(cls, text: str) -> Definition:
        """The definition that `to_json` wrote."""
        values = json.loads(text)
        unknown = sorted(values.keys() - _names())
        if unknown:
            raise DefinitionError(
                f"stored schedule has {', '.join(unknown)}: written by a newer release"
            )
        return cls(**{name: _read(name, value) for name, value in values.items()})

    def _values(self) -> dict[str, Any]:
        values = {name: _plain(getattr(self, name)) for name in _names()}
        return {
            name: value
            for name, value in values.items()
            if value is not None or name not in _OPTIONAL
        }


@cache
def _names() -> dict[str, None]:
    """The names of the fields, in their order."""
    return {field.name: None for field in fields(Definition)}


def _timing_hash(values: Mapping[str, Any]) -> str:
    timing = {key: value for key, value in values.items() if key in _TIMING}
    return _hash(timing | {"trigger": rule_of(values["trigger"])})


def _payload_hash(values: Mapping[str, Any]) -> str:
    return _hash({key: value for key, value in values.items() if key not in _TIMING + _PLACE})


def canonical_json(value: object) -> str:
    """JSON that is equal for equal values: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _faults(made: Definition) -> Iterator[str]:
    checks = (
        lambda: check_schedule_name(made.name),
        lambda: check_task_name(made.task),
        lambda: check_zone(made.tz),
        lambda: check_priority(made.priority),
        lambda: check_queue(made.queue),
        lambda: None if made.on_missed is None else check_task_name(made.on_missed),
        lambda: None if made.max_attempts is None else check_max_attempts(made.max_attempts),
    )
    for check in checks:
        try:
            check()
        except CronqueueError as error:
            yield str(error)
    if made.start and made.end and made.end < made.start:
        yield f"end {to_text(made.end)} lies before start {to_text(made.start)}: nothing would ever run"
    if made.splay is not None and not made.jitter:
        yield f"splay={made.splay!r} needs jitter=, the stretch of time that the group is spread over"
    if made.renamed_from == made.name:
        yield f"renamed_from {made.renamed_from!r} is the schedule's own name: give the old one"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, timedelta):
        return value / timedelta(seconds=1)
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, tuple):
        return dict(value)
    return value.spec() if hasattr(value, "spec") else value


def _read(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "trigger":
        return trigger_from_spec(value)
    if name == "tags":
        return tuple(sorted(value.items()))
    if name in _DURATIONS or (name == "must_finish_by" and not isinstance(value, str)):
        return timedelta(seconds=value)
    return from_text(value) if name in ("start", "end") else value


def _hash(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
