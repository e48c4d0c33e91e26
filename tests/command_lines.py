"""Command lines of pages and of deployment files, read as click reads them."""

from __future__ import annotations

from pathlib import Path

import click

from cronsched.cli import sched


def parse(words: list[str]) -> click.Context:
    """The command with its options; raises UsageError for one that does not exist. Runs nothing."""
    assert Path(words[0]).name == "sched"
    command: click.Command = sched
    context = click.Context(command)
    rest = words[1:]
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    return command.make_context(context.info_name, rest, parent=context.parent)
