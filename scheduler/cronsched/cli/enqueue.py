"""`sched enqueue`: a job from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import refuse, say
from cronsched.cli.output import parse_time, print_done, show_time
from cronsched.cli.parameters import DURATION, JSON_LIST, JSON_OBJECT, meant, shown
from cronsched.cli.waiting import wait_for

if TYPE_CHECKING:
    from datetime import timedelta

    from cronqueue.models import Job


@click.command("enqueue", cls=SchedCommand)
@click.argument("task")
@click.option("--args", type=JSON_LIST, default="[]", metavar="JSON", help="Positional arguments.")
@click.option("--kwargs", type=JSON_OBJECT, default="{}", metavar="JSON", help="Named arguments.")
@click.option("--at", metavar="TIME", help="Not before this time.")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="Not before: 90s, 5m, 2h.")
@click.option("--priority", type=int, help="Higher runs first; default: the task's, or 0.")
@click.option("--queue", help="Default: the task's.")
@click.option("--key", help="Once at a time: an unfinished job with this key is taken instead.")
@click.option("--key-until", type=click.Choice(["finish", "start"]), default="finish")
@click.option("--max-attempts", type=int)
@click.option("--timeout", type=DURATION, metavar="DURATION", help="For each attempt.")
@click.option(
    "--expires", type=DURATION, metavar="DURATION", help="Not worth starting later than this."
)
@click.option("--wait", is_flag=True, help="Wait for the end; exit code 7 unless it succeeded.")
@click.option("--wait-timeout", type=DURATION, metavar="DURATION", help="Exit code 124 after this.")
@click.option("--force", is_flag=True, help="Although no module here knows the task.")
@pass_state
def command(
    state: State,
    task: str,
    at: str | None,
    wait: bool,
    wait_timeout: timedelta | None,
    force: bool,
    **chosen: Any,
) -> None:
    """Store a job for TASK. Higher priority runs first, then the earlier time, then the lower id.

    \b
    sched enqueue hello.greet --args '["you"]' --in 5m
    sched enqueue hello.greet --kwargs '{"name": "you"}' --wait
    """
    from cronqueue.enqueueing import enqueue
    from cronqueue.registry import find_task

    if at is not None and chosen["delay"] is not None:
        refuse("--at or --in, not both")
    chosen["run_at"] = None if at is None else parse_time(state, "--at", at)
    state.load_tasks()
    if find_task(task) is None and not force:
        refuse(f"{unknown_task(task)} (--force stores it all the same)")
    state.open()
    job = enqueue(task, chosen.pop("args"), chosen.pop("kwargs"), **chosen)
    if wait or wait_timeout is not None:
        if not state.quiet:
            say(f"job {job.id} is {job.state}; waiting for its end")
        wait_for(state, job, wait_timeout)
    else:
        _tell(state, job)


def unknown_task(name: str) -> str:
    """What is wrong with the name, and which was meant."""
    from cronqueue.registry import all_tasks

    known = sorted(all_tasks())
    if not known:
        return f"no task is named {shown(name)}: no task was found in the schedules folder or --imports"
    return f"no task is named {shown(name)}{meant(name, known) or f': there are {_some(known)}'}"


def _some(names: list[str], count: int = 5) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _tell(state: State, job: Job[Any]) -> None:
    words = (
        f"job {job.id}: {job.task}, {show_time(state, job.run_at)}"
        if job.created
        else f"job {job.id} holds the key already: nothing was stored"
    )
    names = ("id", "task", "state", "run_at", "created")
    print_done(state, words, {name: getattr(job, name) for name in names})
