"""Tasks: functions that jobs may run, known by name.

Only a registered function is ever run, and only an exact name finds it; nothing is imported because a
row says so.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from cronqueue.durations import parse_duration
from cronqueue.errors import ArgumentError, DefinitionError, UnknownTask
from cronqueue.serialization import encode_call

if TYPE_CHECKING:
    from cronqueue.models import Job
    from cronqueue.sessions import AnyAsyncSession, AnySession

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

Duration = timedelta | float | str
KeyUntil = Literal["finish", "start"]
Backoff = Callable[[int], Duration]
ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]

DEFAULT_QUEUE = "default"
# 32 bits in the column; the ends are left free for those who insert by hand.
MAX_PRIORITY = 1_000_000_000
_TASK_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,199}")
# Hard stop after the soft one: what a well-behaved task needs to clean up.
HARD_TIMEOUT_GRACE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Options:
    """What one enqueue sets; None means the task's own setting, or the default."""

    run_at: datetime | None = None
    delay: Duration | None = None
    priority: int | None = None
    queue: str | None = None
    key: str | None = None
    key_until: KeyUntil = "finish"
    max_attempts: int | None = None
    timeout: Duration | None = None
    expires: datetime | Duration | None = None
    tags: Mapping[str, str] | None = None
    session: AnySession | AnyAsyncSession | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A task with its arguments, bound and encoded: a job that is not enqueued yet."""

    task: str
    args_json: str
    options: Options = Options()
    task_object: Task[Any, Any] | None = None


_NO_OPTIONS = Options()


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What follows from a failure of this task; None means the global setting."""

    max_attempts: int | None = None
    backoff: Backoff | None = None
    retry_on: tuple[type[BaseException], ...] | None = None
    discard_on: tuple[type[BaseException], ...] = ()


class Task(Generic[P, R]):
    """A registered function. Calling it runs it here and now; `enqueue` stores it as a job."""

    def __init__(
        self, fn: Callable[P, Any], name: str, options: Options, policy: RetryPolicy
    ) -> None:
        self.is_public = False
        #: Whether what the body logs by `logging` is kept with the job; False: nothing at all.
        self.keep_log: bool | None = None
        self.fn = fn
        self.name = name
        self.policy = policy
        self.is_async = inspect.iscoroutinefunction(fn)
        self.signature = inspect.signature(fn)
        #: How many arguments in order make a call without any by name.
        self.arity = _arity(self.signature)
        self.defaults = options
        self.timeout = None if options.timeout is None else parse_duration(options.timeout)
        self.timeout_seconds = None if self.timeout is None else self.timeout.total_seconds()
        self.__name__ = getattr(fn, "__name__", name)
        self.__doc__ = fn.__doc__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn

    @property
    def queue(self) -> str:
        return self.defaults.queue or DEFAULT_QUEUE

    @property
    def priority(self) -> int:
        return self.defaults.priority or 0

    @property
    def max_attempts(self) -> int | None:
        return self.policy.max_attempts

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Store a job and return it, with its id, once it is committed."""
        return self.options().enqueue(*args, **kwargs)

    async def enqueue_async(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """`enqueue` without blocking the event loop."""
        return await self.options().enqueue_async(*args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        """The task with these arguments, for `enqueue_many` and `schedule`."""
        return Call(self.name, bind(self, args, kwargs), _NO_OPTIONS, self)

    def options(
        self,
        *,
        run_at: datetime | None = None,
        delay: Duration | None = None,
        priority: int | None = None,
        queue: str | None = None,
        key: str | None = None,
        key_until: KeyUntil = "finish",
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        expires: datetime | Duration | None = None,
        tags: Mapping[str, str] | None = None,
        session: AnySession | AnyAsyncSession | None = None,
    ) -> BoundTask[P, R]:
        """The task with settings for one enqueue.

        Higher `priority` runs first. `run_at` is an aware datetime, `delay` a timedelta, seconds or
        text such as "5m". While an unfinished job holds `key`, enqueueing again returns that job.
        With `session` the row joins that transaction and commits with it.
        """
        chosen = Options(
            run_at,
            delay,
            priority,
            queue,
            key,
            key_until,
            max_attempts,
            timeout,
            expires,
            tags,
            session,
        )
        return BoundTask(self, chosen)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class FunctionTask(Task[P, R]):
    """A task over a plain function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.fn(*args, **kwargs)
        return result


