"""`sched run`: a task here and now."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.enqueue import unknown_task
from cronsched.cli.exits import FAILED, Exit, clean, refuse
from cronsched.cli.output import print_done, print_json
from cronsched.cli.parameters import JSON_LIST, JSON_OBJECT
from cronsched.cli.worker import set_up_logging


@click.command("run", cls=SchedCommand)
@click.argument("task")
@click.option("--args", type=JSON_LIST, default="[]", metavar="JSON", help="Positional arguments.")
@click.option("--kwargs", type=JSON_OBJECT, default="{}", metavar="JSON", help="Named arguments.")
@pass_state
def command(state: State, task: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Run TASK in this process, without the queue and without retries."""
    from cronqueue import context
    from cronqueue.clock import utcnow
    from cronqueue.registry import bind, find_task
    from cronqueue.serialization import encode_value

    set_up_logging(state, state.loaded.settings)
    state.load_tasks()
    found = find_task(task)
    if found is None:
        refuse(unknown_task(task))
    bind(found, args, kwargs)
    context.enter(context.stand_in(task, state.open(check=False), utcnow()))
    # With --json the answer has standard output for itself.
    output = contextlib.redirect_stdout(sys.stderr) if state.as_json else contextlib.nullcontext()
    with output:
        result = _call(task, found.fn, args, kwargs, is_async=found.is_async)
    stored = encode_value(result)
    if state.as_json:
        print_json({"task": task, "result_json": stored})
    elif result is not None:
        print_done(state, str(result), None)


def _call(
    name: str, function: Any, args: list[Any], kwargs: dict[str, Any], *, is_async: bool
) -> Any:
    """What the task returns; a failure of its own is shown as a job's failure would be."""
    from cronqueue.tracebacks import describe_exception

    try:
        result = function(*args, **kwargs)
        return asyncio.run(result) if is_async else result
    except Exception as error:
        ours = error.__traceback__
        told = error.with_traceback(ours and ours.tb_next)
        for line in describe_exception(told).rstrip().splitlines():
            click.echo(clean(line), err=True)
        raise Exit(FAILED, f"{name} failed") from None
