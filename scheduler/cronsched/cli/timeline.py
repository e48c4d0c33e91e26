"""`sched timeline`: what ran and what will run, a line for each schedule."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import clean, refuse, say
from cronsched.cli.output import print_json, print_table, show_time
from cronsched.cli.parameters import DURATION

if TYPE_CHECKING:
    from cronsched.timeline import Lane, Timeline

# Characters of a line, of which a quarter tells of the past; on a terminal as many as it has room for.
WIDTH = 64
_LEAST, _MOST = 24, 160
_LEGEND = "# ran   x failed   ~ skipped   > runs   o written   . expected   z held"
# Where several fall on one character, the first of these shows.
_STRENGTH = "x>#~oz."
_MARKS = {"succeeded": "#", "failed": "x", "running": ">"}


@click.command("timeline", cls=SchedCommand)
@click.option(
    "--for",
    "ahead",
    type=DURATION,
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How far to look ahead; a third as far is looked back.",
)
@click.option("--queue", help="Of this queue alone.")
@click.option("--ics", "as_calendar", is_flag=True, help="What will run as a calendar (iCal).")
@pass_state
def command(state: State, ahead: timedelta, queue: str | None, as_calendar: bool) -> None:
    """What ran and what will run, rows that are written and times that are only expected."""
    from cronsched.ical_feed import calendar
    from cronsched.timeline import read_timeline

    if as_calendar and state.as_json:
        refuse("--ics and --json are two formats: give one of them")
    found = read_timeline(state.open(), ahead / 3, ahead)
    lanes = [lane for lane in found.lanes if queue in (None, lane.queue)]
    if as_calendar:
        click.echo(calendar(replace(found, lanes=tuple(lanes))), nl=False)
        return
    if state.as_json:
        print_json({"from": found.start, "now": found.now, "to": found.end, "lanes": lanes})
        return
    if found.truncated:
        say("it was too much: the oldest runs or the latest times are left out")
    click.echo(f"{show_time(state, found.start)} to {show_time(state, found.end)}")
    told = [(clean(lane.name), _next(lane), _took(lane)) for lane in lanes]
    width = _room_beside([(name, took) for name, _, took in told])
    rows = [
        (name, _drawn(lane, found, width), when, took)
        for lane, (name, when, took) in zip(lanes, told, strict=True)
    ]
    print_table(state, ("", _ruler(found, width), "NEXT", "TAKES"), rows)
    click.echo(_LEGEND)


def _room_beside(told: Sequence[tuple[str, str]]) -> int:
    """What a terminal leaves for a lane's line beside its name, its next run, and how long it takes."""
    if not sys.stdout.isatty():
        return WIDTH
    names, durations = (max(map(len, column), default=0) for column in zip(*told, strict=True))
    beside = min(names, 30) + max(durations, len("TAKES")) + len("59m ago") + 3 * 2
    return min(max(shutil.get_terminal_size().columns - beside, _LEAST), _MOST)


def _ruler(timeline: Timeline, width: int) -> str:
    place = _place(timeline, timeline.now, width)
    return "-" * place + "|now" + "-" * (width - place - 4)


def _drawn(lane: Lane, timeline: Timeline, width: int) -> str:
    marks = [" "] * width
    for at, mark in _events(lane):
        if timeline.start <= at < timeline.end:
            place = _place(timeline, at, width)
            marks[place] = min(marks[place].strip() or mark, mark, key=_STRENGTH.index)
    return "".join(marks)


def _events(lane: Lane) -> Iterator[tuple[datetime, str]]:
    for run in lane.runs:
        yield run.started_at or run.due_at, _MARKS.get(run.state, "~")
    for each in lane.coming:
        written = "." if each.job_id is None else "o"
        yield each.run_at, written if each.held_reason is None else "z"


def _place(timeline: Timeline, at: datetime, width: int) -> int:
    return int((at - timeline.start) / (timeline.end - timeline.start) * width)


def _next(lane: Lane) -> datetime | None:
    return lane.coming[0].run_at if lane.coming else None


def _took(lane: Lane) -> str:
    from cronqueue.durations import format_rough

    return (
        "-"
        if lane.took is None
        else f"{format_rough(lane.took.p50)} to {format_rough(lane.took.p95)}"
    )
