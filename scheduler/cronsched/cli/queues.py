"""`sched queues`."""

from __future__ import annotations

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.output import parse_time, print_json, print_table


@click.group(cls=SchedGroup)
def command() -> None:
    """Queues: a paused one keeps its jobs, and no worker claims from it."""


@command.command("list")
@pass_state
def list_(state: State) -> None:
    """Every queue that has something to do, or is paused."""
    from cronqueue import overview

    found = overview.queue_stats(state.open())
    if state.as_json:
        print_json(found)
        return
    print_table(
        state,
        ("QUEUE", "DUE", "LATER", "HELD", "RUNNING", "FAILED", "OLDEST DUE", "PAUSED"),
        [
            (
                each.name,
                each.due,
                each.later,
                sum(each.held.values()),
                each.running,
                each.failed,
                each.oldest_due,
                each.paused and (each.paused.reason or "yes"),
            )
            for each in found
        ],
    )


@command.command()
@click.argument("name")
@click.option("--reason", help="Shown to everybody.")
@click.option("--until", metavar="TIME", help="Resume by itself then.")
@pass_state
def pause(state: State, name: str, reason: str | None, until: str | None) -> None:
    """Let no worker claim from a queue; what runs goes on."""
    from cronqueue import operations
    from cronqueue.audit import this_user

    moment = None if until is None else parse_time(state, until)
    operations.pause_queue(state.open(), name, actor=this_user(), reason=reason, until=moment)
    click.echo(f"queue {name} is paused; undo: sched queues resume {name}")


@command.command()
@click.argument("name")
@pass_state
def resume(state: State, name: str) -> None:
    """Let workers claim from a queue again."""
    from cronqueue import operations
    from cronqueue.audit import this_user

    operations.resume_queue(state.open(), name, actor=this_user())
    click.echo(f"queue {name} goes on")
