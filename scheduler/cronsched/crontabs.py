"""Reading crontabs: a user's, and those of the system with a column for the user. Pure: text in, values out.

The format is that of Debian's crontab(5), with `CRON_TZ` as cronie has it. Lines that cannot be carried over
become faults with their number; nothing is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cronqueue.errors import DefinitionError
from cronsched import cronexpr
from cronsched.timezones import check_zone

# The blanks of cron: nothing else separates, and nothing but a line feed ends a line.
_BLANKS = " \t"
_VARIABLE = re.compile(
    r"""(?P<name>"[^"]*"|'[^']*'|[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(?P<value>.*)""", re.DOTALL
)
_COMMENT, _NICKNAME_WORDS, _FIELD_WORDS = "#", 1, 5
_ZONE, _MAIL = "CRON_TZ", ("MAILTO", "MAILFROM")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line that runs something. `tz` is what the file says above it, `stdin` what follows the first %."""

    line: int
    expression: str
    command: str
    stdin: str = ""
    user: str | None = None
    tz: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """What is not carried over, or not as it was. Of an entry nothing is carried over."""

    line: int
    text: str
    words: str
    is_entry: bool = False


@dataclass(slots=True)
class Crontab:
    """What a crontab holds, in its order; `comments` are those below the last entry."""

    entries: list[Entry] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    comments: tuple[str, ...] = ()


def read_crontab(text: str, *, has_users: bool) -> Crontab:
    """Every entry and every remark. `has_users`: the word after the time is whom it ran as."""
    found = Crontab()
    environment: dict[str, str] = {}
    zone: str | None = None
    broken_zone = False
    comments: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip(_BLANKS + "\r")
        if stripped.startswith(_COMMENT):
            comments.append(stripped.removeprefix(_COMMENT).strip())
            continue
        if not stripped:
            continue
        variable = _VARIABLE.fullmatch(stripped)
        if variable is not None:
            name, value = _unquoted(variable["name"]), _unquoted(variable["value"])
            remark = _remark_of_variable(number, stripped, name, value)
            if remark is not None:
                found.remarks.append(remark)
            if name == _ZONE:
                zone, broken_zone = value or None, remark is not None
            elif name not in _MAIL:
                environment[name] = value
            continue
        try:
            if broken_zone:
                raise DefinitionError("its CRON_TZ is no zone")
            entry = replace(
                _entry(number, stripped, has_users),
                tz=zone,
                environment=tuple(environment.items()),
                comments=tuple(comments),
            )
        except DefinitionError as error:
            found.remarks.append(Remark(number, stripped, str(error), is_entry=True))
        else:
            found.entries.append(entry)
            found.remarks += _remarks_of_user(entry, stripped)
            comments.clear()
    found.comments = tuple(comments)
    return found


def _remark_of_variable(line: int, text: str, name: str, value: str) -> Remark | None:
    if name in _MAIL and value:
        words = "nobody is sent mail: what commands print goes where the worker's output goes"
        return Remark(line, text, words)
    if name == _ZONE and value:
        try:
            check_zone(value)
        except DefinitionError as error:
            return Remark(line, text, str(error))
    return None


def _remarks_of_user(entry: Entry, text: str) -> Iterator[Remark]:
    if entry.user is not None:
        yield Remark(entry.line, text, f"it ran as {entry.user}, and runs as the worker's user now")


def _entry(line: int, text: str, has_users: bool) -> Entry:
    if not _is_text(text):
        raise DefinitionError("bytes that are no text")
    # cronie: a dash in front keeps the system's log quiet.
    rest = text.removeprefix("-")
    count = _NICKNAME_WORDS if rest.startswith("@") else _FIELD_WORDS
    expression, rest = _take(rest, count)
    _check(expression)
    user = None
    if has_users:
        user, rest = _take(rest, 1)
    command, stdin = _split_at_percent(rest)
    if not command.strip():
        raise DefinitionError("there is no command")
    return Entry(line, expression, command, stdin, user)


def _take(text: str, count: int) -> tuple[str, str]:
    """So many words, and what follows them."""
    words = re.split(rf"[{_BLANKS}]+", text, maxsplit=count)
    return " ".join(words[:count]), words[count] if len(words) > count else ""


def _check(expression: str) -> None:
    """That cron would take it too: what only we understand stands for something else there."""
    if not cronexpr.uses_hash(expression):
        fields = cronexpr.parse(expression).fields
        if not any(each.nth or each.last_day for each in fields):
            return
    raise DefinitionError(f"cron {expression!r} has a sign that cron does not know")


def _split_at_percent(text: str) -> tuple[str, str]:
    r"""The command, and its standard input: what follows the first %, in which % ends a line. `\%` is a %."""
    command, position = [], 0
    while position < len(text) and text[position] != "%":
        pair = text[position : position + 2]
        if pair.startswith("\\") and len(pair) > 1:
            command.append("%" if pair == "\\%" else pair)
            position += 2
        else:
            command.append(text[position])
            position += 1
    lines = re.sub(r"(\\?)%", lambda found: "%" if found[1] else "\n", text[position + 1 :])
    return "".join(command), lines if lines.endswith("\n") or not lines else lines + "\n"


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _is_text(value: str) -> bool:
    """Whether it is UTF-8, and has no NUL, which no program can be given."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
