"""An executor in the test's own process: turned by hand, or by a thread of its own.

The supervisor's words are put into its ears, its own are kept in `said`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from typing import Any

from cronqueue.board import Board
from cronqueue.clock import boottime
from cronqueue.database import Database
from cronqueue.executor import Executor
from cronqueue.executorspec import ExecutorSpec
from cronqueue.pipes import ExecutorEnd
from cronqueue.settings import Settings

# Everything waited for comes at once; a machine under load may need longer.
PATIENCE = 20.0


class InProcess(Executor):
    """An executor that hears and speaks within this process."""

    def __init__(self, database: Database, **settings: Any) -> None:
        chosen = dataclasses.replace(Settings(), **settings)
        entries = chosen.concurrency + 3 * chosen.read_ahead
        self.board = Board.create(entries)
        self.board.renewed_at = boottime()
        self.said: list[tuple[Any, ...]] = []
        spec = ExecutorSpec(
            worker_id="worker-id",
            name="worker",
            database_url=str(database.url),
            settings=chosen,
            schedules=None,
            imports=(),
            burst=False,
            max_jobs=None,
            board_path=str(self.board.path),
            board_entries=entries,
            log_level=logging.INFO,
            log_jobs=logging.INFO,
        )
        super().__init__(spec, ExecutorEnd(Pipe()[0]), self.board, database)
        self._load()

    def hear(self, *message: Any) -> None:
        """What the supervisor would say."""
        self._inbox.put(message)

    def rest(self) -> None:
        """Turn as long as there is something to do at once; it must come to an end."""
        for _ in range(100):
            is_idle = self._longest_wait() > 0 and self._inbox.empty()
            if is_idle and not self._correspondence.awaits_answer:
                return
            self.turn()
        raise AssertionError("the executor never rests")

    def turn_until(self, look: Callable[[], Any]) -> None:
        """Turn until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < deadline, "it never came"
            self.board.renewed_at = boottime()
            self.hear("ended")  # so that a turn does not wait for long
            self.turn()

    def _read_pipe(self) -> None: ...

    def _send(self, *message: Any) -> None:
        self.said.append(message)


@contextmanager
def blocked() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Two events for a body: it sets the first when it has begun, and waits for the second."""
    begun, go_on = threading.Event(), threading.Event()
    try:
        yield begun, go_on
    finally:
        go_on.set()
