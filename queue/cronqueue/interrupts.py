"""Interrupts: which bodies are to be asked to stop, and when.

Bookkeeping only: no clock, no threads. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cronqueue.errors import JobInterrupted, JobTimeout
from cronqueue.execution import Execution

NEVER = float("inf")


class Interrupts:
    """The bodies that have a time limit, and those that somebody wants to end."""

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
