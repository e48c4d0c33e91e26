"""Writes the pages of this folder from the code: `make reference`. A test sees that they are current."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import cronqueue
import cronqueue.errors
import cronqueue.testing
import cronsched
import cronsched.testing
from cronqueue.context import RunningJob
from cronsched.cli import sched
from cronsched.options import ScheduleOptions

FOLDER = Path(__file__).parent
_NOTE = "<!-- Written by `make reference`. -->\n"
# Annotations are texts in our modules; a reader wants what stands in them.
_QUOTED = re.compile(r"(: |-> )'([^']*)'")


def cli_page() -> str:
    """Every command with its options."""
    shared = {name for each in sched.params for name in each.opts}
    parts = [
        _NOTE,
        "# The command line\n",
        "Every command takes these too:\n",
        _table(sched.params),
    ]
    for path, command in _commands("sched", sched):
        own = [each for each in command.params if shared.isdisjoint(each.opts)]
        parts += [f"## {path}\n", f"`{_usage(path, command)}`\n", _help(command)]
        if any(isinstance(each, click.Option) for each in own):
            parts.append(_table(own))
    return "\n".join(parts)


def _commands(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """The command and those below it, groups before their members, each in the order of its help."""
    if command is not sched:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(f"{path} {name}", found)


def _usage(path: str, command: click.Command) -> str:
    context = click.Context(command)
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    words = [each.make_metavar(context) for each in arguments]
    if isinstance(command, click.Group):
        words.append("COMMAND")
    return " ".join([path, *words, "[OPTIONS]"])


def _help(command: click.Command) -> str:
    """The help text; what click prints as it stands is code here."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return (
        "".join(
            f"```\n{each.removeprefix(chr(8)).strip(chr(10))}\n```\n\n"
            if each.startswith(("\b", "sched ", "crontab "))
            else f"{_escaped(' '.join(each.split()))}\n\n"
            for each in paragraphs
        ).rstrip("\n")
        + "\n"
    )


def _table(parameters: list[click.Parameter]) -> str:
    rows = [
        f"| `{_names(each)}` | {_escaped(_words(each))} |"
        for each in parameters
        if isinstance(each, click.Option) and not each.hidden
    ]
    return "\n".join(["| option | |", "|---|---|", *rows]) + "\n"


def _names(option: click.Option) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    if option.is_flag or option.count:
        return names
    kind = option.metavar or option.make_metavar(click.Context(sched))
    return f"{names} {kind}".replace("|", "\\|")


def _words(option: click.Option) -> str:
    words = option.help or ""
    default = option.default
    if option.show_default and isinstance(default, str | int | float):
        words = f"{words}  [default: {default}]"
    return " ".join(words.split())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def python_page() -> str:
    """What the packages export: signatures and docstrings."""
    parts = [_NOTE, "# Python\n"]
    for module in (cronqueue, cronsched, cronqueue.testing, cronsched.testing):
        parts.append(f"## {module.__name__}\n")
        for name, found in _exported(module):
            parts += [_described(name, found), *_members(name, found)]
    parts.append("## What `current_job()` returns\n")
    parts += _members("job", RunningJob)
    parts += ["## Options of a schedule\n", _options(), "## cronqueue.errors\n", _errors()]
    return "\n".join(parts)


def _exported(module: ModuleType) -> Iterator[tuple[str, Any]]:
    names = getattr(module, "__all__", None) or [
        name
        for name, found in vars(module).items()
        if not name.startswith("_") and getattr(found, "__module__", "") == module.__name__
    ]
    for name in names:
        if not name.startswith("__"):
            yield name, getattr(module, name)


def _described(name: str, found: Any) -> str:
    return f"### {name}\n\n```text\n{_signature(name, found)}\n```\n\n{_docstring(found)}"


def _signature(name: str, found: Any) -> str:
    try:
        signature = str(inspect.signature(found))
    except (TypeError, ValueError):
        return name
    return name + _QUOTED.sub(r"\1\2", signature).replace("(self, ", "(").replace("(self)", "()")


def _docstring(found: Any) -> str:
    # A class without words of its own would show those of the class above it.
    words = vars(found).get("__doc__") if isinstance(found, type) else found.__doc__
    return f"{inspect.cleandoc(words or '')}\n"


def _members(name: str, found: Any) -> Iterator[str]:
    """Methods and properties of a class that say what they are for."""
    if not isinstance(found, type):
        return
    for member, value in vars(found).items():
        inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if member.startswith("_") or not getattr(inner, "__doc__", None):
            continue
        if isinstance(inner, property):
            yield f"**`{name}.{member}`**: {_docstring(inner)}"
        elif callable(inner):
            told = _signature(f"{name}.{member}", inner).replace("(cls, ", "(")
            yield f"**`{told}`**: {_docstring(inner)}"


def _options() -> str:
    lines = [f"{name}: {_kind(kind)}" for name, kind in ScheduleOptions.__annotations__.items()]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _kind(annotation: Any) -> str:
    found: Any = getattr(annotation, "__forward_arg__", annotation)
    return str(found)


def _errors() -> str:
    lines = [
        f"- `{name}`: {' '.join(_docstring(found).split())}"
        for name, found in vars(cronqueue.errors).items()
        if isinstance(found, type) and issubclass(found, BaseException)
    ]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {"cli.md": cli_page, "python.md": python_page}


if __name__ == "__main__":
    for name, write in PAGES.items():
        (FOLDER / name).write_text(write(), encoding="utf-8")
