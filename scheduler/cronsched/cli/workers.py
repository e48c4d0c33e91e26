"""`sched workers`."""

from __future__ import annotations

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.output import print_list


@click.group(cls=SchedGroup)
def command() -> None:
    """Processes that have been heard of: executors of workers, and daemons."""


@command.command("list")
@pass_state
def list_(state: State) -> None:
    """Who is there, and what each takes."""
    from cronqueue import overview

    print_list(
        state,
        overview.list_workers(state.open()),
        ("KIND", "NAME", "PID", "STATE", "RUNNING", "QUEUES", "PRIORITY", "HEARD OF"),
        lambda each: (
            each.kind,
            each.name,
            each.pid,
            each.state,
            None if each.concurrency is None else f"{each.running or 0}/{each.concurrency}",
            each.queues or (each.exclude_queues and f"not {each.exclude_queues}") or "all",
            _band(each.min_priority, each.max_priority),
            each.heartbeat_at,
        ),
    )


def _band(least: int | None, most: int | None) -> str:
    if least is None and most is None:
        return "all"
    return f"{'' if least is None else least}..{'' if most is None else most}"
