"""`sched version`."""

from __future__ import annotations

import click

from cronqueue.version import __version__
from cronsched.cli.base import SchedCommand, State, pass_state


@click.command("version", cls=SchedCommand)
@pass_state
def command(state: State) -> None:
    """Print the version."""
    if state.as_json:
        from cronsched.cli.output import print_json

        print_json({"version": __version__})
    else:
        click.echo(f"cronqueue {__version__}")
