"""The pool: where bodies run. Plain functions in threads, `async def` in one event loop.

Both share one number of places. More may be offered than there are places: a thread that ends a body goes
on with the next one offered by itself, while the process's main thread is busy with the database.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any, NamedTuple

from cronqueue.board import Board
from cronqueue.execution import Executed, Execution

log = logging.getLogger("cronqueue.worker")


class Placed(NamedTuple):
    """An execution with its entry on the board, and when it was claimed (`clock.boottime`)."""

    execution: Execution
    entry: int
    claimed_at: float


class Pool:
    """Runs executions in the order in which they were offered, and tells of each as it ends.

    `may_begin` is asked before each body: while it says no, nothing begins. `begun` is told of bodies
    that have a time limit, `ended` of all.
    """

    def __init__(
        self,
        places: int,
        board: Board,
        *,
        may_begin: Callable[[Placed], bool],
        begun: Callable[[Placed], None],
        ended: Callable[[Placed, Executed], None],
    ) -> None:
        self._places = places
        self._board = board
        self._may_begin = may_begin
        self._begun = begun
        self._ended = ended
        self._lock = threading.Lock()
        self._offered: deque[Placed] = deque()
        self._active = 0
        self._parked: queue.SimpleQueue[Placed] = queue.SimpleQueue()
        self._parked_threads = 0
        self._threads = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def offer(self, placed: Iterable[Placed]) -> None:
        """Run each as soon as there is a place for it."""
        with self._lock:
            self._offered.extend(placed)
        self.fill()

    def fill(self) -> None:
        """Begin what was offered, as far as there are places."""
        while (placed := self._take()) is not None:
            self._hand_over(placed)

    def first_offered(self) -> Placed | None:
        """What begins next; None when nothing waits for a place."""
        try:
            return self._offered[0]
        except IndexError:
            return None

    def offered(self) -> int:
        """How many wait for a place."""
        return len(self._offered)

    def withdraw(self) -> list[Placed]:
        """Take back everything that has not begun."""
        with self._lock:
            withdrawn = list(self._offered)
            self._offered.clear()
        return withdrawn

    def _take(self) -> Placed | None:
        """The next body to begin, its place taken."""
        with self._lock:
            if not self._offered or self._active >= self._places:
                return None
            if not self._may_begin(self._offered[0]):
                return None
            self._active += 1
            return self._offered.popleft()

    def _put_back(self, placed: Placed) -> None:
        with self._lock:
            self._active -= 1
            self._offered.appendleft(placed)

    def _leave(self) -> None:
        with self._lock:
            self._active -= 1

    def _hand_over(self, placed: Placed) -> None:
        if placed.execution.is_async:
            loop = self._event_loop()
            loop.call_soon_threadsafe(self._start_task, loop, placed)
            return
        with self._lock:
            is_parked = self._parked_threads > 0
            self._parked_threads -= is_parked
            self._threads += not is_parked
        if is_parked:
            self._parked.put(placed)
        else:
            # A daemon: a body that cannot be interrupted must not keep the process from ending.
            name = f"sched-job-{self._threads}"
            threading.Thread(
                target=self._run_thread, args=(placed,), name=name, daemon=True
            ).start()

    def _run_thread(self, first: Placed) -> None:
        following: Placed | None = first
        while True:
            if following is None:
                following = self._parked.get()
            placed = following
            self._begin(placed)
            # In a context of its own: what a body sets there is not seen by the next one.
            self._end(placed, copy_context().run(placed.execution.run))
            following = self._next_here()

    def _next_here(self) -> Placed | None:
        """The next plain function for this thread; None, and the thread counts as parked."""
        while (placed := self._take()) is not None:
            if not placed.execution.is_async:
                return placed
            self._hand_over(placed)
        with self._lock:
            self._parked_threads += 1
        return None

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_run_for_good, args=(self._loop,), name="sched-loop", daemon=True
                ).start()
        return self._loop

    def _start_task(self, loop: asyncio.AbstractEventLoop, placed: Placed) -> None:
        task = loop.create_task(self._run_task(placed))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _run_task(self, placed: Placed) -> None:
        if not self._may_begin(placed):  # a body that blocked the loop has kept this one for long
            self._put_back(placed)
            return
        self._begin(placed)
        self._end(placed, await placed.execution.run_async())
        self.fill()

    def _begin(self, placed: Placed) -> None:
        execution = placed.execution
        execution.on_limit = lambda seconds: self._limit(placed, seconds)
        execution.begin()
        hard = execution.hard_timeout
        self._write(placed, None if hard is None else time.monotonic() + hard)
        if hard is not None:
            self._begun(placed)

    def _limit(self, placed: Placed, seconds: float) -> None:
        self._write(placed, time.monotonic() + seconds)
        self._begun(placed)

    def _write(self, placed: Placed, hard_deadline: float | None) -> None:
        claimed = placed.execution.claimed
        self._board.begin(placed.entry, claimed.id, claimed.lock_token, hard_deadline)

    def _end(self, placed: Placed, executed: Executed) -> None:
        self._board.end_body(placed.entry)
        self._leave()
        self._ended(placed, executed)


def _run_for_good(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop, whatever tasks that a body has started do to it: sys.exit() in one of them stops it."""
    while True:
        try:
            loop.run_forever()
            log.error("a task has stopped the event loop of all tasks; it goes on")
        except BaseException:
            log.exception("a task has stopped the event loop of all tasks; it goes on")
