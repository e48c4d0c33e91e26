"""Hooks: functions of the user's that are called around jobs, as in delayed_job.

`before` may veto: an exception in it is a failed attempt. The others only look on: what they raise is
logged, keeps no other hook from being called, and changes nothing.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar, get_args

from cronqueue.errors import DefinitionError
from cronqueue.registry import Task

HookName = Literal[
    "enqueue", "before", "success", "error", "failure", "after", "worker_start", "worker_stop"
]
F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("cronqueue.hooks")


def hook(event: HookName, task: Task[Any, Any] | str | None = None) -> Callable[[F], F]:
    """Call the decorated function at `event`, for all tasks or for one.

    `enqueue(job)` after the row is written, in its transaction · `before(job)` · `success(job, result)` ·
    `error(job, exception)` at every failed attempt · `failure(job, exception)` when the job has failed
    for good · `after(job)` always · `worker_start()` and `worker_stop()` in each executor process.
    What an `enqueue` hook enqueues itself joins the same transaction. Raises DefinitionError for an
    unknown event, or for an `async def`.
    """
    if event not in get_args(HookName):
        raise DefinitionError(
            f"no hook is named {event!r}; there are {', '.join(get_args(HookName))}"
        )
    name = task.name if isinstance(task, Task) else task

    def register(fn: F) -> F:
        if inspect.iscoroutinefunction(fn):
            raise DefinitionError(
                f"hook {event!r}: {fn.__qualname__} is async, give a plain function"
            )
        _hooks.setdefault((event, name), []).append(fn)
        return fn

    return register


def any_hooks() -> bool:
    """Whether anybody listens to anything."""
    return bool(_hooks)


def has_hooks(event: HookName, task: str) -> bool:
    """Whether anybody listens."""
    return bool(_hooks) and ((event, None) in _hooks or (event, task) in _hooks)


def run_hooks(event: HookName, task: str | None, *arguments: object) -> None:
    """Call the hooks of the event in the order of their registration; lets their exceptions out."""
    for fn in _listening(event, task):
        fn(*arguments)


def announce(event: HookName, task: str | None, *arguments: object) -> None:
    """`run_hooks` for an event that cannot be vetoed: exceptions are logged."""
    for fn in _listening(event, task):
        try:
            fn(*arguments)
        except Exception:
            log.exception("hook %r failed; the job goes on", event)
        except BaseException:
            if event == "enqueue":  # in a thread of the caller's, which may well be ended
                raise
            log.exception("hook %r failed; the job goes on", event)


def _listening(event: HookName, task: str | None) -> Iterator[Callable[..., Any]]:
    """Those for all tasks first, then the task's own."""
    yield from _hooks.get((event, None), ())
    if task is not None:
        yield from _hooks.get((event, task), ())


_hooks: dict[tuple[HookName, str | None], list[Callable[..., Any]]] = {}
