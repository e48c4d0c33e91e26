"""Services that start while no file can grow: they wait for room, and say so.

A disk to fill takes privileges; a limit on the size of files does not, and fails the same writes.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from services import Service, Stage

# What it stops is larger, and all else that is written here is smaller.
LIMIT = 2**20
LARGE = """
from cronsched import monthly

def large(): ...

for number in range(120):
    monthly(day=1, at="00:00", name=f"large-{number}", description="x" * 10_000)(large)
"""


def test_a_worker_that_finds_no_room_at_its_start_waits_for_it(sqlite_stage: Stage) -> None:
    job = sqlite_stage.enqueue("quick")
    with files_limited():
        worker = sqlite_stage.worker(SCHED_READ_AHEAD="20000")
        worker.wait_for_line("an executor could not be started.*File too large: .*sched-board", 2)

    lift_limit(worker)

    assert sqlite_stage.wait_for(job).attempts == 1
    assert worker.stop() == 0


def test_a_worker_that_waits_for_room_ends_in_order_when_told(sqlite_stage: Stage) -> None:
    with files_limited():
        worker = sqlite_stage.worker(SCHED_READ_AHEAD="20000")
        worker.wait_for_line("an executor could not be started")

    assert worker.stop() == 0
    assert not worker.others()


def test_a_daemon_that_finds_no_room_at_its_start_waits_for_it(sqlite_stage: Stage) -> None:
    (sqlite_stage.schedules / "large.py").write_text(LARGE)
    with files_limited():
        daemon = sqlite_stage.daemon()
        daemon.wait_for_line(
            "a turn failed.*what the schedule files declare could not be written", 2
        )

    lift_limit(daemon)

    daemon.wait_for_line("applied: 120 added")
    assert daemon.stop() == 0


@contextmanager
def files_limited() -> Iterator[None]:
    """What is started here gets the limit from us."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def lift_limit(service: Service) -> None:
    """There is room again."""
    for pid in (service.pid, *service.others()):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
