"""The pool: where bodies run. Plain functions in threads, `async def` in one event loop.

Both share one number of places. Threads and loop are started when first needed.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cronqueue.board import Board
from cronqueue.clock import boottime
from cronqueue.execution import Executed, Execution


@dataclass(frozen=True, slots=True)
class Placed:
    """An execution with its entry on the board."""

    execution: Execution
    entry: int


class Pool:
    """Runs executions, and hands back each as it ends."""

    def __init__(
        self, places: int, board: Board, ended: Callable[[Placed, Executed], None]
    ) -> None:
        self.places = places
        self._board = board
        self._ended = ended
        self._work: queue.SimpleQueue[Placed] = queue.SimpleQueue()
        self._threads = 0
        self._busy_threads = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, placed: Placed) -> None:
        """Run it; the caller knows that there is a place."""
        if placed.execution.is_async:
            loop = self._event_loop()
            loop.call_soon_threadsafe(self._start_task, loop, placed)
            return
        self._busy_threads += 1
        if self._busy_threads > self._threads:
            self._threads += 1
            # A daemon: a body that cannot be interrupted must not keep the process from ending.
            threading.Thread(
                target=self._run_thread, name=f"sched-job-{self._threads}", daemon=True
            ).start()
        self._work.put(placed)

    def thread_is_free(self) -> None:
        """The owner has taken back a plain function's execution."""
        self._busy_threads -= 1

    def _run_thread(self) -> None:
        while True:
            placed = self._work.get()
            self._begin(placed)
            executed = placed.execution.run()
            self._board.end_body(placed.entry)
            self._ended(placed, executed)

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="sched-loop", daemon=True).start()
        return self._loop

    def _start_task(self, loop: asyncio.AbstractEventLoop, placed: Placed) -> None:
        task = loop.create_task(self._run_task(placed))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _run_task(self, placed: Placed) -> None:
        self._begin(placed)
        executed = await placed.execution.run_async()
        self._board.end_body(placed.entry)
        self._ended(placed, executed)

    def _begin(self, placed: Placed) -> None:
        job_id, hard = placed.execution.claimed.id, placed.execution.hard_timeout
        placed.execution.on_limit = lambda seconds: self._board.begin(
            placed.entry, job_id, boottime() + seconds
        )
        self._board.begin(placed.entry, job_id, None if hard is None else boottime() + hard)
