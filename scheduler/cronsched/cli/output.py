"""What commands print: one JSON document, a table on a terminal, plain text elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import click

from cronsched.cli.base import State
from cronsched.cli.exits import clean, refuse, say
from cronsched.cli.parameters import shown
from cronsched.documents import versioned

T = TypeVar("T")

# Coloured tables that go into a pipe are not folded: the pager cuts them.
_PIPE_WIDTH = 400
_GAP = 2
# A column of words is folded rather than that others go for it.
_FOLDED = 30
# What a narrow terminal goes without, the first ones first; never the column that a table begins with.
_SPARE = ("PRIORITY", "PID", "ATTEMPTS", "QUEUE")


def print_json(data: Any) -> None:
    """The document that --json promises."""
    click.echo(json.dumps(versioned(data), ensure_ascii=False))


def print_done(state: State, words: str, data: Any) -> None:
    """What an act has done."""
    if state.as_json:
        print_json(data)
    elif not state.quiet:
        click.echo(clean(words))


def print_list(
    state: State, found: Sequence[Any], headers: Sequence[str], row: Callable[[Any], Sequence[Any]]
) -> None:
    """A list as JSON or as a table; of an empty one, that and where was looked."""
    if state.as_json:
        print_json(found)
    elif found:
        print_table(state, headers, [row(each) for each in found])
    elif not state.quiet:
        from cronqueue.database import parse_url
        from cronqueue.database import shown as shown_url
        from cronqueue.settings import resolve_database_url

        say(f"nothing to list in {shown_url(parse_url(resolve_database_url(state.loaded)))}")


def print_table(state: State, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns under their headers; numbers at the right."""
    is_coloured = _is_fancy(state)
    is_screen = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if not (is_coloured or is_screen):
        for line in table_lines(state, headers, rows):
            click.echo(line)
        return
    numeric = _numeric(headers, rows)
    cells = [[clean(show(state, cell, brief=True)) for cell in row] for row in rows]
    if not is_screen:
        _print_rich(headers, cells, numeric, _PIPE_WIDTH, "standard")
        return
    room = shutil.get_terminal_size().columns
    if _wanted(headers, cells) > room:  # of times, how far away they are
        cells = [[clean(_distance(state, cell)) for cell in row] for row in rows]
    left_out = []
    for name in _SPARE:
        if name in headers[1:] and _wanted(headers, cells) > room:
            place = headers.index(name)
            headers, numeric = _without(headers, place), _without(numeric, place)
            cells = [_without(row, place) for row in cells]
            left_out.append(name)
    _print_rich(headers, cells, numeric, room, "auto" if is_coloured else None)
    if left_out and not state.quiet:
        say(f"no room here for {', '.join(left_out)}; --json has all")


