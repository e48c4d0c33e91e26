"""`sched doctor`: what this installation rests on."""

from __future__ import annotations

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import WRONG, Exit
from cronsched.cli.output import counted, print_json, print_table


@click.command("doctor", cls=SchedCommand)
@pass_state
def command(state: State) -> None:
    """Look at database, schema, clock, zones, versions, coverage, pooler, log and disk, each with its remedy.

    Exit code 4 if anything is wrong, 0 with warnings alone. `sched check` tells what goes wrong now.
    """
    from cronsched.doctor import examine

    found = examine(state.open(check=False))
    wrong = [each for each in found if each.verdict == "wrong"]
    if state.as_json:
        print_json({"ok": not wrong, "findings": found})
    elif not state.quiet:
        rows = [(each.verdict, each.subject, each.message, each.remedy) for each in found]
        print_table(state, ("", "LOOKED AT", "FOUND", "REMEDY"), rows)
    if wrong:
        raise Exit(WRONG, f"{counted(len(wrong), 'thing')} wrong")
