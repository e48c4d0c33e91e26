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
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from cronqueue.board import Board
from cronqueue.execution import Executed, Execution

log = logging.getLogger("cronqueue.worker")


class Pool:
    """Runs executions in the order in which they were offered, and tells of each as it ends.

    `may_begin` is asked before each body: while it says no, nothing begins. `begun` is told of bodies
    that have a time limit; `ended` that there is something to be taken by `take_ended`.

    A thread keeps its place from body to body, and takes the next one offered without a lock: of a deque
    only one can. Places change hands under the lock, with another look at what is offered, so that nothing
    stays behind. (With a lock, a message and four objects for each job, a no-op job on PostgreSQL cost its
    executor 32 us of processor time; now 13 us, of which 5 are spent in these threads.)
    """

    def __init__(
        self,
        places: int,
        board: Board,
        *,
        may_begin: Callable[[Execution], bool],
        begun: Callable[[Execution], None],
        ended: Callable[[], None],
    ) -> None:
        self._places = places
        self._board = board
        self._may_begin = may_begin
        self._begun = begun
        self._tell = ended
        self._has_told = False
        self._ended: deque[tuple[Execution, Executed]] = deque()
        self._lock = threading.Lock()
        self._offered: deque[Execution] = deque()
        self._active = 0
        self._parked: queue.SimpleQueue[Execution] = queue.SimpleQueue()
        self._parked_threads = 0
        self._threads = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def offer(self, executions: Iterable[Execution]) -> None:
        """Run each as soon as there is a place for it."""
        self._offered.extend(executions)
        self.fill()

    def fill(self) -> None:
        """Begin what was offered, as far as there are places."""
        while self._offered and self._take_place():
            while (execution := self._next_offered()) is None:
                if self._leave_place():
                    return
            self._hand_over(execution)

    def take_ended(self) -> list[tuple[Execution, Executed]]:
        """What has ended since the last call. `ended` is called again for what ends from now on."""
        self._has_told = False
        ended = []
        with suppress(IndexError):
            while True:
                ended.append(self._ended.popleft())
        return ended

    def first_offered(self) -> Execution | None:
        """What begins next; None when nothing waits for a place."""
        try:
            return self._offered[0]
        except IndexError:
            return None

    def offered(self) -> int:
        """How many wait for a place."""
        return len(self._offered)

    def withdraw(self) -> list[Execution]:
        """Take back everything that has not begun."""
        withdrawn = []
        with suppress(IndexError):
            while True:
                withdrawn.append(self._offered.popleft())
        return withdrawn

    def _next_offered(self) -> Execution | None:
        """The next body to begin; None when there is none, or it may not begin."""
        try:
            execution = self._offered.popleft()
        except IndexError:
            return None
        if self._may_begin(execution):
            return execution
        self._offered.appendleft(execution)
        return None

    def _take_place(self) -> bool:
        with self._lock:
            if self._active >= self._places:
                return False
            self._active += 1
            return True

    def _leave_place(self, *, parks: bool = False) -> bool:
        """Give the place up; False, and it is kept, when there is something to begin after all."""
        with self._lock:
            first = self.first_offered()
            if first is not None and self._may_begin(first):
                return False
            self._active -= 1
            self._parked_threads += parks
            return True

    def _hand_over(self, execution: Execution) -> None:
        """Begin it in a place that is taken."""
        if execution.is_async:
            loop = self._event_loop()
            loop.call_soon_threadsafe(self._start_task, loop, execution)
            return
        with self._lock:
            is_parked = self._parked_threads > 0
            self._parked_threads -= is_parked
            self._threads += not is_parked
        if is_parked:
            self._parked.put(execution)
        else:
            # A daemon: a body that cannot be interrupted must not keep the process from ending.
            name = f"sched-job-{self._threads}"
            threading.Thread(
                target=self._run_thread, args=(execution,), name=name, daemon=True
            ).start()

    def _run_thread(self, first: Execution) -> None:
        execution = first
        while True:
            self._begin(execution)
            # In a context of its own: what a body sets there is not seen by the next one.
            self._end(execution, copy_context().run(execution.run))
            execution = self._next_here() or self._parked.get()

    def _next_here(self) -> Execution | None:
        """The next plain function for this thread, in its place; None, and the thread counts as parked."""
        while True:
            execution = self._next_offered()
            if execution is None:
                if self._leave_place(parks=True):
                    return None
            elif not execution.is_async:
                return execution
            else:
                self._hand_over(execution)  # and this thread's place with it
                if not self._take_place():
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

    def _start_task(self, loop: asyncio.AbstractEventLoop, execution: Execution) -> None:
        task = loop.create_task(self._run_task(execution))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _run_task(self, execution: Execution) -> None:
        if not self._may_begin(execution):  # a body that blocked the loop has kept it for long
            self._offered.appendleft(execution)
            self._leave_place()
            return
        self._begin(execution)
        self._end(execution, await execution.run_async())
        while (following := self._next_offered()) is None:
            if self._leave_place():
                return
        self._hand_over(following)

    def _begin(self, execution: Execution) -> None:
        execution.begin()
        if (hard := execution.hard_timeout) is None:
            self._write(execution, None)
        else:
            self.limit(execution, hard)

    def limit(self, execution: Execution, seconds: float) -> None:
        """Its process ends unless the body does within this time."""
        self._write(execution, time.monotonic() + seconds)
        self._begun(execution)

    def _write(self, execution: Execution, hard_deadline: float | None) -> None:
        claimed = execution.claimed
        self._board.begin(execution.entry, claimed.id, claimed.lock_token, hard_deadline)

    def _end(self, execution: Execution, executed: Executed) -> None:
        self._board.end_body(execution.entry)
        self._ended.append((execution, executed))
        if not self._has_told:  # one nudge for all that end before somebody looks
            self._has_told = True
            self._tell()


def _run_for_good(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop, whatever tasks that a body has started do to it: sys.exit() in one of them stops it."""
    while True:
        try:
            loop.run_forever()
            log.error("a task has stopped the event loop of all tasks; it goes on")
        except BaseException:
            log.exception("a task has stopped the event loop of all tasks; it goes on")
