"""A worker whose output nobody takes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services import Service, Stage

CLOSED = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")


@contextmanager
def a_pipe_that_nobody_reads() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def start(stage: Stage, output: int, *before: str) -> Service:
    process = subprocess.Popen(
        [*before, *stage.command("worker", "--name", "mute", "--verbose")],
        cwd=stage.folder,
        env=stage.environ({}),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    (stage.folder / "none").touch()
    service = Service("mute", process, stage.folder / "none", stage.database)
    stage.services.append(service)
    return service


def test_a_worker_whose_outputs_are_closed_works_and_gives_their_numbers_to_nothing_else(
    stage: Stage,
) -> None:
    worker = start(stage, subprocess.DEVNULL, *CLOSED)
    assert stage.wait_for(stage.enqueue("quick")).attempts == 1
    for pid in (worker.pid, *worker.executors()):
        assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {os.devnull}
    assert worker.stop() == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_worker_whose_lines_nobody_reads_works(stage: Stage) -> None:
    with a_pipe_that_nobody_reads() as output:
        worker = start(stage, output)
        assert stage.wait_for(stage.enqueue("quick")).attempts == 1
        assert worker.stop() == 0
