"""Triggers of the user's own classes: asked here, in bounds, and checked to be rules.

What hangs, goes back, repeats itself, names no zone, or answers otherwise when asked at another time is
refused with the reason.
"""

from __future__ import annotations

import hashlib
import inspect
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import islice
from time import monotonic
from types import FrameType
from typing import Any, cast

from cronqueue.errors import DefinitionError
from cronsched.almanac import Almanac, OwnTrigger
from cronsched.triggers import SEARCH_LIMIT, SearchExhausted, check_aware, whole_second

_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
# Steps from a trigger's own beginning to the time that is asked for.
_CATCHING_UP = 100_000
# An almanac has the times of so long, of rare ones so many, of frequent ones no more than that.
_AHEAD = timedelta(days=400)
_LEAST_AHEAD = 4
_MOST_AHEAD = 5_000
# As many as a schedule has rows: with fewer a slow class could not be kept written.
_ENOUGH = 600
# And of so much of the past, the longest that has not too many: what is moved by exclusions comes from there.
_BACK = (timedelta(days=14), timedelta(days=1), timedelta(hours=1), timedelta(minutes=10))
_MOST_BACK = 1_000
# Seconds for all questions to one trigger; after the first of them no further times are asked for.
_PATIENCE = 2.0
_LONGEST = 5.0
# Instants that are asked for again, from other moments.
_PROBES = 6
_PROBE_FROM = (0.1, 0.6)
_PLAIN_TYPES = (str, int, float, bool, type(None), datetime, date, time, timedelta)
_LONGEST_TEXT = 120


@dataclass(frozen=True, slots=True)
class Asked:
    """The times of a trigger object, each asked for with the one before it, as APScheduler does."""

    trigger: Any
    class_name: str

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Raises SearchExhausted when the trigger does not advance, DefinitionError when it fails."""
        moment = whole_second(start)
        answer = self._first_from(moment)
        while answer is not None and (instant := whole_second(answer)) < end:
            if instant >= moment:
                yield instant
                moment = instant + _SECOND
            following = self._ask(answer, answer + _MICROSECOND)
            if following is not None and following <= answer:
                raise self._stands_still(following)
            answer = following

    def spec(self) -> dict[str, object]:
        """Of the object itself nothing is stored."""
        return {}

    def describe(self) -> str:
        return self.class_name

    def _first_from(self, moment: datetime) -> datetime | None:
        # Some triggers answer at or after the time they are given, some only after it.
        asked = (moment - _MICROSECOND).astimezone(getattr(self.trigger, "timezone", None) or UTC)
        previous = None
        for _ in range(_CATCHING_UP):
            answer = self._ask(previous, asked)
            if answer is None or whole_second(answer) >= moment:
                return answer
            # It begins at its own start: walk on from there.
            if previous is not None and answer <= previous:
                break
            previous = answer
        raise self._stands_still(moment)

    def _ask(self, previous: datetime | None, now: datetime) -> datetime | None:
        try:
            answer = self.trigger.get_next_fire_time(previous, now)
        except Exception as error:  # it is the user's code
            raise DefinitionError(
                f"{self.class_name} failed when asked for its times: {error!r}"
            ) from error
        if answer is not None:
            check_aware(f"{self.class_name} answers", answer)
        return cast("datetime | None", answer)

    def _stands_still(self, moment: datetime) -> SearchExhausted:
        return SearchExhausted(
            f"{self.class_name} does not get past {moment}: its answers do not advance"
        )


def adopt_own(trigger: Any, now: datetime) -> OwnTrigger:
    """The rule of a trigger object; raises DefinitionError where it is none."""
    kind = type(trigger)
    asked = Asked(trigger, f"{kind.__module__}.{kind.__qualname__}")
    with _at_most(_LONGEST, asked.class_name):
        _check_repeatable(asked, now)
        almanac = _write_down(asked, now)
    return OwnTrigger(asked.class_name, _code(kind), _state(trigger), almanac, asked)


class _TooLong(BaseException):
    """No `except Exception` of the user's stops it."""


