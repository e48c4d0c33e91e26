"""`sched check`: what is wrong, seen from any process."""

from __future__ import annotations

from datetime import timedelta

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import WRONG, Exit
from cronsched.cli.output import counted, print_done, print_json, print_table
from cronsched.cli.parameters import DURATION


@click.command("check", cls=SchedCommand)
@click.option(
    "--late-after",
    type=DURATION,
    default="1m",
    show_default=True,
    metavar="DURATION",
    help="How long a due job may wait for a worker.",
)
@pass_state
def command(state: State, late_after: timedelta) -> None:
    """What is wrong with schedules and queue: exit code 4 if anything is, 0 with warnings alone."""
    from cronsched.health import find_problems

    found = find_problems(state.open(), state.loaded.settings, late_after)
    wrong = [each for each in found if not each.is_warning]
    if state.as_json:
        print_json({"ok": not wrong, "problems": found})
    elif found:
        rows = [
            ("warning" if each.is_warning else "wrong", each.kind, each.subject, each.message)
            for each in found
        ]
        print_table(state, ("", "KIND", "WHERE", "WHAT"), rows)
    else:
        print_done(state, "nothing is wrong", None)
    if wrong:
        raise Exit(WRONG, f"{counted(len(wrong), 'thing')} wrong")
