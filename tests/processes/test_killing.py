"""Processes that are killed: nothing is lost, and only what had begun spends its attempt."""

from __future__ import annotations

import os
import signal
import time

from cronqueue.queries import attempts_of
from job_rows import execute
from services import Stage, eventually, is_alive

SUSPECT = "UPDATE sched_jobs SET run_alone = TRUE, run_at = created_at WHERE id = :id"


def test_the_jobs_of_a_killed_worker_are_done_by_another_within_the_lease(stage: Stage) -> None:
    first = stage.worker("--lease", "3s")
    jobs = [stage.enqueue("hold_first_time", "never") for _ in range(3)]
    stage.wait_for_notes("began", 3)
    second = stage.worker("--lease", "3s")
    second.executors()

    first.send_all(signal.SIGKILL)
    killed_at = time.time()

    for each in jobs:
        assert stage.wait_for(each).attempts == 2
    again = stage.notes("ended")
    assert max(note.at for note in again) - killed_at < 8
    assert sorted(note.job_id for note in again) == jobs
    assert {stage.job(each).locked_by for each in jobs} == {second.name}


def test_executors_end_with_their_supervisor(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker("--processes", "2")
    sqlite_stage.enqueue("hold_all_threads")
    sqlite_stage.enqueue("hold_first_time", "never")
    sqlite_stage.wait_for_notes("began", 1)
    pids = worker.executors(2)

    worker.send(signal.SIGKILL)

    eventually(lambda: not any(map(is_alive, pids)), "end of the executors")


def test_a_worker_goes_on_whatever_of_its_processes_is_killed(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker()
    for _ in range(3):
        worker.executors()
        for pid in worker.others():
            os.kill(pid, signal.SIGKILL)

    assert sqlite_stage.wait_for(sqlite_stage.enqueue("quick")).attempts == 1
    assert worker.stop() == 0


def test_a_job_that_lets_nothing_else_in_its_process_run_keeps_its_lease(stage: Stage) -> None:
    stage.worker("--lease", "1s").executors()
    stage.worker("--lease", "1s").executors()

    job = stage.enqueue("hold_all_threads", 3)

    assert stage.wait_for(job).attempts == 1


def test_of_a_killed_executor_only_what_had_begun_spends_its_attempt(stage: Stage) -> None:
    # Short jobs first: the buffer grows, and many are claimed behind the one that kills.
    stage.enqueue_quick(300, priority=1)
    killer = stage.enqueue("die", "first time")
    behind = stage.enqueue_quick(200)
    worker = stage.worker("--lease", "60s", "--concurrency", "1")

    for each in [killer, *behind]:
        stage.wait_for(each)

    rows = [stage.job(each) for each in behind]
    assert stage.job(killer).attempts == 2
    assert {row.attempts for row in rows} == {1}
    assert any(row.claims == 2 for row in rows)
    assert len(stage.wait_for_notes("ran", 500)) >= 500
    assert worker.said("jobs go back, of which")


def test_a_job_that_kills_its_process_fails_after_its_attempts_and_the_others_are_done(
    stage: Stage,
) -> None:
    worker = stage.worker("--lease", "60s", SCHED_BACKOFF="0.1s")
    poison = stage.enqueue("die", "kill", max_attempts=3, priority=1)
    others = stage.enqueue_quick(100)

    ended = stage.wait_for(poison, "failed")
    for each in others:
        stage.wait_for(each)

    assert ended.attempts == 3
    assert ended.reason == "worker lost"
    assert [each.outcome for each in attempts_of(stage.database, poison)] == ["lost"] * 3
    assert "SIGKILL" in (ended.last_error or "")
    assert len(worker.said("was ended by SIGKILL: .* had begun")) == 3


def test_a_job_that_leaves_its_process_in_order_is_found_out_all_the_same(
    sqlite_stage: Stage,
) -> None:
    stage = sqlite_stage
    worker = stage.worker("--lease", "60s")
    poison = stage.enqueue("die", "0", max_attempts=1)
    stage.wait_for(poison, "failed")
    neighbour = stage.enqueue("quick")

    assert stage.wait_for(neighbour).attempts == 1
    assert worker.said("exited with code 0")


def test_a_burst_goes_on_after_its_executor_was_ended_by_a_job(sqlite_stage: Stage) -> None:
    poison = sqlite_stage.enqueue("die", "0", max_attempts=1, priority=1)
    other = sqlite_stage.enqueue("quick")

    assert sqlite_stage.worker("--burst", "--concurrency", "1").wait() == 0

    assert (sqlite_stage.job(poison).state, sqlite_stage.job(other).state) == (
        "failed",
        "succeeded",
    )


def test_a_suspect_runs_alone_the_next_time(sqlite_stage: Stage) -> None:
    sqlite_stage.worker("--lease", "60s", "--concurrency", "4")
    suspects = [sqlite_stage.enqueue("hold_first_time", "never") for _ in range(3)]
    began = sqlite_stage.wait_for_notes("began", 3)

    os.kill(began[0].pid, signal.SIGKILL)

    for each in suspects:
        sqlite_stage.wait_for(each)
    later = [note for note in sqlite_stage.notes() if note.pid != began[0].pid]
    assert [note.word for note in later] == ["began", "ended"] * 3
    assert [note.job_id for note in later[::2]] == [note.job_id for note in later[1::2]]


def test_a_suspect_does_not_hold_up_others_while_it_waits_for_a_long_job(
    sqlite_stage: Stage,
) -> None:
    sqlite_stage.worker("--concurrency", "2")
    long_one = sqlite_stage.enqueue("hold", "end")
    sqlite_stage.wait_for_notes("began")
    suspect = sqlite_stage.enqueue("quick", priority=9, delay="1d")
    execute(sqlite_stage.database, SUSPECT, id=suspect)
    others = [sqlite_stage.enqueue("quick") for _ in range(5)]

    for each in others:
        sqlite_stage.wait_for(each)
    assert sqlite_stage.job(suspect).state != "succeeded"

    sqlite_stage.cue("end")
    sqlite_stage.wait_for(long_one)
    assert sqlite_stage.wait_for(suspect).attempts == 1
