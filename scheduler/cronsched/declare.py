"""Declaring schedules: `@daily(at="07:30")` over a function, or `schedule(task, daily(at="07:30"))`.

While schedule files are loaded, faults are gathered with their lines and the function becomes a task all
the same; otherwise a DefinitionError is raised at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from cronqueue.clock import utcnow
from cronqueue.durations import parse_duration
from cronqueue.errors import DefinitionError
from cronqueue.registry import Call, CoroutineTask, Duration, FunctionTask, Task
from cronsched import clocktimes
from cronsched.calendar_intervals import MonthEnd
from cronsched.calendar_options import make_calendar
from cronsched.calendars import Calendar
from cronsched.clocktimes import Binding, Rule
from cronsched.collecting import calling_place
from cronsched.options import ScheduleOptions
from cronsched.timing import Timing, report_fault
from cronsched.triggers import EPOCH, After, Every, Once, Trigger, check_aware

__all__ = [
    "after",
    "at_times",
    "calendar",
    "calendar_every",
    "cron",
    "daily",
    "every",
    "hourly",
    "monthly",
    "on",
    "schedule",
    "union",
    "weekly",
]

P = ParamSpec("P")
R = TypeVar("R")
TaskT = TypeVar("TaskT", bound=Task[Any, Any])
At = str | list[str] | tuple[str, ...]

# Where calendar intervals begin to count: weeks with a Monday, everything else with the first of a year.
_FIRST_DAY = EPOCH.date()
_FIRST_MONDAY = date(1970, 1, 5)


def cron(expression: str, /, **options: Unpack[ScheduleOptions]) -> Timing:
    """By a cron expression: `cron("*/15 9-17 * * mon-fri", tz="Europe/London")`.

    Five fields, or six with the seconds first; `@daily` and the like; `CRON_TZ=Zone` in front; `H` for a
    value drawn from the schedule's name.
    """
    return _timing(lambda binding: binding.cron(expression), options)


def every(
    period: Duration | None = None,
    /,
    *,
    weeks: int = 0,
    days: int = 0,
    hours: int = 0,
    minutes: int = 0,
    seconds: int = 0,
    anchor: datetime | None = None,
    **options: Unpack[ScheduleOptions],
) -> Timing:
    """After each stretch of elapsed time: `every("90s")`, `every(minutes=5)`.

    Counted from `anchor`, by default midnight of 1970-01-01 UTC, so that restarts do not move it.
    """

    def rule(binding: Binding) -> Trigger:
        units = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        return _every(period, units, anchor)

    return _timing(rule, options)


def after(delay: Duration, /, **options: Unpack[ScheduleOptions]) -> Timing:
    """A fixed delay after the run before has ended, in whatever way: `after("5m")`.

    The first run comes one delay after the declaration. There is never more than one ahead.
    """
    return _timing(lambda binding: After(_whole_seconds("after", delay)), options)


@overload
def hourly(fn: TaskT, /) -> TaskT: ...
@overload
def hourly(  # type: ignore[overload-overlap]
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> CoroutineTask[P, R]: ...
@overload
def hourly(fn: Callable[P, R], /) -> FunctionTask[P, R]: ...
@overload
def hourly(*, minute: int = 0, **options: Unpack[ScheduleOptions]) -> Timing: ...
def hourly(fn: Any = None, /, *, minute: int = 0, **options: Unpack[ScheduleOptions]) -> Any:
    """Every hour, at a minute of it: bare, or `hourly(minute=5)`."""
    return _bare_or_with(fn, lambda binding: clocktimes.hourly(binding, minute), options)


@overload
def daily(fn: TaskT, /) -> TaskT: ...
@overload
def daily(  # type: ignore[overload-overlap]
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> CoroutineTask[P, R]: ...
@overload
def daily(fn: Callable[P, R], /) -> FunctionTask[P, R]: ...
@overload
def daily(*, at: At = "00:00", **options: Unpack[ScheduleOptions]) -> Timing: ...
def daily(fn: Any = None, /, *, at: At = "00:00", **options: Unpack[ScheduleOptions]) -> Any:
    """Every day, at one or several times of it: `daily(at="07:30")`, `daily(at=["07:30", "19:00"])`."""
    return _bare_or_with(fn, lambda binding: clocktimes.daily(binding, at), options)


@overload
def weekly(fn: TaskT, /) -> TaskT: ...
@overload
def weekly(  # type: ignore[overload-overlap]
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> CoroutineTask[P, R]: ...
@overload
def weekly(fn: Callable[P, R], /) -> FunctionTask[P, R]: ...
@overload
def weekly(
    *, day: str | list[str] = "sun", at: At = "00:00", **options: Unpack[ScheduleOptions]
) -> Timing: ...
def weekly(
    fn: Any = None,
    /,
    *,
    day: str | list[str] = "sun",
    at: At = "00:00",
    **options: Unpack[ScheduleOptions],
) -> Any:
    """Every week, on one or several days: `weekly(day="mon", at="06:00")`. Bare: Sunday, as `@weekly`."""
    return _bare_or_with(fn, lambda binding: clocktimes.weekly(binding, day, at), options)


@overload
def monthly(fn: TaskT, /) -> TaskT: ...
@overload
def monthly(  # type: ignore[overload-overlap]
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> CoroutineTask[P, R]: ...
@overload
def monthly(fn: Callable[P, R], /) -> FunctionTask[P, R]: ...
@overload
def monthly(
    *,
    day: int | str | list[int | str] = 1,
    at: At = "00:00",
    month_end: MonthEnd = "skip",
    **options: Unpack[ScheduleOptions],
) -> Timing: ...
def monthly(
    fn: Any = None,
    /,
    *,
    day: int | str | list[int | str] = 1,
    at: At = "00:00",
    month_end: MonthEnd = "skip",
    **options: Unpack[ScheduleOptions],
) -> Any:
    """Every month, on a day of it: `monthly(day=1)`, `monthly(day="last", at="18:00")`.

    A month without the day is left out, or has its turn on its last day: `month_end="clamp"`.
    """
    return _bare_or_with(
        fn, lambda binding: clocktimes.monthly(binding, day, at, month_end), options
    )


def calendar_every(
    *,
    years: int = 0,
    months: int = 0,
    weeks: int = 0,
    days: int = 0,
    at: At = "00:00",
    anchor: date | None = None,
    month_end: MonthEnd = "clamp",
    **options: Unpack[ScheduleOptions],
) -> Timing:
    """Every so many days, weeks, months or years of the calendar: `calendar_every(weeks=2, at="06:00")`.

    Counted from the date `anchor`, by default 1 January 1970, for weeks Monday, 5 January 1970. A month
    without the anchor's day has its turn on its last day; `month_end="skip"` leaves it out.
    """

    def rule(binding: Binding) -> Trigger:
        steps = {"years": years, "months": months, "weeks": weeks, "days": days}
        for unit, step in steps.items():
            if isinstance(step, bool) or not isinstance(step, int) or step < 0:
                raise DefinitionError(f"{unit} {step!r}: give a whole number")
        first = _anchor_date(anchor, _FIRST_MONDAY if weeks and not days else _FIRST_DAY)
        return clocktimes.calendar_every(
            binding,
            at,
            months=years * 12 + months,
            days=weeks * 7 + days,
            anchor=first,
            month_end=month_end,
        )

    return _timing(rule, options)


def at_times(times: datetime | Sequence[datetime], /, **options: Unpack[ScheduleOptions]) -> Timing:
    """At the given instants, each of which comes once.

    `at_times([datetime(2026, 12, 24, 18, tzinfo=UTC), ...])`
    """

    def rule(binding: Binding) -> Trigger:
        instants = tuple(times) if isinstance(times, list | tuple) else (times,)
        if not instants:
            raise DefinitionError("at_times is an empty list: give at least one aware datetime")
        return Once(tuple(check_aware("at_times", instant) for instant in instants))

    return _timing(rule, options)


def union(*parts: Timing, **options: Unpack[ScheduleOptions]) -> Timing:
    """Whenever any of the parts comes; what several of them share comes once.

    `union(daily(at="07:30"), every("6h"), tz="Europe/London")`. A part has options about its times only.
    """

    def rule(binding: Binding) -> Trigger:
        for part in parts:
            found: object = part
            if not isinstance(found, Timing):
                raise DefinitionError(f'union takes times such as daily(at="09:00"), not {part!r}')
        if not parts:
            raise DefinitionError("union joins nothing: give it at least one part")
        return clocktimes.union(tuple(part.part(binding) for part in parts))

    return _timing(rule, options)


def calendar(
    name: str,
    /,
    *,
    dates: Sequence[date | str] = (),
    weekdays: str | Sequence[str] = (),
    windows: str | Sequence[str] = (),
    cron: str | Sequence[str] = (),
    ical: str | Path | None = None,
) -> Calendar:
    """Times that schedules keep clear of, for their `exclude=`; raises DefinitionError.

    `calendar("holidays", dates=["2026-12-25"], ical="uk.ics")`, `calendar("nights", windows="22:00-06:00")`.
    It goes by the clock of the schedule that uses it. A relative `ical` is looked for beside this file.
    """
    beside = Path(calling_place().file).parent
    file = None if ical is None else beside / ical
    return make_calendar(
        name, dates=dates, weekdays=weekdays, windows=windows, cron=cron, ical=file
    )


def on(trigger: object, /, **options: Unpack[ScheduleOptions]) -> Timing:
    """By an APScheduler 3 trigger object, on the clock of the trigger's own zone.

    An IntervalTrigger without start_date counts from 1970. A CalendarIntervalTrigger without start_date
    counts from the day on which the file is loaded: give it one.
    """

    def rule(binding: Binding) -> Trigger:
        from cronsched.apscheduler_triggers import adopt

        if binding.tz is not None:
            raise DefinitionError(
                "tz= has no meaning with on(): the trigger has a timezone of its own"
            )
        return adopt(trigger, utcnow(), binding.dst_gap, binding.dst_overlap)

    return _timing(rule, options)


def schedule(
    task: Task[Any, Any] | Call, trigger: Timing, /, **options: Unpack[ScheduleOptions]
) -> None:
    """Give a task, or a call of it, a schedule: `schedule(welcome.call(7), daily(at="09:00"), name="w7")`.

    Options here win over those of the trigger, those over the call's, those over the task's.
    """
    place = calling_place()
    found: object = task.task_object if isinstance(task, Call) else task
    timing: object = trigger
    if not isinstance(found, Task):
        report_fault(
            place,
            f"schedule() takes a task or a call such as task.call(7), not {task!r}: register it with @job",
        )
    elif not isinstance(timing, Timing):
        report_fault(
            place, f'schedule() takes a trigger such as daily(at="09:00"), not {trigger!r}'
        )
    else:
        timing.apply(found, task if isinstance(task, Call) else None, options, place)


def _timing(rule: Rule, options: Mapping[str, Any]) -> Timing:
    return Timing(rule, options, calling_place())


def _bare_or_with(fn: Any, rule: Rule, options: Mapping[str, Any]) -> Any:
    timing = _timing(rule, options)
    return timing if fn is None else timing(fn)


def _anchor_date(anchor: object, default: date) -> date:
    if anchor is None:
        return default
    if not isinstance(anchor, date) or isinstance(anchor, datetime):
        raise DefinitionError(f"anchor {anchor!r}: give a date such as date(2026, 1, 31)")
    return anchor


def _every(period: Duration | None, units: timedelta, anchor: datetime | None) -> Trigger:
    if (period is None) == (not units):
        raise DefinitionError('every: give one period, as in every("90s") or every(minutes=5)')
    seconds = _whole_seconds("every", units if period is None else period)
    return Every(seconds) if anchor is None else Every(seconds, check_aware("anchor", anchor))


def _whole_seconds(what: str, duration: Duration) -> int:
    try:
        length = parse_duration(duration)
    except (ValueError, TypeError) as error:
        raise DefinitionError(f"{what}: {error}") from None
    if length <= timedelta(0) or length % timedelta(seconds=1):
        raise DefinitionError(f"{what} {length}: give whole seconds, at least one")
    return length // timedelta(seconds=1)
