"""Time limits, and cancelling what runs."""

from __future__ import annotations

import json

import pytest

from cronqueue.operations import cancel_job
from cronqueue.queries import attempts_of
from services import Stage, eventually


@pytest.mark.parametrize("task", ["overrun", "overrun_async"])
def test_a_task_is_told_when_its_time_is_up(sqlite_stage: Stage, task: str) -> None:
    sqlite_stage.worker()
    job = sqlite_stage.enqueue(task, timeout="0.2s", max_attempts=1)

    failed = sqlite_stage.wait_for(job, "failed")

    assert len(sqlite_stage.notes("told")) == 1
    assert "JobTimeout" in (failed.last_error or "")


@pytest.mark.parametrize(
    ("database_url", "task"),
    [("sqlite", "ignore_everything"), ("postgresql", "hold_all_threads")],
    indirect=["database_url"],
)
def test_a_task_that_does_not_listen_is_ended_with_its_process_and_pays_alone(
    stage: Stage, task: str
) -> None:
    worker = stage.worker("--lease", "60s")
    neighbour = stage.enqueue("hold_first_time", "end")
    stage.wait_for_notes("began")
    culprit = stage.enqueue(task, timeout="0.2s", max_attempts=1)

    failed = stage.wait_for(culprit, "failed")
    worker.wait_for_line("ran past its hard timeout: 2 jobs go back, of which 2 had begun")
    stage.cue("end")
    spared = stage.wait_for(neighbour)

    assert "hard timeout" in (failed.last_error or "")
    assert [each.outcome for each in attempts_of(stage.database, culprit)] == ["timeout"]
    assert (spared.attempts, spared.refunds) == (1, 1)
    assert not spared.run_alone


def test_a_neighbour_gets_its_attempt_back_three_times_at_most(sqlite_stage: Stage) -> None:
    sqlite_stage.worker("--lease", "60s", SCHED_BACKOFF="0.1s")
    neighbour = sqlite_stage.enqueue("hold", "never", priority=1)
    for times in range(1, 5):
        sqlite_stage.wait_for_notes("began", times, neighbour)
        culprit = sqlite_stage.enqueue("hold_all_threads", timeout="0.1s", max_attempts=1)
        sqlite_stage.wait_for(culprit, "failed")

    sqlite_stage.wait_for_notes("began", 5, neighbour)
    assert (sqlite_stage.job(neighbour).refunds, sqlite_stage.job(neighbour).attempts) == (3, 2)


def test_a_task_may_look_whether_it_is_cancelled_and_shows_how_far_it_is(stage: Stage) -> None:
    stage.worker()
    job = stage.enqueue("obey_cancel")
    stage.wait_for_notes("began")
    eventually(lambda: stage.job(job).progress_json, "progress")
    progress = json.loads(stage.job(job).progress_json or "")
    assert progress == {"done": 1, "total": 2, "message": "halfway"}

    cancel_job(stage.database, job, actor="test")

    stage.wait_for_notes("told")
    assert stage.wait_for(job, "succeeded").result == "stopped by itself"


@pytest.mark.parametrize("task", ["wait_to_be_interrupted", "ignore_nothing"])
def test_a_cancelled_task_that_does_not_look_is_interrupted(sqlite_stage: Stage, task: str) -> None:
    sqlite_stage.worker(SCHED_CANCEL_TIMEOUT="4s")
    job = sqlite_stage.enqueue(task)
    sqlite_stage.wait_for_notes("began")

    cancel_job(sqlite_stage.database, job, actor="test")

    assert sqlite_stage.wait_for(job, "cancelled").attempts == 1
    assert len(sqlite_stage.notes("interrupted")) == 1


@pytest.mark.parametrize(
    ("database_url", "task"),
    [("postgresql", "ignore_everything"), ("sqlite", "hold_all_threads")],
    indirect=["database_url"],
)
def test_a_cancelled_task_that_does_not_listen_is_ended_with_its_process_and_pays_alone(
    stage: Stage, task: str
) -> None:
    worker = stage.worker("--lease", "60s", SCHED_CANCEL_TIMEOUT="1s")
    neighbour = stage.enqueue("hold_first_time", "end")
    stage.wait_for_notes("began")
    deaf = stage.enqueue(task)
    stage.wait_for_notes("began", 1, deaf)

    cancel_job(stage.database, deaf, actor="test")

    cancelled = stage.wait_for(deaf, "cancelled")
    worker.wait_for_line("was cancelled and went on for 1s: 2 jobs go back, of which 2 had begun")
    stage.cue("end")
    spared = stage.wait_for(neighbour)
    assert "went on for 1s" in (cancelled.last_error or "")
    assert cancelled.attempts == 1
    assert [each.outcome for each in attempts_of(stage.database, deaf)] == ["interrupted"]
    assert (spared.attempts, spared.refunds) == (1, 1)
    assert not spared.run_alone
