"""`sched explain`: why a job is not running, or why it ran when it did."""

from __future__ import annotations

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import clean
from cronsched.cli.output import print_json, wrapped
from cronsched.cli.parameters import JOB_ID


@click.command("explain", cls=SchedCommand)
@click.argument("job_id", type=JOB_ID)
@pass_state
def command(state: State, job_id: int) -> None:
    """Why this job does not run, or why it ran when it did."""
    from cronsched.explanation import explain

    job, reasons = explain(state.open(), job_id)
    if state.as_json:
        print_json({"id": job.id, "task": job.task, "state": job.state, "reasons": reasons})
        return
    said = job.state if job.state in ("succeeded", "failed") else f"is {job.state}"
    click.echo(clean(f"job {job.id}, {job.task}, {said}:"))
    for each in reasons:
        click.echo(wrapped(clean(each.words), "  "))
        if each.remedy is not None:
            click.echo(clean(f"    {each.remedy}"))
