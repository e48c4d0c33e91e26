"""One SQLite file, and many programs that write to it."""

from __future__ import annotations

import subprocess
import sys

from job_rows import query
from services import PATIENCE, Stage

PROGRAMS, JOBS = 4, 40
ENQUEUEING = f"""
from cronqueue import enqueue
for _ in range({JOBS}):
    enqueue("tasks.quick")
"""


def test_many_who_write_to_one_file_wait_for_one_another_and_leases_are_kept(
    sqlite_stage: Stage,
) -> None:
    stage = sqlite_stage
    for _ in range(2):
        stage.worker("--lease", "3s", "--concurrency", "4")
    held = [stage.enqueue("hold", "end") for _ in range(2)]
    stage.wait_for_notes("began", 2)

    with stage.database.snapshot() as reader:  # who reads for long keeps nobody from writing
        reader.exec_driver_sql("SELECT count(*) FROM sched_jobs")
        programs = [
            subprocess.Popen(
                [sys.executable, "-c", ENQUEUEING],
                cwd=stage.folder,
                env=stage.environ({}),
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(PROGRAMS)
        ]
        for each in programs:
            _, said = each.communicate(timeout=PATIENCE)
            assert (each.returncode, said) == (0, "")
        stage.wait_for_notes("ran", PROGRAMS * JOBS)
    stage.cue("end")

    assert [stage.wait_for(each).attempts for each in held] == [1, 1]
    assert [service.stop() for service in stage.services] == [0, 0]
    spent = "SELECT count(*), sum(attempts) FROM sched_jobs WHERE state = 'succeeded'"
    total = PROGRAMS * JOBS + len(held)
    assert query(stage.database, spent) == [(total, total)]
    assert not any(service.said("locked|is away") for service in stage.services)
