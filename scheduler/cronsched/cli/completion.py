"""`sched completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.output import print_json


@click.command("completion", cls=SchedCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_state
def command(state: State, shell: str) -> None:
    """Print what makes SHELL complete commands: eval "$(sched completion bash)"."""
    from cronsched.cli import sched

    kind = get_completion_class(shell)
    assert kind is not None  # click knows all three
    script = kind(sched, {}, "sched", "_SCHED_COMPLETE").source()
    if state.as_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
