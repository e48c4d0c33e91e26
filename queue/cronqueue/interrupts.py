"""Interrupts: which bodies are to be asked to stop, when, and how an exception gets into them."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cronqueue.errors import JobInterrupted, JobTimeout

if TYPE_CHECKING:
    from cronqueue.execution import Execution

NEVER = float("inf")


class Interruption:
    """A way to raise an exception in a body from outside, while it runs and never after."""

    __slots__ = ("_fired", "_lock", "_loop", "_task", "_thread")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._fired: type[JobTimeout | JobInterrupted] | None = None

    @property
    def fired(self) -> type[JobTimeout | JobInterrupted] | None:
        """What was raised, if anything."""
        return self._fired

    def open_thread(self) -> None:
        self._thread = threading.get_ident()

    def open_task(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()

    def fire(self, exception: type[JobTimeout | JobInterrupted]) -> bool:
        """Raise it in the body; False when there is none any more, or it was done before."""
        with self._lock:
            if self._fired or (self._thread is None and self._task is None):
                return False
            self._fired = exception
            if self._thread is not None:
                _raise_in_thread(self._thread, exception)
            elif self._loop is not None and self._task is not None:
                self._loop.call_soon_threadsafe(self._cancel)
            return True

    def _cancel(self) -> None:
        """In the loop, where the body may have ended meanwhile: what follows it is not to be cancelled."""
        with self._lock:
            if self._task is not None:
                self._task.cancel()

    def close(self) -> None:
        """The body is over: take back what was not delivered yet."""
        with self._lock:
            if self._thread is not None and self._fired:
                _raise_in_thread(self._thread, None)
            self._thread = self._task = None


class Interrupts:
    """The bodies that have a time limit, and those that somebody wants to end.

    Bookkeeping only: no clock, no threads. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._limited: set[Execution] = set()
        self._asked: dict[Execution, float] = {}

    def limit(self, execution: Execution) -> None:
        """It has a time limit, which may change while it runs."""
        self._limited.add(execution)

    def ask(self, execution: Execution, at: float) -> None:
        """It is to end; what does not by this time is interrupted."""
        self._asked[execution] = at

    def forget(self, executions: Iterable[Execution]) -> None:
        """They have ended, or do not begin."""
        if self._limited or self._asked:
            for execution in executions:
                self._limited.discard(execution)
                self._asked.pop(execution, None)

    def forget_all(self) -> None:
        """Nobody waits for any of them."""
        self._limited.clear()
        self._asked.clear()

    def next_at(self) -> float:
        """When the next one is due."""
        return min((at for _, at, _ in self._times()), default=NEVER)

    def fire_due(self, now: float) -> None:
        """Interrupt those whose time has come, each once."""
        due = [(execution, kind) for execution, at, kind in self._times() if now >= at]
        for execution, kind in due:
            self._limited.discard(execution)
            self._asked.pop(execution, None)
            execution.interruption.fire(kind)

    def __len__(self) -> int:
        return len(self._limited | self._asked.keys())

    def _times(self) -> Iterator[tuple[Execution, float, type[JobTimeout | JobInterrupted]]]:
        for execution in self._limited:
            if execution.soft_deadline is not None:
                yield execution, execution.soft_deadline, JobTimeout
        for execution, at in self._asked.items():
            yield execution, at, JobInterrupted


def _raise_in_thread(thread: int, exception: type[BaseException] | None) -> None:
    """Raise in another thread at its next bytecode; None takes back what was not delivered."""
    target = ctypes.py_object(exception) if exception is not None else ctypes.c_void_p()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), target)
