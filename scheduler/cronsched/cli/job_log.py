"""`sched jobs log`: what a job has said, and says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import clean, refuse, say
from cronsched.cli.output import print_json, zone_of
from cronsched.cli.parameters import JOB_ID

if TYPE_CHECKING:
    from cronqueue.database import Database
    from cronqueue.loglines import LogLineRow

# Seconds between looks for new lines.
_FOLLOW_EVERY = 0.5
_PAGE = 500


@click.command("log", cls=SchedCommand)
@click.argument("job_id", type=JOB_ID)
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "--lines", "-n", type=click.IntRange(1, 10_000), default=500, help="The last ones; 500."
)
@pass_state
def command(state: State, job_id: int, follow: bool, lines: int) -> None:
    """What a job has logged, of all its attempts."""
    from cronqueue import loglines, queries

    if follow and state.as_json:
        refuse("--follow prints lines as they come, --json one document: choose one")
    database = state.open()
    queries.find_job(database, job_id)
    found = loglines.last_lines(database, job_id, lines)
    if state.as_json:
        print_json(found)
        return
    print_lines(state, found)
    if follow:
        for page in _following(database, job_id, found[-1:]):
            print_lines(state, page)
    elif not found and not state.quiet:
        say(f"job {job_id} has logged nothing that is kept")


def print_lines(state: State, lines: Sequence[LogLineRow]) -> None:
    """Each with its time, its attempt and its level; what follows in the same line is set in."""
    zone = zone_of(state)
    for each in lines:
        first, *more = each.message.split("\n")
        when = f"{each.at.astimezone(zone):%Y-%m-%d %H:%M:%S} {zone.key}"
        click.echo(clean(f"{when}  attempt {each.attempt}  {each.level:<7}  {first}"))
        for line in more:
            click.echo(clean(f"    {line}"))


def _following(
    database: Database, job_id: int, last: Sequence[LogLineRow]
) -> Iterator[Sequence[LogLineRow]]:
    """Pages of new lines until the job has ended: it does not before its lines are written."""
    from cronqueue import loglines, queries
    from cronqueue.states import TERMINAL

    place = last[-1].place if last else None
    while True:
        with database.snapshot() as connection:
            has_ended = queries.find_state(connection, job_id) in TERMINAL
        page = loglines.read_lines(database, job_id, after=place, limit=_PAGE)
        if page:
            place = page[-1].place
            yield page
        elif has_ended:
            return
        else:
            time.sleep(_FOLLOW_EVERY)
