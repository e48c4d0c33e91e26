"""A supervisor's side of an executor: how its end is read, and that it cannot hold the supervisor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import Pipe, get_context
from types import SimpleNamespace
from typing import Any

import pytest

from cronqueue.board import Begun, Board
from cronqueue.children import Child
from cronqueue.clock import boottime
from cronqueue.processes import take_hold


@contextmanager
def child_that(target: Any, *arguments: Any) -> Iterator[Child]:
    """A child whose process does this instead of an executor's work."""
    process = get_context("spawn").Process(target=target, args=arguments)
    process.start()
    ours, theirs = Pipe()
    board = Board.create(2)
    hold = take_hold(process.pid or 0)
    child = Child(None, process, ours, board, boottime(), hold)  # type: ignore[arg-type]
    try:
        yield child
    finally:
        process.kill()
        process.join()
        child.close()
        theirs.close()


def test_a_job_that_ends_its_process_with_0_has_killed_it_all_the_same() -> None:
    with child_that(os._exit, 0) as child:
        child.board.begin(0, 7, "token", None)
        death = child.death()
        assert death is not None
        assert death.started == {7}
        assert death.cause.endswith("exited with code 0")


def test_an_executor_whose_forking_server_was_killed_begins_nothing_after_it_was_counted_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with child_that(time.sleep, 600) as child:
        real = child.process
        seen: list[int | None] = []

        def begun(board: Board) -> list[Begun]:
            seen.append(real.exitcode)
            return []

        # What is known of an executor whose parent has gone: that the line to it is broken.
        lost = SimpleNamespace(pid=real.pid, exitcode=255, join=lambda: None, close=real.close)
        monkeypatch.setattr(child, "process", lost)
        monkeypatch.setattr(Board, "begun", begun)
        death = child.death()
        assert death is not None
        assert seen == [-signal.SIGKILL]
        monkeypatch.undo()


def test_an_executor_that_said_it_was_through_has_ended_in_order() -> None:
    with child_that(os._exit, 0) as child:
        child.is_done = True
        assert child.death() is None


def test_a_cancelled_job_is_deaf_when_its_body_goes_on_and_not_when_it_is_over() -> None:
    with child_that(time.sleep, 600) as child:
        child.board.begin(0, 7, "token", None)
        child.board.begin(1, 8, "token", None)
        child.tell_cancelled({7, 8}, now=100.0)
        child.tell_cancelled({7, 8}, now=110.0)
        child.board.end_body(0)  # its finish waits for the database
        assert child.deaf_job(since=100.0) is None
        assert child.deaf_job(since=100.1) == 8


def test_a_job_that_is_claimed_again_is_not_taken_for_the_one_that_was_cancelled() -> None:
    with child_that(time.sleep, 600) as child:
        child.board.begin(0, 7, "token", None)
        child.tell_cancelled({7}, now=100.0)
        child.board.clear([0])
        child.board.begin(0, 7, "another", None)
        assert child.deaf_job(since=200.0) is None


def test_an_executor_that_does_not_listen_never_blocks_the_supervisor() -> None:
    with child_that(time.sleep, 600) as child:
        for _ in range(5000):
            child.send("cancel", list(range(50)))


def test_nothing_is_overdue_because_the_machine_slept() -> None:
    with child_that(time.sleep, 600) as child:
        child.board.begin(0, 7, "token", time.monotonic() + timedelta(minutes=1).total_seconds())
        assert child.overdue_job(time.monotonic()) is None
        assert child.overdue_job(time.monotonic() + 61) == 7
