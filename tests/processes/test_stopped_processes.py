"""Processes that stand still longer than their lease, and wake up again (SIGSTOP, SIGCONT)."""

from __future__ import annotations

import os
import signal

import pytest

from cronqueue.processes import is_stopped
from cronqueue.rescue import rescue
from job_rows import claim_due, execute, ids, let_leases_run_out
from services import CLOCKS, Service, Stage, eventually

LOST = "lost to a rescue or an operator"


@pytest.mark.parametrize("who", ["all", "executor", "supervisor"])
def test_a_worker_that_stood_still_past_its_lease_has_lost_its_jobs(stage: Stage, who: str) -> None:
    sleeper = stage.worker("--lease", "1s", "--concurrency", "1")
    job = stage.enqueue("hold", "end")
    stage.wait_for_notes("began")
    sleeper.executors()
    other = stage.worker("--lease", "1s")

    signal_to(sleeper, who, signal.SIGSTOP)
    stage.wait_for_notes("began", 2)
    stage.cue("end")
    result = stage.wait_for(job)
    signal_to(sleeper, who, signal.SIGCONT)

    assert len(sleeper.wait_for_line(LOST)) == 1
    assert result.locked_by == other.name
    assert (stage.job(job).result, stage.job(job).attempts) == (result.result, 2)
    assert sleeper.stop() == 0


def test_an_executor_that_wakes_up_starts_nothing_that_it_had_claimed_before(
    sqlite_stage: Stage,
) -> None:
    stage = sqlite_stage
    stage.enqueue_quick(200, priority=2)
    stage.enqueue("stand_still_first_time", priority=1)
    behind = stage.enqueue_quick(100)
    sleeper = stage.worker("--lease", "1s", "--concurrency", "1")
    (began,) = stage.wait_for_notes("began")

    other = stage.worker("--lease", "1s")
    for each in behind:
        stage.wait_for(each)
    os.kill(began.pid, signal.SIGCONT)

    sleeper.wait_for_line(LOST)
    other.stop()
    # It is back at work.
    assert stage.wait_for(stage.enqueue("quick")).locked_by == sleeper.name
    assert not [n for n in stage.notes("ran") if n.job_id in behind and n.pid == began.pid]


def test_a_machine_that_was_suspended_past_the_lease_starts_nothing_that_it_had_claimed(
    sqlite_stage: Stage,
) -> None:
    stage, slept = sqlite_stage, sqlite_stage.folder / "slept"
    stage.enqueue_quick(200, priority=2)
    long_one = stage.enqueue("stand_still_first_time", priority=1, timeout="50s")
    behind = stage.enqueue_quick(100)
    sleeper = stage.worker("--concurrency", "1", PYTHONPATH=str(CLOCKS), SLEPT=str(slept))
    (began,) = stage.wait_for_notes("began")
    eventually(lambda: is_stopped(began.pid), "a stopped executor")

    # All of it stands still for a moment, which was a minute by the clocks that go on meanwhile.
    with stage.database.begin():  # so that it is in no transaction of its own
        sleeper.send(signal.SIGSTOP)
        eventually(lambda: is_stopped(sleeper.pid), "a stopped supervisor")
        slept.write_text("60")
    let_leases_run_out(stage.database)
    rescue(stage.database)
    execute(stage.database, "UPDATE sched_jobs SET run_at = created_at WHERE state = 'queued'")
    elsewhere = ids(claim_due(stage.database, 500))
    sleeper.send_all(signal.SIGCONT)

    sleeper.wait_for_line(LOST)
    assert set(elsewhere) == {long_one, *behind}
    assert stage.wait_for(stage.enqueue("quick")).locked_by == sleeper.name
    assert not [note for note in stage.notes("ran") if note.job_id in elsewhere]
    # Nor was its time limit up: it had not run for a minute.
    assert not sleeper.said("hard timeout|an executor is gone")


def signal_to(service: Service, who: str, number: signal.Signals) -> None:
    """Signal all of a worker, its executor, or its supervisor."""
    if who == "all":
        service.send_all(number)
    else:
        os.kill(service.pid if who == "supervisor" else service.executors()[0], number)