def wrapped(words: str, indent: str = "") -> str:
    """A sentence that breaks between words where the terminal ends; in a pipe it is one line."""
    if not sys.stdout.isatty():
        return indent + words
    room = shutil.get_terminal_size().columns
    return textwrap.fill(
        words,
        room,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def table_lines(state: State, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """The same as lines of plain text."""
    from rich.cells import cell_len, set_cell_size

    cells = [[clean(show(state, cell)) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(headers, *cells, strict=True)]
    lines = []
    for line in [list(headers), *cells]:
        padded = [
            " " * (width - cell_len(cell)) + cell if right else set_cell_size(cell, width)
            for cell, width, right in zip(line, widths, _numeric(headers, rows), strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def print_fields(state: State, fields: Mapping[str, Any]) -> None:
    """One thing, a line for each of its properties; what is not set is left out."""
    told = {name: show(state, value) for name, value in fields.items() if value not in (None, "")}
    width = max(map(len, told), default=0)
    for name, value in told.items():
        for number, line in enumerate(value.splitlines() or [""]):
            label = "" if number else name
            click.echo(f"{label.ljust(width)}  {clean(line)}")


def show(state: State, value: Any, *, brief: bool = False) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return show_time(state, value, brief=brief)
    if isinstance(value, timedelta):
        from cronqueue.durations import format_duration

        return format_duration(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def show_time(state: State, moment: datetime, *, brief: bool = False) -> str:
    """Absolute with its zone, and relative. Brief: what today's date and the seconds say is left out."""
    from cronqueue.clock import utcnow
    from cronqueue.durations import format_duration

    now, zone = utcnow(), zone_of(state)
    local, distance = (
        moment.astimezone(zone),
        timedelta(seconds=round((moment - now).total_seconds())),
    )
    words, form = format_duration(abs(distance)), "%Y-%m-%d %H:%M:%S"
    if brief:
        words = words.split()[0]
        form = "%H:%M:%S" if local.date() == now.astimezone(zone).date() else "%Y-%m-%d %H:%M"
    relative = f"in {words}" if distance > timedelta(0) else f"{words} ago"
    return f"{local:{form}} {zone.key} ({relative if distance else 'now'})"


def counted(count: int, noun: str) -> str:
    """The number with its noun: "1 job", "2 jobs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def zone_of(state: State) -> ZoneInfo:
    """The zone in which times are shown and read."""
    return ZoneInfo(state.flags.get("tz") or "UTC")


def parse_time(state: State, option: str, text: str) -> datetime:
    """A time from the command line: with an offset, or read in --tz; "07:30" is the next one.

    "now", "in 2h" and "2h ago" count from the present.
    """
    from cronqueue.columns import EARLIEST, LATEST

    try:
        moment = _parse_relative_time(text) or datetime.fromisoformat(text)
    except ValueError:
        return _parse_clock_time(state, option, text)
    if moment.utcoffset() is None:
        if not (state.flags.get("tz") or state.flags.get("utc")):
            refuse(
                f"{option} {shown(text)} has no time zone: add an offset (...T07:30+01:00),"
                " --utc or --tz Europe/London"
            )
        moment = moment.replace(tzinfo=zone_of(state))
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        utc = LATEST
    if not EARLIEST <= utc < LATEST:
        refuse(f"{option} {shown(text)} is out of range: give a time from 1970 to 8999")
    return utc


def parse_end(state: State, until: str | None, how_long: timedelta | None) -> datetime | None:
    """When a pause ends by itself: --until a time, --for a while, or never."""
    from cronqueue.clock import utcnow

    if how_long is None:
        return None if until is None else parse_time(state, "--until", until)
    if until is not None:
        refuse("--until TIME and --for DURATION say the same: give one of them")
    return utcnow() + how_long


def _parse_relative_time(text: str) -> datetime | None:
    """A time that counts from now, if it is one. Raises ValueError for what is no duration."""
    from cronqueue.clock import utcnow
    from cronqueue.durations import parse_duration

    words = text.split()
    if words == ["now"]:
        return utcnow()
    if len(words) == 2 and words[0] == "in":
        return utcnow() + parse_duration(words[1])
    if len(words) == 2 and words[1] == "ago":
        return utcnow() - parse_duration(words[0])
    return None


def _parse_clock_time(state: State, option: str, text: str) -> datetime:
    from cronqueue.clock import utcnow

    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if match is None:
        refuse(
            f"{option} {shown(text)} is no time: write 2026-01-31T07:30+01:00,"
            " '2026-01-31 07:30' with --tz, 07:30, 'in 2h', '2h ago' or now"
        )
    now = utcnow().astimezone(zone_of(state))
    moment = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    if moment <= now:
        moment += timedelta(days=1)
    return moment.astimezone(UTC)


def _numeric(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Which columns hold numbers."""
    return [_is_numeric(column) for column in zip(*rows, strict=True)] or [False] * len(headers)


def _is_numeric(column: Sequence[Any]) -> bool:
    return all(isinstance(cell, int) and not isinstance(cell, bool) for cell in column)


def _wanted(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """How wide a table would like to be."""
    from rich.cells import cell_len

    widths = [
        max(cell_len(header), min(max(map(cell_len, column)), _FOLDED))
        for header, *column in zip(headers, *cells, strict=True)
    ]
    return sum(widths) + _GAP * (len(widths) - 1)


def _distance(state: State, cell: Any) -> str:
    shown = show(state, cell, brief=True)
    return shown.rpartition(" (")[2].rstrip(")") if isinstance(cell, datetime) else shown


def _without(row: Sequence[T], place: int) -> list[T]:
    return [*row[:place], *row[place + 1 :]]


def _print_rich(
    headers: Sequence[str],
    cells: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    width: int,
    colours: Literal["auto", "standard"] | None,
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    widths = _fit(list(zip(headers, *cells, strict=True)), width)
    for header, right, fitting in zip(headers, numeric, widths, strict=True):
        justify: Literal["left", "right"] = "right" if right else "left"
        table.add_column(header, justify=justify, overflow="fold", width=fitting)
    for row in cells:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    # Decided here, once: what rich would read from the environment is settled.
    Console(force_terminal=True, no_color=False, color_system=colours, width=width).print(table)


def _fit(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide each column is, so that all go into lines of this width.

    The widest give way first, and between words, so that a name can be read and copied. Words are
    broken where nothing else is left.
    """
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in columns]
    words = [max(map(cell_len, " ".join(column).split()), default=1) for column in columns]
    room = max(width - _GAP * (len(columns) - 1), len(columns))
    while sum(widths) > room:
        between_words = [each for each, least in enumerate(words) if widths[each] > least]
        widest = max(between_words or range(len(widths)), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


# States by what they ask of the reader.
_STYLES = {
    "failed": "bold red",
    "silent": "bold red",
    "held": "yellow",
    "paused": "yellow",
    "skipped": "yellow",
    "cancelled": "yellow",
    "running": "cyan",
    "draining": "cyan",
    "succeeded": "green",
}


def _is_fancy(state: State) -> bool:
    choice = state.flags.get("color") or "auto"
    if choice != "auto":
        return bool(choice == "always")
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    forced = os.environ.get("FORCE_COLOR") or os.environ.get("CLICOLOR_FORCE")
    return bool(forced) or sys.stdout.isatty()
