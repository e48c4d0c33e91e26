"""Faults within a worker's own processes: whoever fails ends, and is replaced or leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cronqueue import enqueue
from job_rows import configured, execute
from services import PATIENCE, Stage, eventually, is_alive

SCRIBBLER = '''
import os, stat, time
from cronqueue import current_job, job

@job
def scribble(text: str) -> int:
    """Writes into every socket that it finds: on SQLite, the pipe to the supervisor alone."""
    if current_job().attempt == 1:
        for name in os.listdir("/proc/self/fd"):
            try:
                if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    os.write(int(name), text.encode())
            except OSError:
                pass
        time.sleep(600)
    return os.getpid()
'''

SABOTEUR = """
import threading, time
from cronqueue import current_job, executor, job

def fail(self):
    raise RuntimeError("a fault of ours")

@job
def sabotage() -> str:
    if current_job().attempt == 1:
        threading.Thread(target=time.sleep, args=(600,)).start()
        executor.Executor.turn = fail
        time.sleep(600)
    return "after all"
"""

FAILING_SUPERVISOR = """
import sys
from cronqueue import Worker, supervisor

def fail(self, now):
    if any(child.is_ready for child in self._children):
        print(*(child.pid for child in self._children), flush=True)
        raise RuntimeError("a fault of ours")

supervisor.Supervisor._keep_up = fail
if __name__ == "__main__":
    Worker(processes=2).run()
"""


@pytest.mark.parametrize("text", ["\x7f" * 64, '{"half'])
def test_a_job_that_writes_into_the_pipe_of_its_process_ends_that_process_alone(
    sqlite_stage: Stage, text: str
) -> None:
    (sqlite_stage.schedules / "scribbler.py").write_text(SCRIBBLER)
    worker = sqlite_stage.worker()

    job = enqueue_in(sqlite_stage, "scribbler.scribble", text)

    worker.wait_for_line("an executor is gone: a job has written into its pipe")
    execute(sqlite_stage.database, "UPDATE sched_jobs SET run_at = created_at")
    assert sqlite_stage.wait_for(job).attempts == 2
    assert worker.stop() == 0


def test_an_executor_that_fails_is_replaced_whatever_threads_it_has(sqlite_stage: Stage) -> None:
    (sqlite_stage.schedules / "saboteur.py").write_text(SABOTEUR)
    worker = sqlite_stage.worker()

    job = enqueue_in(sqlite_stage, "saboteur.sabotage")

    worker.wait_for_line("RuntimeError: a fault of ours")
    worker.wait_for_line("an executor is gone: its process .* exited with code 1")
    assert sqlite_stage.wait_for(job).result == "after all"
    assert worker.stop() == 0


def test_a_supervisor_that_fails_ends_with_its_executors(sqlite_stage: Stage) -> None:
    program = sqlite_stage.folder / "program.py"
    program.write_text(FAILING_SUPERVISOR)

    ended = subprocess.run(
        [sys.executable, program],
        cwd=sqlite_stage.folder,
        env=sqlite_stage.environ({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert ended.returncode == 1
    assert "RuntimeError: a fault of ours" in ended.stderr
    pids = [int(pid) for pid in ended.stdout.split()]
    assert len(pids) == 2
    eventually(lambda: not any(map(is_alive, pids)), "end of the executors")


def enqueue_in(stage: Stage, task: str, *args: str) -> int:
    """A job for a task of the test's own file."""
    with configured(stage.database):
        return enqueue(task, args).id
