"""A worker with nothing to do: it hears of new jobs, and knows when the next one is due."""

from __future__ import annotations

import time

from cronqueue.operations import pause_queue, resume_queue
from job_rows import add, execute
from services import Stage

MUTE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sched listen'"
)
NEWER = """
from cronqueue import job


@job(name="tasks.brand_new")
def brand_new() -> None: ...
"""


def test_an_idle_worker_is_woken_by_a_new_job(stage: Stage) -> None:
    worker = stage.worker(SLEEP_DELAY="20")
    worker.executors()
    stage.wait_for(stage.enqueue("quick"))

    for _ in range(3):
        enqueued_at = time.time()
        job = stage.enqueue("quick")
        stage.wait_for(job)
        # Far from the 20 s after which it would look by itself.
        assert stage.notes("ran", job)[0].at - enqueued_at < 5


def test_a_job_for_later_starts_at_its_time_and_not_before(stage: Stage) -> None:
    worker = stage.worker(SLEEP_DELAY="20")
    worker.executors()
    stage.wait_for(stage.enqueue("quick"))

    job = stage.enqueue("quick", delay="1s")

    row = stage.wait_for(job)
    late = stage.notes("ran", job)[0].at - row.run_at.timestamp()
    assert 0 <= late < 5


def test_a_worker_that_hears_nothing_looks_by_itself(postgres_stage: Stage) -> None:
    worker = postgres_stage.worker(SCHED_SLEEP_DELAY="0.2s")
    worker.executors()
    execute(postgres_stage.database, MUTE)
    worker.wait_for_line("listening for new jobs failed, polling goes on")

    # By hand, so that nobody is told.
    job = add(postgres_stage.database, task="tasks.quick")

    assert postgres_stage.wait_for(job).attempts == 1


def test_a_task_that_no_worker_knows_is_held_until_one_does(stage: Stage) -> None:
    stage.worker(name="old")
    job = stage.enqueue("brand_new")
    assert stage.wait_for(job, "held").held_reason == "unknown_task"
    assert stage.job(job).attempts == 0

    (stage.folder / "newer.py").write_text(NEWER)
    stage.worker(name="new", SCHED_IMPORTS="newer")

    assert (stage.wait_for(job).locked_by, stage.job(job).attempts) == ("new", 1)


def test_nothing_of_a_paused_queue_is_claimed_until_it_is_resumed(stage: Stage) -> None:
    worker = stage.worker()
    worker.executors()
    pause_queue(stage.database, "mail", actor="test")
    # What a worker knows of the queues is a second old at most.
    time.sleep(1)
    paused = [stage.enqueue("quick", queue="mail") for _ in range(3)]
    stage.wait_for(stage.enqueue("quick", priority=-1))
    assert {stage.job(each).claims for each in paused} == {0}

    resume_queue(stage.database, "mail", actor="test")

    for each in paused:
        assert stage.wait_for(each).attempts == 1
