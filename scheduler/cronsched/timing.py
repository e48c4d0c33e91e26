"""From a declaration to a definition: times, options and a task put together."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload

from cronqueue.clock import utcnow
from cronqueue.errors import CronqueueError, DefinitionError
from cronqueue.registry import (
    Call,
    CoroutineTask,
    FunctionTask,
    Options,
    RetryPolicy,
    Task,
    bind,
    job,
)
from cronsched.clocktimes import Binding, Rule
from cronsched.collecting import Place, active_collector
from cronsched.definition import Definition, DefinitionFaults
from cronsched.exclusions import excluding
from cronsched.options import read_options
from cronsched.triggers import After, Bounded, Trigger, zone_of

P = ParamSpec("P")
R = TypeVar("R")
TaskT = TypeVar("TaskT", bound=Task[Any, Any])

# Options that a schedule shares with its task.
_OF_THE_TASK = ("priority", "queue", "max_attempts", "timeout")
# Options that say when: all that a part of a union may have.
_OF_THE_TIMES = ("tz", "dst_gap", "dst_overlap", "start", "end", "exclude", "on_excluded")
# Options of one enqueue that make no sense for what recurs, and what to do instead.
_NOT_RECURRING = {
    "run_at": "the trigger says when",
    "delay": "the trigger says when",
    "session": "the daemon writes the rows",
    "key": "overlap= says what happens while one still runs",
    "expires": "use start_within=",
}


@dataclass(frozen=True, slots=True)
class Timing:
    """Times with options: a decorator for functions and tasks, and the trigger of `schedule()`."""

    rule: Rule
    options: Mapping[str, Any]
    place: Place

    @overload
    def __call__(self, fn: TaskT, /) -> TaskT: ...
    # A coroutine function is a function too: the narrower overload comes first and wins.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> CoroutineTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> FunctionTask[P, R]: ...
    def __call__(self, fn: Any, /) -> Any:
        if isinstance(fn, Task):
            self.apply(fn, None, {}, self.place)
            return fn
        if not callable(fn) or isinstance(fn, type):
            raise DefinitionError(
                f"a schedule stands over a function or a task, not over {fn!r}; "
                'times are named, as in daily(at="07:30")'
            )
        return self._over_function(fn)

    def apply(
        self, task: Task[Any, Any], call: Call | None, options: Mapping[str, Any], place: Place
    ) -> None:
        """Make the schedule's definition and hand it over, or everything that is wrong with it."""
        collector = active_collector()
        default_tz = collector.tz if collector else "UTC"
        try:
            definition = self.definition_of(task, call, options, place, default_tz)
        except DefinitionFaults as error:
            report_fault(place, *error.messages)
        else:
            if collector is not None:
                collector.add(definition, place)

    def definition_of(
        self,
        task: Task[Any, Any],
        call: Call | None,
        options: Mapping[str, Any],
        place: Place,
        default_tz: str,
    ) -> Definition:
        """The schedule of a task, or of a call of it. Raises DefinitionFaults."""
        said = {**self.options, **options}
        given, faults = read_options(said)
        values = {"name": task.name} | _of_task(task) | _of_call(call, faults) | given
        if isinstance(teller := said.get("on_missed"), Task):
            values["on_missed_queue"] = teller.queue
        arguments = _arguments(task, call, values, faults)
        trigger = _trigger(self.rule, values, faults, default_tz)
        try:
            if trigger is not None:
                made = _definition(task, trigger, arguments, values, place, default_tz)
                if not faults:
                    return made
        except DefinitionFaults as error:
            faults += error.messages
        raise DefinitionFaults([f"schedule {values['name']!r}: {fault}" for fault in faults])

    def part(self, union: Binding) -> Trigger:
        """The trigger as a part of a union, whose clock it goes by as far as it names none itself."""
        values, faults = read_options(self.options)
        faults += [
            f"{option}= says how the job runs: give it to the union, not to a part of it"
            for option in values
            if option not in _OF_THE_TIMES
        ]
        if faults:
            raise DefinitionFaults(faults)
        knobs = {"dst_gap": union.dst_gap, "dst_overlap": union.dst_overlap} | _knobs(values)
        trigger = _times(
            self.rule, Binding(union.name, values.get("tz"), union.zone, **knobs), values
        )
        if isinstance(trigger, After):
            raise DefinitionError("after() counts from the end of a run: it is no part of a union")
        start, end = values.get("start"), values.get("end")
        return trigger if start is None and end is None else Bounded(trigger, start, end)

    def _over_function(self, fn: Callable[..., Any]) -> Task[Any, Any]:
        shared = {
            key: value for key, value in self.options.items() if key in ("name", *_OF_THE_TASK)
        }
        try:
            # A faulty option is reported when the schedule is made; the task is registered without it.
            task: Task[Any, Any] = job(**read_options(shared)[0])(fn)
        except DefinitionError as error:
            collector = active_collector()
            if collector is None or not collector.clashes(
                str(self.options.get("name")), self.place
            ):
                report_fault(self.place, str(error))
            return FunctionTask(fn, fn.__qualname__, Options(), RetryPolicy())
        self.apply(task, None, {}, self.place)
        return task


