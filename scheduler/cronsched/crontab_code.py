"""A schedule file that does what a crontab did: plain functions, for people to go on with."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator

from cronqueue.errors import CronqueueError
from cronsched.crontabs import Crontab, Entry, Remark

_HEADER = '''\
"""Made of {origin} by `sched import crontab`: go on with it as with any schedule file.

As under cron a command is tried once (max_attempts=1). Unlike under cron no run starts while the one before
still runs (overlap="allow" would), and the last that was missed is made up for (catch_up="none" would not).
"""

import os
import subprocess

from cronsched import cron

# Where lines say nothing else.
TZ = {tz}
ENVIRONMENT = {{
    "HOME": os.environ.get("HOME", "/"),
    "LOGNAME": os.environ.get("LOGNAME", ""),
    "PATH": "/usr/bin:/bin",
    "SHELL": "/bin/sh",
}}


def shell(command: str, environment: dict[str, str], stdin: str = "") -> None:
    """Run a command as cron does. What it prints goes where the worker's output goes.

    Raises CalledProcessError when it ends with another code than 0.
    """
    words = [environment["SHELL"], "-c", command]
    subprocess.run(
        words, input=stdin, text=True, check=True, cwd=environment["HOME"], env=environment
    )
'''
# Names that the file has already.
_TAKEN = ("os", "subprocess", "cron", "shell", "str", "dict")
# Commands that only prepare others, and words that say how something is run, not what.
_PREPARING = ("cd", "export", "set", "source", "test")
_SHELLS = ("bash", "node", "perl", "php", "python", "python3", "ruby", "sh")
_HOW = (
    *_SHELLS,
    "chronic",
    "command",
    "env",
    "exec",
    "flock",
    "ionice",
    "nice",
    "nohup",
    "sudo",
    "time",
)
# What the shell puts into a command is not its name.
_SUBSTITUTED = re.compile(r"\$\([^)]*\)|`[^`]*`|\$\{[^}]*\}")


def code_of(crontab: Crontab, *, origin: str, tz: str) -> str:
    """The text of the file. `origin` names the crontab, `tz` is the zone of the machine it was for."""
    parts = [
        _HEADER.format(origin=_printable(origin).replace("\\", "/").replace('"', "'"), tz=_text(tz))
    ]
    environments: dict[tuple[tuple[str, str], ...], str] = {(): "ENVIRONMENT"}
    names: set[str] = set(_TAKEN)
    waiting = [each for each in crontab.remarks if each.is_entry]
    for entry in crontab.entries:
        while waiting and waiting[0].line < entry.line:
            parts.append(_left_out(waiting.pop(0)))
        if entry.environment not in environments:
            name = f"ENVIRONMENT_{len(environments) + 1}"
            environments[entry.environment] = name
            parts.append(f"{name} = ENVIRONMENT | {{\n{_items(entry.environment)}}}\n")
        parts.append(_function(entry, environments[entry.environment], names))
    parts += [_left_out(each) for each in waiting]
    if crontab.comments:
        parts.append("".join(_comment_lines(crontab.comments)))
    code = "\n\n".join(parts)
    try:
        compile(code, "crontab", "exec")
    except (SyntaxError, ValueError) as error:
        raise CronqueueError(f"the file would not be Python: {error}") from None
    return code


def _function(entry: Entry, environment: str, taken: set[str]) -> str:
    name = _free_name(_name_of(entry.command), taken)
    zone = "TZ" if entry.tz is None else _text(entry.tz)
    arguments = [_text(entry.command), environment, *([_text(entry.stdin)] if entry.stdin else [])]
    was = f"line {entry.line}" + (f", as {_printable(entry.user)}" if entry.user else "")
    return "".join(
        [
            *_comment_lines(entry.comments),
            f"# {was}\n",
            f"@cron({_text(entry.expression)}, tz={zone}, max_attempts=1)\n",
            f"def {name}() -> None:\n",
            f"    shell({', '.join(arguments)})\n",
        ]
    )


def _items(environment: tuple[tuple[str, str], ...]) -> str:
    return "".join(f"    {_text(name)}: {_text(value)},\n" for name, value in environment)


def _text(value: str) -> str:
    """As Python's source has it, in double quotes where that needs no more signs."""
    written = repr(value)
    return f'"{written[1:-1]}"' if written[0] == "'" and '"' not in written else written


def _left_out(remark: Remark) -> str:
    return "".join(
        _comment_lines((f"NOT CARRIED OVER, line {remark.line}: {remark.words}", remark.text))
    )


def _comment_lines(comments: tuple[str, ...]) -> Iterator[str]:
    return (f"# {_printable(each)}".rstrip() + "\n" for each in comments)


def _printable(text: str) -> str:
    """On one line, whatever is in it."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _name_of(command: str) -> str:
    """What the command runs, as a function may be called."""
    for simple in re.split(r"[;&|()<>]+", _SUBSTITUTED.sub("", command)):
        words = [word for word in simple.split() if "=" not in word and not word.startswith("-")]
        if words and words[0] in _PREPARING:
            continue
        for word in words:
            stem = word.strip("\"'").rpartition("/")[2].partition(".")[0]
            name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
            if re.match(r"[a-z]", name) and name not in _HOW:
                return name[:40].rstrip("_")
    return "command"


def _free_name(name: str, taken: set[str]) -> str:
    name = f"{name}_job" if keyword.iskeyword(name) or keyword.issoftkeyword(name) else name
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    taken.add(free)
    return free
