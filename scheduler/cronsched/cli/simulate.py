"""`sched simulate`: what the schedules will do to the workers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import clean, refuse, say
from cronsched.cli.output import counted, parse_time, print_json, print_table, show, show_time

if TYPE_CHECKING:
    from cronqueue.database import Database
    from cronsched.simulation import Simulation

_DAY = timedelta(days=1)
# As many of the busiest minutes as are told.
_TOLD = 5


@click.command("simulate", cls=SchedCommand)
@click.option("--from", "start", metavar="TIME", help="From this time; default now.")
@click.option("--to", "end", metavar="TIME", help="Up to this time; default a day later.")
@click.option("--workers", type=click.IntRange(1, 10_000), help="Executors; those that live now.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), help="Places of each executor.")
@pass_state
def command(
    state: State, start: str | None, end: str | None, workers: int | None, concurrency: int | None
) -> None:
    """Play the stored schedules on a clock that does not wait, as if none were paused.

    Each job takes as long as the finished ones of its task did in the middle; 1 s where none has finished.
    """
    from cronqueue.overview import durations_by_task
    from cronsched.schedule_queries import all_definitions
    from cronsched.simulation import simulate

    database = state.open()
    since = database.server_now() if start is None else parse_time(state, "--from", start)
    until = since + _DAY if end is None else parse_time(state, "--to", end)
    if since >= until:
        refuse(f"--from {since.isoformat()} is not before --to {until.isoformat()}")
    definitions, unreadable = all_definitions(database, since, until)
    took = durations_by_task(database)
    durations = {task: timedelta(seconds=each.p50) for task, each in took.items()}
    places = _places(state, database, workers, concurrency)
    found = simulate(definitions, since, until, places, durations)
    for name in unreadable:
        say(f"schedule {name} is left out: its times cannot be computed here")
    if state.as_json:
        print_json({"from": since, "to": until, "places": places, "simulation": found})
        return
    measured = sum(each.task in durations for each in definitions)
    click.echo(
        f"{show_time(state, since)} to {show_time(state, until)}: {counted(len(definitions), 'schedule')},"
        f" {measured} with measured durations, {counted(places, 'place')}"
    )
    _print_whole(state, found)


def _places(state: State, database: Database, workers: int | None, concurrency: int | None) -> int:
    """As they are said, else as they are now, else as one worker would have them."""
    from cronqueue.overview import stats

    settings = state.loaded.settings
    if workers is None and concurrency is None and (living := stats(database).places):
        return living
    if workers is None and concurrency is None:
        return settings.places
    return (workers or settings.processes) * (concurrency or settings.concurrency)


def _print_whole(state: State, found: Simulation) -> None:
    if found.truncated:
        say("it was too much: what lies beyond the first million occurrences is left out")
    click.echo(
        f"busy {found.busy:.1%} of the time, at most {found.deepest} waiting,"
        f" the latest start {show(state, found.worst_lateness)} after its time"
    )
    busiest = sorted(found.minutes, key=lambda each: (-each.due, -each.deepest, each.at))[:_TOLD]
    minutes = [(each.at, each.due, each.started, each.deepest, each.busiest) for each in busiest]
    if minutes:
        print_table(state, ("BUSIEST MINUTE", "DUE", "STARTED", "WAITING", "RUNNING"), minutes)
    rows: list[tuple[Any, ...]] = [
        (
            clean(each.name),
            each.occurrences,
            each.ran,
            each.worst_lateness,
            ", ".join(f"{count} {verdict}" for verdict, count in sorted(each.skipped.items())),
        )
        for each in sorted(found.schedules, key=lambda each: (-each.worst_lateness, each.name))
    ]
    if rows:
        print_table(state, ("SCHEDULE", "OCCURRENCES", "RAN", "LATEST BY", "DID NOT RUN"), rows)