@contextmanager
def _at_most(seconds: float, class_name: str) -> Iterator[None]:
    """End the block when it takes longer, also one that hangs, where this process lets us set an alarm."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    if not _may_set_alarm():
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    except _TooLong:
        raise DefinitionError(
            f"{class_name} does not answer within {seconds:g}s when asked for its times"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _may_set_alarm() -> bool:
    return (
        hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    )


def _check_repeatable(asked: Asked, now: datetime) -> None:
    """Ask for the same instants from between them: a rule gives the same ones, a draw or a count does not."""
    first = whole_second(now)
    instants = list(islice(asked.between(first, first + SEARCH_LIMIT), _PROBES))
    for earlier, later in zip([first - _SECOND, *instants], instants, strict=False):
        for share in _PROBE_FROM:
            moment = earlier + _SECOND + (later - earlier - _SECOND) * share
            if next(asked.between(moment, later + _SECOND), None) != later:
                raise DefinitionError(
                    f"{asked.class_name} answers otherwise when it is asked at another time: "
                    "make its times depend on its own arguments only, so that a restart computes the same"
                )


def _write_down(asked: Asked, now: datetime) -> Almanac:
    """The times around now, as far as patience reaches."""
    now, began = whole_second(now), monotonic()
    since, past = _of_the_past(asked, now)
    ahead: list[datetime] = []
    for instant in asked.between(now, now + SEARCH_LIMIT):
        is_enough = instant >= now + _AHEAD and len(ahead) >= _LEAST_AHEAD
        is_late = monotonic() - began > _PATIENCE and len(ahead) >= _ENOUGH
        if is_enough or is_late or len(ahead) >= _MOST_AHEAD:
            return Almanac(since, instant, (*past, *ahead))
        ahead.append(instant)
    return Almanac(since, None, (*past, *ahead))


def _of_the_past(asked: Asked, now: datetime) -> tuple[datetime, list[datetime]]:
    for length in _BACK:
        past = list(islice(asked.between(now - length, now), _MOST_BACK + 1))
        if len(past) <= _MOST_BACK:
            break
    return now - length, past


def _state(trigger: Any) -> tuple[tuple[str, str], ...]:
    """What it was made with, as far as that is plain; what an edit of its arguments changes."""
    told = ((name, _told(value)) for name, value in _attributes(trigger).items())
    return tuple(sorted((name, _short(words)) for name, words in told if words is not None))


def _attributes(trigger: Any) -> dict[str, Any]:
    names = {name for base in type(trigger).__mro__ for name in getattr(base, "__slots__", ())}
    found = {name: getattr(trigger, name, None) for name in names}
    return found | getattr(trigger, "__dict__", {})


def _told(value: Any) -> str | None:
    if isinstance(value, _PLAIN_TYPES):
        return str(value)
    if isinstance(value, tzinfo):
        return str(getattr(value, "key", value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(str(_told(each)) for each in value)}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(str(_told(each)) for each in value))}}}"
    if isinstance(value, Mapping):
        pairs = sorted((str(_told(key)), str(_told(each))) for key, each in value.items())
        return f"{{{', '.join(f'{key}: {each}' for key, each in pairs)}}}"
    if callable(getattr(value, "get_next_fire_time", None)):
        inner = ", ".join(f"{name}={words}" for name, words in _state(value))
        return f"{type(value).__qualname__}({inner})"
    return None


def _short(words: str) -> str:
    if len(words) <= _LONGEST_TEXT:
        return words
    return f"{words[: _LONGEST_TEXT // 2]}... ({hashlib.sha256(words.encode()).hexdigest()[:16]})"


def _code(kind: type) -> str:
    """A hash of the class's text and that of the classes it is made of: an edit of it is another rule."""
    texts = []
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("apscheduler", "builtins", "abc"):
            continue
        try:
            texts.append(inspect.getsource(base))
        except (OSError, TypeError):  # made without a file
            continue
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
