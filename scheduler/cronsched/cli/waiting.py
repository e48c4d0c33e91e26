"""Waiting for the end of a job, as `sched jobs wait` and `sched enqueue --wait` do."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cronsched.cli.base import State
from cronsched.cli.exits import JOB_FAILED, WAIT_TIMED_OUT, Exit
from cronsched.cli.output import print_fields, print_json

if TYPE_CHECKING:
    from cronqueue.models import Job


def wait_for(state: State, job: Job[Any], timeout: timedelta | None) -> None:
    """Wait, print what became of the job, and leave with 7 or 124 unless it succeeded."""
    from cronqueue.errors import WaitTimeout

    late = ""
    try:
        job.wait(timeout)
    except WaitTimeout:
        late = (
            f"job {job.id} is still {job.state}; it goes on, `sched jobs wait {job.id}` waits again"
        )
    _tell(state, job)
    if late:
        raise Exit(WAIT_TIMED_OUT, late)
    if job.state != "succeeded":
        why = f": {job.reason}" if job.reason else ""
        raise Exit(
            JOB_FAILED, f"job {job.id} {job.state}{why}; `sched jobs show {job.id}` tells more"
        )


def _tell(state: State, job: Job[Any]) -> None:
    if state.as_json:
        names = ("id", "task", "state", "reason", "run_at", "created", "result_json")
        print_json({name: getattr(job, name) for name in names})
    elif not state.quiet:
        print_fields(state, {"job": job.id, "state": job.state, "result": job.result_json})
