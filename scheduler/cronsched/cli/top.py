"""`sched top`: a screen that goes on."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.output import counted, print_json, show_time, table_lines
from cronsched.cli.parameters import DURATION
from cronsched.cli.screen import show_live

if TYPE_CHECKING:
    from cronqueue.queries import JobRow
    from cronsched.glance import Glance

# Sections show so many lines at most.
ROWS = 10
# A longer name would push the numbers out of the screen.
LONGEST_NAME = 40


@click.command("top", cls=SchedCommand)
@click.option(
    "--every",
    type=DURATION,
    default="2s",
    show_default=True,
    metavar="DURATION",
    help="How often to look; more rarely where a look takes long.",
)
@click.option("--once", is_flag=True, help="Print it once; so it is in a pipe.")
@pass_state
def command(state: State, every: timedelta, once: bool) -> None:
    """Queues, workers, what runs and what comes, live. q ends it, any other key looks at once."""
    from cronsched.glance import glance

    database = state.open()
    if state.as_json:
        print_json(glance(database, ROWS))
    elif once or not sys.stdout.isatty():
        for line in _lines(state, glance(database, ROWS)):
            click.echo(line)
    else:
        show_live(lambda: _lines(state, glance(database, ROWS)), every.total_seconds())


def _lines(state: State, found: Glance) -> list[str]:
    """What is told, as text."""
    sections = (_queues(state, found), _workers(state, found), _jobs(state, found))
    return [_headline(state, found), *(line for section in sections for line in ("", *section))]


def _headline(state: State, found: Glance) -> str:
    alive = [each for each in found.workers if each.state != "silent"]
    places = sum(each.concurrency or 0 for each in alive)
    running = sum(each.running for each in found.queues)
    daemons = sum(each.kind == "daemon" for each in alive)
    ended = sum(each.jobs for each in found.ended)
    return (
        f"{show_time(state, found.now).rpartition(' (')[0]}   {running} of {counted(places, 'place')} busy"
        f"   {ended / 60:.1f} jobs/s   {counted(daemons, 'daemon')}"
    )


def _queues(state: State, found: Glance) -> list[str]:
    ended = ("ENDS/MIN", "FAILS/MIN", "TAKES")
    headers = ("QUEUE", "DUE", "WAITS", "RUNS", "LATER", "HELD", "FAILED", *ended)
    rows = [
        (
            f"{_short(each.name)} (paused)" if each.paused else _short(each.name),
            each.due,
            None if each.oldest_due is None else _round(found.now - each.oldest_due),
            each.running,
            each.later,
            sum(each.held.values()),
            each.failed,
            found.ended_in(each.name, "succeeded", "failed", "cancelled", "skipped"),
            found.ended_in(each.name, "failed"),
            _seconds(found.seconds_of(each.name)),
        )
        for each in found.queues
    ]
    return table_lines(state, headers, rows) if rows else ["no jobs"]


def _workers(state: State, found: Glance) -> list[str]:
    rows = [
        (
            each.kind,
            each.name,
            each.state,
            None if each.concurrency is None else f"{each.running or 0}/{each.concurrency}",
            each.queues or (each.exclude_queues and f"not {each.exclude_queues}") or "all",
            _round(each.heartbeat_age),
        )
        for each in found.workers[:ROWS]
    ]
    headers = ("KIND", "NAME", "STATE", "BUSY", "QUEUES", "HEARD OF")
    return table_lines(state, headers, rows) if rows else ["no workers and no daemons"]


def _jobs(state: State, found: Glance) -> list[str]:
    running = [
        (
            job.id,
            _short(job.task),
            _short(job.queue),
            _attempt(job),
            _round(found.now - (job.started_at or found.now)),
        )
        for job in found.running
    ]
    coming = [
        (
            job.id,
            _short(job.schedule or job.task),
            _short(job.queue),
            f"in {_round(job.run_at - found.now)}",
        )
        for job in found.next
    ]
    lines: list[str] = []
    if running:
        lines += [*table_lines(state, ("RUNS", "TASK", "QUEUE", "ATTEMPT", "FOR"), running), ""]
    if coming:
        lines += table_lines(state, ("COMES", "SCHEDULE OR TASK", "QUEUE", "WHEN"), coming)
    return lines


def _attempt(job: JobRow) -> str:
    return f"{job.attempts} of {job.max_attempts}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _round(duration: timedelta) -> str:
    from cronqueue.durations import format_duration

    return format_duration(timedelta(seconds=max(round(duration.total_seconds()), 0)))


def _seconds(seconds: float | None) -> str | None:
    from cronqueue.durations import format_rough

    return None if seconds is None else format_rough(seconds)
