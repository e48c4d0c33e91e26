"""Memory: what took long to count is not counted again for every look of every reader.

What comes fast is always fresh. What took longer than `SLOW` is remembered for a time that follows from its
cost, so that all pages together take the database one part in `REST` of its time. What machines ask for again
and again is remembered in any case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

SLOW = 0.5
REST = 20
LONGEST = 60.0


class Memory:
    """The newest answer to each question, as long as it is worth keeping."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, Any]] = {}
        self._locks: dict[str, threading.Lock] = {}

    def ask(self, question: str, answer: Callable[[], T], *, at_least: float = 0.0) -> T:
        """The answer; of many who ask at once, one finds it out. With `at_least` it is always kept."""
        with self._locks.setdefault(question, threading.Lock()):
            until, kept = self._kept.get(question, (0.0, None))
            began = self._clock()
            if began < until:
                found: T = kept
                return found
            fresh = answer()
            took = self._clock() - began
            if at_least or took > SLOW:
                keep = max(at_least, min(took * REST, LONGEST))
                self._kept[question] = (self._clock() + keep, fresh)
            return fresh

    def forget(self) -> None:
        """Somebody has changed something here, and wants to see it."""
        self._kept.clear()
