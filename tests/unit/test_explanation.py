"""Why a job does not run: every reason, from its row and what is around it."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from cronqueue.overview import Pause, WorkerStatus
from cronqueue.queries import JobRow
from cronsched.explanation import Surroundings, tell
from job_rows import NOW, at

EMPTY = JobRow(**{each.name: None for each in fields(JobRow)})  # type: ignore[arg-type]
JOB = replace(
    EMPTY,
    id=7,
    task="t",
    queue="mail",
    priority=3,
    state="queued",
    run_at=at(-60),
    attempts=0,
    max_attempts=25,
    origin="adhoc",
    gated=False,
    pinned=False,
)


def worker(**values: Any) -> WorkerStatus:
    empty = WorkerStatus(**{each.name: None for each in fields(WorkerStatus)})  # type: ignore[arg-type]
    return replace(empty, kind="worker", state="running", **values)


AROUND = Surroundings(NOW, workers=[worker()])
PAUSE = Pause(at(-600), "ann", "repairs", at(3600))


def codes(around: Surroundings = AROUND, **values: Any) -> list[str]:
    return [each.code for each in tell(replace(JOB, **values), around)]


def words(around: Surroundings = AROUND, **values: Any) -> str:
    return " / ".join(each.words for each in tell(replace(JOB, **values), around))


def remedies(around: Surroundings = AROUND, **values: Any) -> list[str | None]:
    return [each.remedy for each in tell(replace(JOB, **values), around)]


def test_a_job_that_is_due_waits_for_a_place() -> None:
    assert codes() == ["due"]
    others = [worker(queues="web", concurrency=9, running=0), worker(concurrency=8, running=8)]
    told = words(replace(AROUND, workers=others))
    assert told.startswith("8 of the 8 places that take it are busy: ")
    assert codes(gated=True, guard="g") == ["gate"]


def test_a_job_of_the_future_says_when() -> None:
    (reason,) = tell(replace(JOB, run_at=at(90)), AROUND)
    assert (reason.code, reason.until) == ("future", at(90))
    assert "in 1m 30s" in reason.words
    failed = replace(AROUND, error="ValueError: no")
    told = words(failed, run_at=at(90), attempts=2)
    assert "attempt 2 of 25 did not succeed, this is the next; ValueError: no" in told
    assert remedies(run_at=at(90)) == ["sched jobs run-now 7"]


def test_all_reasons_are_told_at_once() -> None:
    around = replace(AROUND, queue_pause=PAUSE, guard_holder=5, workers=[])
    assert codes(around, run_at=at(90), gated=True, guard="g") == [
        "future",
        "queue_paused",
        "guard",
        "no_worker",
    ]
    told = words(around, gated=True, guard="g")
    assert "paused by ann (repairs) until 2026-01-02 04:04:05 UTC" in told
    assert remedies(around, gated=True, guard="g") == [
        "sched queues resume mail",
        "sched explain 5",
        "sched worker",
    ]
    assert "must not overlap with job 5" in told


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([worker()], "due"),
        ([worker(queues="web,mail")], "due"),
        ([worker(queues="web")], "queue"),
        ([worker(exclude_queues="mail")], "queue"),
        ([worker(queues="web"), worker(exclude_queues="web")], "due"),
        ([worker(min_priority=4)], "priority"),
        ([worker(max_priority=2)], "priority"),
        ([worker(min_priority=3, max_priority=3)], "due"),
        ([worker(queues="web"), worker(min_priority=4)], "priority"),
        ([], "no_worker"),
    ],
)
def test_a_job_that_no_live_worker_takes_is_told(
    workers: list[WorkerStatus], expected: str
) -> None:
    assert codes(replace(AROUND, workers=workers)) == [expected]


def test_a_held_job_says_what_holds_it() -> None:
    around = replace(AROUND, schedule_pause=PAUSE, guard_holder=5)
    held: dict[str, Any] = {"state": "held", "schedule": "s", "guard": "g"}
    assert "schedule s is paused by ann (repairs)" in words(around, held_reason="paused", **held)
    assert "job 5 does" in words(around, held_reason="overlap", **held)
    assert "it is next" in words(held_reason="overlap", **held)
    assert "knows task 't'" in words(held_reason="unknown_task", **held)
    assert codes(held_reason="limit", **held) == ["limit"]


def test_what_holds_a_job_comes_with_what_to_do_about_it() -> None:
    around = replace(AROUND, schedule_pause=PAUSE, guard_holder=5)
    held: dict[str, Any] = {"state": "held", "schedule": "s", "guard": "g"}
    assert remedies(around, held_reason="paused", **held) == ["sched schedules resume s"]
    assert remedies(around, held_reason="overlap", **held) == ["sched explain 5"]
    assert remedies(held_reason="paused", **held) == ["sched jobs run-now 7"]
    assert remedies(replace(AROUND, workers=[worker(queues="web")]), queue="a b") == [
        "sched worker --queues 'a b'"
    ]
    assert remedies(state="failed") == ["sched jobs retry 7"]
    assert remedies(state="succeeded") == [None]


def test_an_expired_job_is_about_to_be_ended() -> None:
    assert codes(expires_at=at(-1)) == ["expired"]
    assert codes(expires_at=at(1)) == ["due"]


def test_a_running_job_says_since_when_and_where() -> None:
    running: dict[str, Any] = {
        "state": "running",
        "started_at": at(-5),
        "attempts": 1,
        "locked_by": "w",
    }
    told = words(**running, locked_until=at(25))
    assert told == (
        "it runs on w since 2026-01-02 03:04:00 UTC, attempt 1;"
        " its lease is held until 2026-01-02 03:04:30 UTC, and renewed while it runs"
    )
    assert "is not heard of" in words(**running, locked_until=at(-1))
    assert "asked to stop" in words(**running, locked_until=at(25), cancel_requested_at=at(-1))


def test_an_ended_job_says_why_it_ran_when_it_did() -> None:
    ended: dict[str, Any] = {"state": "succeeded", "finished_at": NOW, "started_at": at(-50)}
    assert codes(**ended) == ["succeeded", "started"]
    assert "its last attempt started 10s later" in words(**ended)
    moved: dict[str, Any] = {"planned_for": at(-3600), "pinned": True}
    assert "moved by hand" in words(**ended, **moved)
    assert "a backfill" in words(**ended, planned_for=at(-3600), origin="backfill")


def test_what_never_ran_says_why() -> None:
    skipped: dict[str, Any] = {
        "state": "skipped",
        "finished_at": NOW,
        "reason": "skipped:overlap:5",
    }
    assert words(**skipped).endswith("UTC: skipped:overlap:5")
    assert codes(**skipped) == ["skipped"]
    late = replace(JOB, state="failed", started_at=at(-60), finished_at=NOW + timedelta(0))
    assert "at once" in tell(late, AROUND)[1].words
