"""The courier: carries one errand at a time to the database, in a thread of its own.

Meanwhile the executor takes in what the last one brought and runs jobs: with those that do nothing, its own
work takes as long as the database's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from cronqueue.patience import SHORT, answers_within

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Errand(Generic[T]):
    """What to do in the courier's thread, and what then, with the answer or the error, in the executor's."""

    work: Callable[[], T]
    answered: Callable[[T], None]
    failed: Callable[[Exception], None]


class Courier:
    """`arrived` is called in the courier's thread with what is then to be called in the executor's."""

    def __init__(self, arrived: Callable[[Callable[[], None]], None]) -> None:
        self._arrived = arrived
        self._errands: queue.SimpleQueue[Errand[Any]] = queue.SimpleQueue()
        self._has_thread = False
        #: Whether an errand is under way, or what it brought not yet taken in.
        self.is_away = False
        #: When it was sent last, in monotonic seconds.
        self.sent_at = float("-inf")

    def start(self) -> None:
        """Have a thread; raises RuntimeError where none can be had."""
        if not self._has_thread:
            threading.Thread(target=self._run, name="sched-courier", daemon=True).start()
            self._has_thread = True

    def send(self, errand: Errand[Any], now: float) -> None:
        """Begin an errand. None must be under way."""
        self.start()
        self.is_away, self.sent_at = True, now
        self._errands.put(errand)

    def _run(self) -> None:
        while True:
            self._arrived(partial(self._take_in, _carry_out(self._errands.get())))

    def _take_in(self, brought: Callable[[], None]) -> None:
        self.is_away = False
        brought()


def _carry_out(errand: Errand[T]) -> Callable[[], None]:
    try:
        with answers_within(SHORT):
            answer = errand.work()
    except Exception as error:
        return partial(errand.failed, error)
    return partial(errand.answered, answer)
