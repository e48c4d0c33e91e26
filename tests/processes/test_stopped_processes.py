"""Processes that stand still longer than their lease, and wake up again (SIGSTOP, SIGCONT)."""

from __future__ import annotations

import os
import signal

import pytest

from services import Service, Stage

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


def signal_to(service: Service, who: str, number: signal.Signals) -> None:
    """Signal all of a worker, its executor, or its supervisor."""
    if who == "all":
        service.send_all(number)
    else:
        os.kill(service.pid if who == "supervisor" else service.executors()[0], number)