class CoroutineTask(Task[P, R]):
    """A task over an `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        coroutine: Coroutine[Any, Any, R] = self.fn(*args, **kwargs)
        return coroutine


@dataclass(frozen=True, slots=True)
class BoundTask(Generic[P, R]):
    """A task with settings for one enqueue: what `Task.options` returns."""

    task: Task[P, R]
    chosen: Options

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        from cronqueue import enqueueing

        return enqueueing.enqueue_call(self.call(*args, **kwargs))

    async def enqueue_async(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        from cronqueue import enqueueing

        return await enqueueing.enqueue_call_async(self.call(*args, **kwargs))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call:
        return Call(self.task.name, bind(self.task, args, kwargs), self.chosen, self.task)


class _JobDecorator(Protocol):
    # A coroutine function is a function too: the narrower overload comes first and wins.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> CoroutineTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> FunctionTask[P, R]: ...


@overload
def job(  # type: ignore[overload-overlap]
    fn: Callable[P, Coroutine[Any, Any, R]], /
) -> CoroutineTask[P, R]: ...
@overload
def job(fn: Callable[P, R], /) -> FunctionTask[P, R]: ...
@overload
def job(
    *,
    name: str | None = None,
    queue: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    timeout: Duration | None = None,
    expires: Duration | None = None,
    backoff: Duration | Sequence[Duration] | Backoff | None = None,
    retry_on: ErrorTypes | None = None,
    discard_on: ErrorTypes = (),
    api: bool = False,
    keep_log: bool | None = None,
) -> _JobDecorator: ...
def job(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    queue: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    timeout: Duration | None = None,
    expires: Duration | None = None,
    backoff: Duration | Sequence[Duration] | Backoff | None = None,
    retry_on: ErrorTypes | None = None,
    discard_on: ErrorTypes = (),
    api: bool = False,
    keep_log: bool | None = None,
) -> Any:
    """Register a function as a task; it can still be called as before.

    `timeout` asks the task to stop (`JobTimeout` is raised in it); 10 s later its process is ended.
    `backoff` is a duration, a list of them, or a function of the attempt. With `retry_on` only those
    exceptions are retried; those of `discard_on` end the job at once. With `api` the web's API may
    enqueue it. With `keep_log` what it logs by `logging` is kept with the job; False: not even what
    `current_job().log` says. Raises DefinitionError.
    """
    options = Options(queue=queue, priority=priority, timeout=timeout, expires=expires)
    policy = RetryPolicy(
        max_attempts,
        backoff_function(backoff),
        None if retry_on is None else _as_tuple(retry_on),
        _as_tuple(discard_on),
    )

    def register(function: Callable[..., Any]) -> Task[Any, Any]:
        task = _register(function, name, options, policy)
        task.is_public, task.keep_log = api, keep_log
        return task

    return register if fn is None else register(fn)


def bind(task: Task[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as JSON, after a look at the task's signature; raises ArgumentError."""
    if kwargs or len(args) not in task.arity:  # binding costs as much as storing a job in a bulk
        try:
            task.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{task.name}{task.signature}: {error}") from None
    return encode_call(args, kwargs)


def find_task(name: str) -> Task[Any, Any] | None:
    """The registered task of this name."""
    return _tasks.get(name)


def get_task(name: str) -> Task[Any, Any]:
    """The registered task of this name; raises UnknownTask."""
    task = _tasks.get(name)
    if task is None:
        raise UnknownTask(
            f"no task is named {name!r}: is its module imported (SCHED_IMPORTS, schedules folder)?"
        )
    return task


def all_tasks() -> dict[str, Task[Any, Any]]:
    """Every registered task by its name."""
    return dict(_tasks)


def check_queue(queue: object) -> str:
    """The queue's name if it can be one; raises DefinitionError."""
    if (
        not isinstance(queue, str)
        or not 0 < len(queue) <= 200
        or not queue.isprintable()
        or "," in queue
    ):
        raise DefinitionError(
            f"queue {queue!r:.60}: a name is 1 to 200 printable characters without a comma"
        )
    return queue


def check_priority(priority: object) -> int:
    """The priority if it can be one; raises DefinitionError."""
    if isinstance(priority, bool) or not isinstance(priority, int) or abs(priority) > MAX_PRIORITY:
        raise DefinitionError(
            f"priority {priority!r}: give a whole number between ±{MAX_PRIORITY}; higher runs first"
        )
    return priority


def check_max_attempts(attempts: object) -> int:
    """The number of attempts if it can be one; raises DefinitionError."""
    if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= 10_000:
        raise DefinitionError(f"max_attempts {attempts!r}: give a whole number from 1 to 10000")
    return attempts


def check_task_name(name: object) -> str:
    """The task's name if it can be one; raises DefinitionError."""
    if not isinstance(name, str) or not _TASK_NAME.fullmatch(name):
        raise DefinitionError(
            f"task name {name!r}: letters, digits and _ . : - only, a letter or _ first, at most 200"
        )
    return name


