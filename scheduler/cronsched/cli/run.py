"""`sched run`: a task here and now."""

from __future__ import annotations

import asyncio

import click

from cronsched.cli.base import SchedCommand, State, pass_state, refuse
from cronsched.cli.enqueue import parse_json, unknown_task
from cronsched.cli.output import print_json
from cronsched.cli.worker import set_up_logging


@click.command("run", cls=SchedCommand)
@click.argument("task")
@click.option("--args", default="[]", metavar="JSON", help="Positional arguments, a JSON list.")
@click.option("--kwargs", default="{}", metavar="JSON", help="Named arguments, a JSON object.")
@pass_state
def command(state: State, task: str, args: str, kwargs: str) -> None:
    """Run TASK in this process, without the queue and without retries."""
    from cronqueue import context
    from cronqueue.clock import utcnow
    from cronqueue.registry import find_task

    set_up_logging(verbose=state.verbose, quiet=state.loaded.settings.quiet)
    state.load_tasks()
    found = find_task(task)
    if found is None:
        refuse(unknown_task(task))
    context.enter(context.stand_in(task, state.open(check=False), utcnow()))
    values, named = parse_json("--args", args, list), parse_json("--kwargs", kwargs, dict)
    result = found.fn(*values, **named)
    if found.is_async:
        result = asyncio.run(result)
    if state.as_json:
        print_json({"task": task, "result": result})
    elif result is not None:
        click.echo(result)
