"""Starting executors: the first ones are forked from the supervisor, later ones from a clean server.

A process that has neither threads nor connections yet may be forked, and its children share the memory of
what it has imported, which is most of theirs. So a supervisor that is alone in its process forks its
executors first of all. They wait to be told whose they are.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess

from cronqueue.board import Board
from cronqueue.children import Child
from cronqueue.clock import boottime
from cronqueue.executorprocess import run_executor
from cronqueue.executorspec import ExecutorSpec
from cronqueue.pipes import SupervisorEnd
from cronqueue.plugins import load_all
from cronqueue.processes import (
    STOPPING_SIGNALS,
    can_fork,
    ignore_signals,
    start_context,
    take_hold,
)

log = logging.getLogger("cronqueue.worker")


class Starter:
    """Starts executors."""

    def __init__(self) -> None:
        self._forked: list[tuple[BaseProcess, Connection]] = []

    def fork(self, number: int) -> None:
        """Fork as many now, where that is clean; `start` gives them their work.

        To be called before anything else has been done in this process.
        """
        with suppress(Exception):  # who needs it says what is wrong with it
            load_all()
        if not can_fork():
            return
        # Looking for garbage writes to all that is looked at, and what is written is not shared.
        gc.freeze()
        unmasked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING_SIGNALS)
        try:
            for _ in range(number):
                self._fork_one()
        except OSError as error:
            log.warning("executors could not be forked ahead: %s", error)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unmasked)

    def start(self, template: ExecutorSpec) -> Child:
        """An executor with an identity of its own. Raises OSError or EOFError where that fails."""
        board = Board.create(template.board_entries)
        board.renewed_at = boottime()
        board.beat_at = time.monotonic()
        spec = replace(template, worker_id=secrets.token_hex(16), board_path=str(board.path))
        try:
            process, pipe = self._forked.pop(0) if self._forked else _started()
            _tell(process, pipe, spec)
        except BaseException:
            board.forget_file()
            board.close()
            raise
        hold = take_hold(process.pid or 0)
        return Child(spec, process, SupervisorEnd(pipe), board, boottime(), hold)

    def close(self) -> None:
        """End those that were forked and got no work."""
        for process, pipe in self._forked:
            _end(process, pipe)
        self._forked.clear()

    def _fork_one(self) -> None:
        ours, theirs = Pipe()
        ends = [ours, *(pipe for _, pipe in self._forked)]
        process = multiprocessing.get_context("fork").Process(
            target=_run_forked, args=(theirs, ends), name="sched-executor"
        )
        try:
            process.start()
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._forked.append((process, ours))


def _run_forked(pipe: Connection, ends: list[Connection]) -> None:
    """In the new process: let go of what is the supervisor's."""
    ignore_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING_SIGNALS)
    for each in ends:  # who holds the other end of a pipe does not hear of its end
        each.close()
    run_executor(pipe)


def _tell(process: BaseProcess, pipe: Connection, spec: ExecutorSpec) -> None:
    try:
        pipe.send(spec)
    except BaseException:
        _end(process, pipe)
        raise


def _end(process: BaseProcess, pipe: Connection) -> None:
    pipe.close()
    process.kill()
    process.join()
    process.close()


def _started() -> tuple[BaseProcess, Connection]:
    ours, theirs = Pipe()
    process = start_context().Process(target=run_executor, args=(theirs,), name="sched-executor")  # type: ignore[attr-defined]
    try:
        process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours
