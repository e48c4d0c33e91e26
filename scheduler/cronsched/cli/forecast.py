"""`sched forecast`: whether the workers can carry what comes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import say
from cronsched.cli.output import counted, print_json, print_table, show_time
from cronsched.cli.parameters import DURATION

if TYPE_CHECKING:
    from cronsched.timeline import Load

_STEPS = 144
_TOLD = 5


@click.command("forecast", cls=SchedCommand)
@click.option(
    "--for",
    "ahead",
    type=DURATION,
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="How far to look ahead.",
)
@pass_state
def command(state: State, ahead: timedelta) -> None:
    """Hold what comes, as long as it takes, against the places of the workers that live.

    Where more is wanted than there is, it tells how late jobs will be. `sched simulate` plays it exactly.
    """
    from cronsched.timeline import herds_of, load_of, quiet_of, read_timeline

    found = read_timeline(state.open(), timedelta(0), ahead)
    load, herds, quiet = load_of(found, ahead / _STEPS), herds_of(found), quiet_of(found)
    latest = max(load, key=lambda each: each.delay)
    if state.as_json:
        fits = latest.delay == timedelta(0) and found.places > 0
        print_json(
            {
                "places": found.places,
                "fits": fits,
                "until": found.whole_until,
                "load": load,
                "herds": herds,
                "quiet": quiet,
            }
        )
        return
    if found.whole_until < found.end:
        say(f"it was too much: told until {show_time(state, found.whole_until)}")
    click.echo(_in_words(state, found.places, latest))
    busiest = sorted(load, key=lambda each: (-each.wanted, each.at))[:_TOLD]
    rows = [(each.at, f"{each.wanted:.2f}", _rough(each.delay)) for each in busiest if each.wanted]
    if rows:
        print_table(state, ("BUSIEST FROM", "PLACES WANTED", "LATE BY"), rows)
    if herds:
        print_table(state, ("CROWDED MINUTE", "JOBS"), [(each.at, each.jobs) for each in herds])
    if quiet:
        windows = [(each.start, each.end, _rough(each.end - each.start)) for each in quiet]
        print_table(state, ("QUIET FROM", "TO", "FOR"), windows)


def _rough(duration: timedelta) -> str | None:
    from cronqueue.durations import format_rough

    return format_rough(duration.total_seconds()) if duration else None


def _in_words(state: State, places: int, latest: Load) -> str:
    from cronqueue.durations import format_duration

    if not places:
        return "no worker is running: nothing of it will be done"
    if latest.delay == timedelta(0):
        return f"it fits: {counted(places, 'place')}"
    late = format_duration(timedelta(seconds=round(latest.delay.total_seconds())))
    return (
        f"it does not fit into {counted(places, 'place')}: jobs will be {late} late"
        f" at {show_time(state, latest.at)}"
    )