def report_fault(place: Place, *messages: str) -> None:
    """Gather the faults of the files that are being loaded; outside of that raise DefinitionFaults."""
    collector = active_collector()
    if collector is None:
        raise DefinitionFaults(list(messages))
    for message in messages:
        collector.fault(place, message)


def _of_task(task: Task[Any, Any]) -> dict[str, Any]:
    return {option: getattr(task, option) for option in _OF_THE_TASK}


def _of_call(call: Call | None, faults: list[str]) -> dict[str, Any]:
    if call is None:
        return {}
    for option, remedy in _NOT_RECURRING.items():
        if getattr(call.options, option) is not None:
            faults.append(f"a call with {option}= cannot recur: {remedy}")
    chosen = {option: getattr(call.options, option) for option in (*_OF_THE_TASK, "tags")}
    values, unreadable = read_options(
        {key: value for key, value in chosen.items() if value is not None}
    )
    faults += unreadable
    return values


def _arguments(
    task: Task[Any, Any], call: Call | None, values: dict[str, Any], faults: list[str]
) -> str:
    """The arguments as JSON, bound to the task's signature; takes args and kwargs out of the values."""
    args, kwargs = values.pop("args", ()), values.pop("kwargs", {})
    if call is not None:
        if args or kwargs:
            faults.append(
                "args= and kwargs= are for a bare task: this call has its arguments already"
            )
        return call.args_json
    try:
        return bind(task, args, kwargs)
    except CronqueueError as error:
        faults.append(f"{error}; give args= or kwargs=")
        return ""


def _trigger(
    rule: Rule, values: dict[str, Any], faults: list[str], default_tz: str
) -> Trigger | None:
    """The trigger with its exclusions; takes those out of the values."""
    binding = Binding(values["name"], values.get("tz"), default_tz, **_knobs(values))
    try:
        return _times(rule, binding, values)
    except DefinitionFaults as error:
        faults += error.messages
    except CronqueueError as error:
        faults.append(str(error))
    finally:
        values.pop("exclude", None)
        values.pop("on_excluded", None)
    return None


def _knobs(values: Mapping[str, Any]) -> dict[str, Any]:
    return {knob: values[knob] for knob in ("dst_gap", "dst_overlap") if knob in values}


def _times(rule: Rule, binding: Binding, values: Mapping[str, Any]) -> Trigger:
    """Raises DefinitionError."""
    trigger = rule(binding)
    if (knobs := _knobs(values)) and zone_of(trigger) is None:
        raise DefinitionError(
            f"{' and '.join(knobs)}: these times follow no clock that could skip or repeat any"
        )
    calendars, on_excluded = values.get("exclude"), values.get("on_excluded")
    if calendars is None:
        if on_excluded is not None:
            raise DefinitionError("on_excluded= has no meaning without exclude=")
        return trigger
    if isinstance(trigger, After):
        raise DefinitionError("exclude= has no meaning with after(): its times are not known ahead")
    tz = binding.tz or zone_of(trigger) or binding.default_tz
    return excluding(trigger, calendars, tz, on_excluded or "skip", utcnow())


def _definition(
    task: Task[Any, Any],
    trigger: Trigger,
    arguments: str,
    values: dict[str, Any],
    place: Place,
    default_tz: str,
) -> Definition:
    tz = zone_of(trigger) or values.get("tz") or default_tz
    stands = {"source": place.source, "line": place.line}
    return Definition(
        **(
            values
            | stands
            | {"task": task.name, "trigger": trigger, "args_json": arguments, "tz": tz}
        )
    )
