"""The options of a schedule: each read into its value, all faults at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TypedDict, get_args
from zoneinfo import ZoneInfo

from cronqueue.durations import parse_duration
from cronqueue.errors import CronqueueError, DefinitionError
from cronqueue.registry import (
    Duration,
    Task,
    check_max_attempts,
    check_priority,
    check_queue,
    check_task_name,
)
from cronqueue.setting_values import read_web_address
from cronsched.calendar_options import read_exclude
from cronsched.calendars import Calendar
from cronsched.exclusions import OnExcluded
from cronsched.timezones import DstGap, DstOverlap, check_zone
from cronsched.triggers import check_aware

Overlap = Literal["skip", "queue_one", "queue_all", "allow", "cancel_running"]
CatchUp = Literal["latest", "all", "none"]
OnRemove = Literal["cancel", "drain"]

MAX_TEXT = 10_000
# One of these, or several of them, is what exclude= takes.
Excluded = Calendar | date | str
_CLOCK_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,199}")


class ScheduleOptions(TypedDict, total=False):
    """What every declaration takes besides its times.

    Durations are a timedelta, seconds, or text such as "90s", "5m", "2h", "1d".
    """

    name: str
    tz: str | ZoneInfo
    dst_gap: DstGap
    dst_overlap: DstOverlap
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    priority: int
    queue: str
    max_attempts: int
    timeout: Duration
    jitter: Duration
    splay: str
    overlap: Overlap
    overlap_key: str
    catch_up: CatchUp
    catch_up_window: Duration | None
    catch_up_limit: int | None
    misfire_after: Duration
    start_within: Duration
    start: datetime
    end: datetime
    exclude: Excluded | Sequence[Excluded]
    on_excluded: OnExcluded
    enabled: bool
    horizon: Duration
    tags: Mapping[str, str]
    description: str
    renamed_from: str
    on_remove: OnRemove
    pause_after_failures: int
    on_missed: str | Task[Any, Any]
    must_start_within: Duration
    must_finish_by: Duration
    ping: str


def read_options(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options as values of a Definition, those with a fault left out, and the faults."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, value in given.items():
        if name not in _READERS:
            faults.append(_unknown(name))
            continue
        try:
            values[name] = _READERS[name](name, value)
        except (CronqueueError, ValueError, TypeError) as error:
            faults.append(str(error))
    return values, faults


def check_schedule_name(name: object, what: str = "name") -> str:
    """The name if a schedule can bear it; raises DefinitionError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DefinitionError(
            f"{what} {name!r}: letters, digits and _ . : - only, a letter or _ first, at most 200 characters"
        )
    return name


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _READERS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(_READERS))}"
    return f"option {name!r} is not known: {hint}"


def _name(what: str, value: object) -> str:
    return check_schedule_name(value, what)


def _zone(what: str, value: object) -> str:
    return check_zone(value)


def _one_of(choices: tuple[str, ...]) -> Callable[[str, object], str]:
    def read(what: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise DefinitionError(
                f"{what} {value!r}: {hint}choose one of {', '.join(map(repr, choices))}"
            )
        return value

    return read


def _duration(least: timedelta) -> Callable[[str, Any], timedelta]:
    def read(what: str, value: Any) -> timedelta:
        try:
            duration = parse_duration(value)
        except (ValueError, TypeError) as error:
            raise DefinitionError(f"{what}: {error}") from None
        if duration < least:
            raise DefinitionError(f"{what} {value!r}: at least {least.total_seconds():g}s")
        return duration

    return read


def _count(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000:
        raise DefinitionError(f"{what} {value!r}: give a whole number from 1 to 10000")
    return value


def _moment(what: str, value: object) -> datetime:
    return check_aware(what, value).astimezone(UTC).replace(microsecond=0)


def _flag(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise DefinitionError(f"{what} {value!r}: give True or False")
    return value


def _text(what: str, value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_TEXT or "\x00" in value:
        raise DefinitionError(
            f"{what}: give a text of 1 to {MAX_TEXT} characters, not {str(value)[:60]!r}"
        )
    return value


def _tags(what: str, value: object) -> tuple[tuple[str, str], ...]:
    texts = isinstance(value, Mapping) and all(
        isinstance(part, str) and part for pair in value.items() for part in pair
    )
    if not isinstance(value, Mapping) or not texts:
        raise DefinitionError(
            f'{what} {value!r}: give a dict of texts such as {{"team": "billing"}}'
        )
    return tuple(sorted(value.items()))


def _task(what: str, value: object) -> str:
    if isinstance(value, Task):
        return value.name
    if not isinstance(value, str):
        raise DefinitionError(f"{what} {value!r}: give a task, or the name of one")
    return check_task_name(value)


def _args(what: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise DefinitionError(f"{what} {value!r}: give a list, as in args=[7]")
    return tuple(value)


def _kwargs(what: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise DefinitionError(f'{what} {value!r}: give a dict, as in kwargs={{"dry": True}}')
    return dict(value)


def _or_none(read: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """None is no limit."""
    return lambda what, value: None if value is None else read(what, value)


def _finish_by(what: str, value: Any) -> timedelta | str:
    """So long after its time, or a time of day."""
    if isinstance(value, str) and ":" in value:
        if not _CLOCK_TIME.fullmatch(value):
            raise DefinitionError(f'{what} {value!r}: give a time such as "07:30", or a duration')
        return value
    return _SOME_TIME(what, value)


def _web_address(what: str, value: object) -> str:
    try:
        return read_web_address(value)
    except ValueError as error:
        raise DefinitionError(f"{what}: {error}") from None


_NOT_NEGATIVE = _duration(timedelta(0))
_SOME_TIME = _duration(timedelta(seconds=1))

_READERS: dict[str, Callable[[str, Any], Any]] = {
    "name": _name,
    "tz": _zone,
    "dst_gap": _one_of(get_args(DstGap)),
    "dst_overlap": _one_of(get_args(DstOverlap)),
    "args": _args,
    "kwargs": _kwargs,
    "priority": lambda _, value: check_priority(value),
    "queue": lambda _, value: check_queue(value),
    "max_attempts": lambda _, value: check_max_attempts(value),
    "timeout": _SOME_TIME,
    "jitter": _NOT_NEGATIVE,
    "splay": _text,
    "overlap": _one_of(get_args(Overlap)),
    "overlap_key": _text,
    "catch_up": _one_of(get_args(CatchUp)),
    "catch_up_window": _or_none(_SOME_TIME),
    "catch_up_limit": _or_none(_count),
    "misfire_after": _NOT_NEGATIVE,
    "start_within": _SOME_TIME,
    "start": _moment,
    "end": _moment,
    "exclude": read_exclude,
    "on_excluded": _one_of(get_args(OnExcluded)),
    "enabled": _flag,
    "horizon": _SOME_TIME,
    "tags": _tags,
    "description": _text,
    "renamed_from": _name,
    "on_remove": _one_of(get_args(OnRemove)),
    "pause_after_failures": _count,
    "on_missed": _task,
    "must_start_within": _SOME_TIME,
    "must_finish_by": _finish_by,
    "ping": _web_address,
}
