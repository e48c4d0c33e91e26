"""`sched enqueue`: a job from the command line."""

from __future__ import annotations

import difflib
import json
from typing import Any

import click

from cronsched.cli.base import JOB_FAILED, Exit, SchedCommand, State, pass_state, refuse
from cronsched.cli.output import parse_time, print_fields, print_json


@click.command("enqueue", cls=SchedCommand)
@click.argument("task")
@click.option("--args", default="[]", metavar="JSON", help="Positional arguments, a JSON list.")
@click.option("--kwargs", default="{}", metavar="JSON", help="Named arguments, a JSON object.")
@click.option("--at", metavar="TIME", help="Not before this time.")
@click.option("--in", "delay", metavar="DURATION", help="Not before this has passed: 90s, 5m, 2h.")
@click.option("--priority", type=int, help="Higher runs first; default 0.")
@click.option("--queue", help="Default: the task's.")
@click.option("--key", help="Once at a time: an unfinished job with this key is taken instead.")
@click.option("--key-until", type=click.Choice(["finish", "start"]), default="finish")
@click.option("--max-attempts", type=int)
@click.option("--timeout", metavar="DURATION")
@click.option("--expires", metavar="DURATION", help="Not worth starting later than this.")
@click.option("--wait", is_flag=True, help="Wait for the end; exit code 7 if the job failed.")
@click.option("--wait-timeout", metavar="DURATION", help="Exit code 124 after this.")
@click.option("--force", is_flag=True, help="Although no module here knows the task.")
@pass_state
def command(state: State, task: str, args: str, kwargs: str, **chosen: Any) -> None:
    """Store a job for TASK."""
    from cronqueue.enqueueing import enqueue
    from cronqueue.registry import find_task

    state.load_tasks()
    if find_task(task) is None and not chosen.pop("force"):
        refuse(unknown_task(task))
    chosen.pop("force", None)
    wait, wait_timeout, at = chosen.pop("wait"), chosen.pop("wait_timeout"), chosen.pop("at")
    chosen["run_at"] = None if at is None else parse_time(state, at)
    state.open()
    job = enqueue(
        task, parse_json("--args", args, list), parse_json("--kwargs", kwargs, dict), **chosen
    )
    if wait:
        job.wait(wait_timeout)
    if state.as_json:
        shown = {"id": job.id, "task": job.task, "state": job.state, "run_at": job.run_at}
        print_json({**shown, "created": job.created, "result_json": job.result_json})
    elif wait:
        print_fields(state, {"job": job.id, "state": job.state, "result": job.result_json})
    else:
        click.echo(f"job {job.id}" if job.created else f"job {job.id} holds the key already")
    if wait and job.state != "succeeded":
        raise Exit(JOB_FAILED, f"job {job.id} {job.state}: {job.reason or ''}")


def unknown_task(name: str) -> str:
    """What is wrong with the name, and which was meant."""
    from cronqueue.registry import all_tasks

    close = difflib.get_close_matches(name, all_tasks(), 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"no task is named {name!r}{hint} (--force stores it all the same)"


def parse_json(option: str, text: str, kind: type[Any]) -> Any:
    """A JSON value of the expected kind."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        refuse(f"{option} {text[:80]!r} is no JSON: {error}")
    if not isinstance(value, kind):
        refuse(f"{option}: give a JSON {'list' if kind is list else 'object'}, not {text[:80]}")
    return value
