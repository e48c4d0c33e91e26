"""Several daemons and workers on one database."""

from __future__ import annotations

import signal
from collections import Counter
from datetime import timedelta

from job_rows import all_jobs, query
from services import Stage, eventually

EVERY_SECOND = """
import cronqueue
from cronsched import every
from schedules.tasks import note


@every("1s", max_attempts=5, overlap="allow", catch_up="all")
def tick() -> None:
    note("tick")
"""


def test_each_occurrence_is_one_row_and_one_run_whoever_is_killed(stage: Stage) -> None:
    (stage.schedules / "ticking.py").write_text(EVERY_SECOND)
    daemons = [stage.daemon() for _ in range(3)]
    workers = [stage.worker("--lease", "2s") for _ in range(2)]
    jobs = stage.enqueue_quick(50)
    stage.wait_for_notes("tick", 2)

    workers[0].send_all(signal.SIGKILL)
    daemons[0].send_all(signal.SIGKILL)
    jobs += stage.enqueue_quick(50)
    stage.wait_for_notes("tick", 6)

    for each in jobs:
        stage.wait_for(each)
    eventually(lambda: query(stage.database, LEFT_BEHIND) == [], "rescue of what was running")
    # In this order: ticks go on, and a claim is written before its body begins.
    runs = Counter(note.job_id for note in stage.notes())
    rows = {job.id: job for job in all_jobs(stage.database)}
    assert set(jobs) <= set(runs)
    # Twice began only what was rescued in between.
    assert all(times <= rows[each].attempts for each, times in runs.items())
    planned = sorted(row.planned_for for row in rows.values() if row.planned_for)
    assert planned == [planned[0] + timedelta(seconds=each) for each in range(len(planned))]


def test_what_is_claimed_behind_a_long_job_goes_to_others_unspent(stage: Stage) -> None:
    # Short jobs first: a buffer grows.
    stage.enqueue_quick(200, priority=2)
    stage.enqueue("hold", "end", priority=1)
    behind = stage.enqueue_quick(100)
    stage.worker("--concurrency", "1")
    stage.wait_for_notes("began")

    stage.worker("--concurrency", "1")

    for each in behind:
        assert stage.wait_for(each).attempts == 1
    assert any(stage.job(each).claims > 1 for each in behind)
    assert len(stage.notes("ran")) == 300


LEFT_BEHIND = """
SELECT a.id FROM sched_jobs AS a WHERE a.state <> 'succeeded' AND EXISTS
    (SELECT 1 FROM sched_jobs AS b WHERE b.schedule = a.schedule
        AND b.planned_for > a.planned_for AND b.state = 'succeeded')
"""