def backoff_function(backoff: Duration | Sequence[Duration] | Backoff | None) -> Backoff | None:
    """A back-off given as a duration, a list of them or a function, as a function of the attempt."""
    if backoff is None or callable(backoff):
        return backoff
    steps = list(backoff) if isinstance(backoff, list | tuple) else [backoff]
    try:
        delays = [parse_duration(step) for step in steps]  # type: ignore[arg-type]  # a str is one duration
    except (ValueError, TypeError) as error:
        raise DefinitionError(f"backoff: {error}") from None
    if not delays:
        raise DefinitionError("backoff: the list is empty")
    return lambda attempt: delays[min(attempt, len(delays)) - 1]


_tasks: dict[str, Task[Any, Any]] = {}


def _arity(signature: inspect.Signature) -> range:
    least = most = 0
    for parameter in signature.parameters.values():
        is_needed = parameter.default is inspect.Parameter.empty
        match parameter.kind:
            case inspect.Parameter.POSITIONAL_ONLY | inspect.Parameter.POSITIONAL_OR_KEYWORD:
                least, most = least + is_needed, most + 1
            case inspect.Parameter.VAR_POSITIONAL:
                most = sys.maxsize - 1
            case inspect.Parameter.KEYWORD_ONLY if is_needed:
                return range(0)
    return range(least, most + 1)


def _register(fn: Any, name: str | None, options: Options, policy: RetryPolicy) -> Task[Any, Any]:
    if isinstance(fn, Task):
        raise DefinitionError(f"{fn.name} is a task already")
    # A partial has no name of its own; an instance of a class could not be stored.
    if not callable(fn) or not hasattr(fn, "__qualname__") or inspect.isclass(fn):
        raise DefinitionError(f"@job needs a function, not {fn!r}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DefinitionError(
            f"{fn.__qualname__} is a generator, calling it runs nothing: return the values instead"
        )
    chosen = check_task_name(name or _default_name(fn))
    _check_options(chosen, options, policy)
    known = _tasks.get(chosen)
    if known is not None and _origin(known.fn) != _origin(fn):
        raise DefinitionError(
            f"two functions are named {chosen!r}: {_place(known.fn)} and {_place(fn)};"
            " give one of them name=..."
        )
    kind: type[Task[Any, Any]] = CoroutineTask if inspect.iscoroutinefunction(fn) else FunctionTask
    task = _tasks[chosen] = kind(
        fn, chosen, replace(options, max_attempts=policy.max_attempts), policy
    )
    return task


def _check_options(name: str, options: Options, policy: RetryPolicy) -> None:
    try:
        if options.queue is not None:
            check_queue(options.queue)
        if options.priority is not None:
            check_priority(options.priority)
        if policy.max_attempts is not None:
            check_max_attempts(policy.max_attempts)
        for option, value in (("timeout", options.timeout), ("expires", options.expires)):
            if value is not None:
                _check_positive(option, value)
    except (ValueError, TypeError) as error:
        raise DefinitionError(f"task {name}: {error}") from None


def _check_positive(option: str, value: Any) -> None:
    try:
        duration = parse_duration(value)
    except ValueError as error:
        raise DefinitionError(f"{option}: {error}") from None
    if duration == timedelta(0):
        raise DefinitionError(f"{option}={value!r}: give a duration longer than zero")


def _default_name(fn: Callable[..., Any]) -> str:
    """`module.function`; a module of the schedules folder is named by its file alone."""
    module = fn.__module__.removeprefix("schedules.")
    if module in ("__main__", "__mp_main__"):
        # A script that is started directly and its worker processes must mean the same task.
        main = getattr(sys.modules["__main__"], "__file__", None)
        module = Path(main).stem if main else "__main__"
    qualified = fn.__qualname__.replace("<locals>.", "").replace("<lambda>", "lambda")
    return f"{module}.{qualified}"


def _origin(fn: Callable[..., Any]) -> tuple[str, str]:
    code = getattr(fn, "__code__", None)
    return (code.co_filename if code else fn.__module__, fn.__qualname__)


def _place(fn: Callable[..., Any]) -> str:
    code = getattr(fn, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else fn.__module__


def _as_tuple(types: ErrorTypes) -> tuple[type[BaseException], ...]:
    chosen: tuple[Any, ...] = types if isinstance(types, tuple) else (types,)
    for kind in chosen:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise DefinitionError(f"retry_on and discard_on take exception classes, not {kind!r}")
    return chosen
