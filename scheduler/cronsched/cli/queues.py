"""`sched queues`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.output import parse_end, print_done, print_list, show_time
from cronsched.cli.parameters import DURATION

if TYPE_CHECKING:
    from cronqueue.overview import Pause


@click.group(cls=SchedGroup)
def command() -> None:
    """Queues: a paused one keeps its jobs, and no worker claims from it."""


@command.command("list")
@pass_state
def list_(state: State) -> None:
    """Every queue that has something to do, or is paused."""
    from cronqueue import overview

    print_list(
        state,
        overview.queue_stats(state.open()),
        ("QUEUE", "DUE", "LATER", "HELD", "RUNNING", "FAILED", "OLDEST DUE", "PAUSED"),
        lambda each: (
            each.name,
            each.due,
            each.later,
            sum(each.held.values()),
            each.running,
            each.failed,
            each.oldest_due,
            _pause(state, each.paused),
        ),
    )


def _pause(state: State, pause: Pause | None) -> str | None:
    if pause is None:
        return None
    until = "" if pause.until is None else f" until {show_time(state, pause.until)}"
    reason = "" if pause.reason is None else f": {pause.reason}"
    return f"by {pause.by or 'somebody'}{until}{reason}"


@command.command()
@click.argument("name")
@click.option("--reason", help="Shown to everybody.")
@click.option("--until", metavar="TIME", help="Resume by itself then.")
@click.option("--for", "how_long", type=DURATION, help="Resume by itself after so long.")
@pass_state
def pause(
    state: State, name: str, reason: str | None, until: str | None, how_long: timedelta | None
) -> None:
    """Let no worker claim from a queue; what runs goes on."""
    from cronqueue import operations
    from cronqueue.audit import this_user

    moment = parse_end(state, until, how_long)
    operations.pause_queue(state.open(), name, actor=this_user(), reason=reason, until=moment)
    end = "" if moment is None else f" until {show_time(state, moment)}"
    words = f"queue {name} is paused{end}; undo: sched queues resume {name}"
    print_done(state, words, {"name": name, "paused": True, "until": moment})


@command.command()
@click.argument("name")
@pass_state
def resume(state: State, name: str) -> None:
    """Let workers claim from a queue again."""
    from cronqueue import operations
    from cronqueue.audit import this_user

    operations.resume_queue(state.open(), name, actor=this_user())
    print_done(state, f"queue {name} goes on", {"name": name, "paused": False})
