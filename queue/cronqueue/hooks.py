"""Hooks: functions of the user's that are called around jobs, as in delayed_job.

`before` may veto: an exception in it is a failed attempt. The others only look on: what they raise is
logged and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
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
    Raises DefinitionError for an unknown event.
    """
    if event not in get_args(HookName):
        raise DefinitionError(
            f"no hook is named {event!r}; there are {', '.join(get_args(HookName))}"
        )
    name = task.name if isinstance(task, Task) else task

    def register(fn: F) -> F:
        _hooks.setdefault((event, name), []).append(fn)
        return fn

    return register


def has_hooks(event: HookName, task: str) -> bool:
    """Whether anybody listens."""
    return bool(_hooks) and ((event, None) in _hooks or (event, task) in _hooks)


def run_hooks(event: HookName, task: str | None, *arguments: object) -> None:
    """Call the hooks of the event in the order of their registration; lets their exceptions out."""
    if not _hooks:
        return
    for fn in (*_hooks.get((event, None), ()), *(_hooks.get((event, task), ()) if task else ())):
        fn(*arguments)


def announce(event: HookName, task: str | None, *arguments: object) -> None:
    """`run_hooks` for an event that cannot be vetoed: exceptions are logged."""
    try:
        run_hooks(event, task, *arguments)
    except BaseException:  # a hook may call sys.exit(): that must not end our thread
        log.exception("hook %r failed; the job goes on", event)


_hooks: dict[tuple[HookName, str | None], list[Callable[..., Any]]] = {}
