"""Lints: what is allowed in a schedule and often not meant. Pure: everything looked at is handed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice, pairwise

from cronsched.cronexpr import CronExpression
from cronsched.definition import Definition
from cronsched.planner import upcoming
from cronsched.timezones import transitions
from cronsched.triggers import After, Bounded, Cron, OpaqueTrigger, Trigger, Union

# So many schedules at one instant are a herd that can be spread.
HERD = 10
# The clock's changes of the coming year and a half: at least three of them where there is summer time.
_DST_WINDOW = timedelta(days=550)
_LOOKED_AHEAD = timedelta(days=1)
# Of the coming day, as far as a schedule that runs every second fills it.
_MOST_LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class Lint:
    """A schedule and what is odd about it, with what to do."""

    schedule: str
    message: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the declarations.

    `durations` by task: how long most runs take. `queues` that live workers take, None where no worker is
    there at all; `other_releases`: schedules whose stored times another croniter or tzdata has computed.
    """

    durations: Mapping[str, timedelta] = field(default_factory=dict)
    queues: frozenset[str] | None = None
    other_releases: Mapping[str, str] = field(default_factory=dict)


def lint(
    definitions: Sequence[Definition], now: datetime, known: Surroundings = Surroundings()
) -> list[Lint]:
    """Everything odd, by schedule."""
    # One whose answers end here is refused by whoever writes its times.
    told = [each for each in definitions if each.is_known(now, now + _LOOKED_AHEAD)]
    found: list[Lint] = []
    for each in told:
        with suppress(OpaqueTrigger):
            found.extend(Lint(each.name, message) for message in _of_one(each, now, known))
    found += _herds(told, now)
    return sorted(found, key=lambda each: (each.schedule, each.message))


def _of_one(definition: Definition, now: datetime, known: Surroundings) -> Iterator[str]:
    if not definition.enabled:
        return
    following = upcoming(definition, now, 3)
    if not following and not isinstance(definition.trigger, After):
        yield "never runs: no occurrence lies ahead; remove it, or mend start=, end= or its times"
        return
    for cron in _crons(definition.trigger):
        yield from _of_cron(cron, now)
    gaps = [b.planned_for - a.planned_for for a, b in pairwise(following)]
    yield from _of_durations(definition, min(gaps, default=None), known)
    if known.queues is not None and definition.queue not in known.queues:
        yield f"no worker takes queue {definition.queue!r}: start one with --queues {definition.queue}"
    if release := known.other_releases.get(definition.name):
        yield f"its stored times were computed by {release}: applying computes them again"


def _crons(trigger: Trigger) -> Iterator[Cron]:
    """The expressions within a trigger."""
    if isinstance(trigger, Cron):
        yield trigger
    elif isinstance(trigger, Union):
        for each in trigger.triggers:
            yield from _crons(each)
    elif isinstance(trigger, Bounded):
        yield from _crons(trigger.trigger)


def _of_cron(cron: Cron, now: datetime) -> Iterator[str]:
    parsed = cron.parsed
    day, weekday = parsed.field("day"), parsed.field("weekday")
    if not (
        day.covers_all or weekday.covers_all or day.starts_with_star or weekday.starts_with_star
    ):
        yield (
            f"{parsed.text!r} sets day and weekday: it runs on every day that matches either of them;"
            " begin one of the fields with * to ask for both"
        )
    if day.values and min(day.values) > 28 and not day.last_day:
        skipped = "months without that day are skipped"
        yield f"{parsed.text!r} asks for day {min(day.values)}: {skipped}; L is the last day"
    yield from _uneven_steps(parsed)
    yield from _at_clock_changes(cron, now)


def _uneven_steps(parsed: CronExpression) -> Iterator[str]:
    words = parsed.text.split()
    if len(words) != len(parsed.fields):  # a nickname
        return
    for word, each in zip(words, parsed.fields, strict=True):
        base, _, step = word.partition("/")
        span = each.kind.high - each.kind.low + 1
        if base == "*" and step.isdigit() and span % int(step) and each.kind.name != "day":
            last = span % int(step)
            yield (
                f"{parsed.text!r}: {each.kind.name} {word!r} is uneven: the last step of each round is"
                f" {last} long; every() counts on without a break"
            )


def _at_clock_changes(cron: Cron, now: datetime) -> Iterator[str]:
    """Times that follow the clock, in hours that it skips or shows twice."""
    parsed = cron.parsed
    hours = parsed.field("hour")
    if not parsed.follows_clock or hours.covers_all:
        return
    for change in transitions(cron.tz, now, now + _DST_WINDOW):
        wall = (change.at + change.before).replace(tzinfo=None)
        if change.gap and wall.hour in hours.values and change.gap >= timedelta(hours=1):
            yield (
                f"{parsed.text!r} does not run in hour {wall.hour} of {wall:%Y-%m-%d}, which {cron.tz}"
                " skips; fixed minutes and hours would run once after it"
            )
            return
        wall = (change.at + change.after).replace(tzinfo=None)
        if change.overlap and wall.hour in hours.values:
            yield (
                f"{parsed.text!r} runs twice as often in hour {wall.hour} of {wall:%Y-%m-%d}, which"
                f" {cron.tz} has twice; fixed minutes and hours would run in the first one only"
            )
            return


def _of_durations(
    definition: Definition, shortest: timedelta | None, known: Surroundings
) -> Iterator[str]:
    usual = known.durations.get(definition.task)
    if usual is None:
        return
    if shortest is not None and usual > shortest and definition.overlap != "allow":
        yield (
            f"takes {_words(usual)} and comes every {_words(shortest)}: runs will overlap"
            f" (overlap={definition.overlap!r})"
        )
    if definition.timeout is not None and usual > definition.timeout:
        yield f"takes {_words(usual)}, longer than its timeout of {_words(definition.timeout)}"


def _herds(definitions: Sequence[Definition], now: datetime) -> Iterator[Lint]:
    """Many schedules at the same instant of the coming day."""
    at: dict[datetime, list[Definition]] = {}
    for each in definitions:
        for instant in _coming_day(each, now):
            at.setdefault(instant, []).append(each)
    told: Counter[str] = Counter()
    for instant, herd in sorted(at.items()):
        still = [each for each in herd if not each.jitter]
        if len(still) < HERD or told[still[0].name]:
            continue
        told.update(each.name for each in still)
        yield Lint(
            still[0].name,
            f"{len(still)} schedules come at {instant:%Y-%m-%d %H:%M:%S} UTC together;"
            ' spread them with jitter="5m", a splay group or an H field',
        )


def _coming_day(definition: Definition, now: datetime) -> Iterable[datetime]:
    instants = definition.occurrences(now, now + _LOOKED_AHEAD)
    found = list(islice(instants, _MOST_LOOKED_AT))
    # What comes all the time meets everybody.
    return found if len(found) <= 24 else ()


def _words(duration: timedelta) -> str:
    from cronqueue.durations import format_duration

    return format_duration(timedelta(seconds=round(duration.total_seconds())))
