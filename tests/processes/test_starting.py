"""How executors come to be: forked from their supervisor while that may be, and only then."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from cronqueue.processes import can_fork
from job_rows import add
from services import Stage

OWN_PROGRAM = """
import threading, time
from cronqueue import Worker

if __name__ == "__main__":
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    raise SystemExit(Worker(burst=True).run())
"""


def test_executors_share_the_memory_of_their_supervisor_and_nothing_else_runs(
    sqlite_stage: Stage,
) -> None:
    worker = sqlite_stage.worker("--processes", "2")

    executors = worker.executors(2)

    assert sorted(worker.others()) == sorted(executors)
    for pid in executors:
        assert _shared_mb(pid) > 10
        assert Path(f"/proc/{pid}/comm").read_text() == "sched-executor\n"


def test_a_worker_that_cannot_begin_ends_and_leaves_nothing_behind(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker(SCHED_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    assert worker.wait() != 0
    assert not worker.others()


def test_fewer_jobs_than_executors_leave_no_executor_waiting(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker("--processes", "4", "--max-jobs", "2")

    for job in sqlite_stage.enqueue_quick(2):
        sqlite_stage.wait_for(job)

    assert worker.wait() == 0
    assert not worker.others()


def test_a_program_with_threads_is_not_forked(sqlite_stage: Stage) -> None:
    job = add(sqlite_stage.database, task="tasks.quick")
    (sqlite_stage.folder / "program.py").write_text(OWN_PROGRAM)

    subprocess.run(
        [sys.executable, "program.py"],
        cwd=sqlite_stage.folder,
        env=sqlite_stage.environ({}),
        check=True,
        timeout=60,
    )

    assert sqlite_stage.job(job).state == "succeeded"


def test_a_process_with_a_second_thread_cannot_be_forked() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert not can_fork()
    finally:
        over.set()
        thread.join()


def _shared_mb(pid: int) -> float:
    """What it shares of the memory that was written to: only a fork leaves any."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Shared_Dirty:"))
