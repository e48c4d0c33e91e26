"""What commands print: one JSON document, a table on a terminal, plain text elsewhere."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from cronsched.cli.base import State, refuse

FORMAT_VERSION = 1
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_json(data: Any) -> None:
    """The document that --json promises."""
    click.echo(
        json.dumps({"format_version": FORMAT_VERSION, "data": plain(data)}, ensure_ascii=False)
    )


def plain(value: Any) -> Any:
    """A value as JSON knows it: times in UTC, durations in seconds, `..._json` columns opened."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {_name(str(key)): _opened(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return value


def print_table(state: State, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns under their headers."""
    cells = [[clean(show(state, cell)) for cell in row] for row in rows]
    if _is_fancy(state):
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(*headers, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in cells:
            table.add_row(*row)
        Console(force_terminal=state.flags.get("color") == "always" or None).print(
            table, markup=False
        )
        return
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for row in [list(headers), *cells]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def print_fields(state: State, fields: Mapping[str, Any]) -> None:
    """One thing, a line for each of its properties; what is not set is left out."""
    shown = {name: show(state, value) for name, value in fields.items() if value not in (None, "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        lines = value.splitlines() or [""]
        click.echo(f"{name.ljust(width)}  {clean(lines[0])}")
        for line in lines[1:]:
            click.echo(f"{' ' * width}  {clean(line)}")


def show(state: State, value: Any) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return show_time(state, value)
    if isinstance(value, timedelta):
        from cronqueue.durations import format_duration

        return format_duration(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def show_time(state: State, moment: datetime) -> str:
    """Relative and absolute, with its zone."""
    from cronqueue.clock import utcnow
    from cronqueue.durations import format_duration

    distance = moment - utcnow()
    words = format_duration(timedelta(seconds=round(abs(distance.total_seconds()))))
    relative = f"in {words}" if distance > timedelta(0) else f"{words} ago"
    local = moment.astimezone(zone_of(state))
    return f"{local:%Y-%m-%d %H:%M:%S} {zone_of(state).key} ({relative})"


def zone_of(state: State) -> ZoneInfo:
    """The zone in which times are shown and read."""
    name = state.flags.get("tz")
    if not name:
        return ZoneInfo("UTC")
    from cronsched.timezones import check_zone

    return ZoneInfo(check_zone(name))


def parse_time(state: State, text: str) -> datetime:
    """A time from the command line: with an offset, or read in --tz; "07:30" is the next one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return _parse_clock_time(state, text)
    if moment.utcoffset() is not None:
        return moment
    if not (state.flags.get("tz") or state.flags.get("utc")):
        refuse(
            f"{text!r} has no time zone: add an offset (...T07:30+01:00), --utc or --tz Europe/London"
        )
    return moment.replace(tzinfo=zone_of(state))


def clean(text: str) -> str:
    """Control characters made visible: a name must not move the cursor."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text.replace("\n", " "))


def _parse_clock_time(state: State, text: str) -> datetime:
    from cronqueue.clock import utcnow

    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if match is None:
        refuse(
            f"{text!r} is no time: write 2026-01-31T07:30+01:00, '2026-01-31 07:30' with --tz, or 07:30"
        )
    now = utcnow().astimezone(zone_of(state))
    moment = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    return moment if moment > now else moment + timedelta(days=1)


def _is_fancy(state: State) -> bool:
    choice = state.flags.get("color") or "auto"
    if choice != "auto":
        return bool(choice == "always")
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def _name(key: str) -> str:
    return key.removesuffix("_json")


def _opened(key: str, value: Any) -> Any:
    if not key.endswith("_json") or value is None:
        return plain(value)
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # a damaged row is shown as it is
