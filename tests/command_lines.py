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


def options(words: list[str]) -> set[str]:
    """The options of the command that the words begin with, whatever else they say."""
    command: click.Command = sched
    for word in words[1:]:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), word)
        if found is None:
            break
        command = found
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
