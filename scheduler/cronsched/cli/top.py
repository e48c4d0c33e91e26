"""`sched top`: a screen that goes on."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import clean
from cronsched.cli.output import counted, print_json, show_time, table_lines
from cronsched.cli.parameters import DURATION

if TYPE_CHECKING:
    from cronqueue.database import Database
    from cronqueue.queries import JobRow
    from cronsched.glance import Glance

# However many look, they take the database one part in so many of its time.
REST = 20
# Sections show so many lines at most.
ROWS = 10
# A longer name would push the numbers out of the screen.
LONGEST_NAME = 40
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


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
        with _screen(), _keys() as is_keyboard:
            _go_on(state, database, max(every.total_seconds(), 0.1), is_keyboard)


def _go_on(state: State, database: Database, every: float, is_keyboard: bool) -> None:
    from cronsched.glance import glance

    shown: list[str] = []
    while True:
        began = time.monotonic()
        try:
            shown = _lines(state, glance(database, ROWS))
            foot = "q ends it"
        except Exception as error:  # the database is away: what was seen last stays
            foot = (
                f"q ends it. This is old: {str(error).splitlines()[0] if str(error) else error!r}"
            )
        _draw(shown, clean(foot))
        took = time.monotonic() - began
        if is_keyboard:
            ready, _, _ = select.select([sys.stdin], [], [], max(every, took * REST))
            if ready and _is_end(os.read(sys.stdin.fileno(), 100)):
                return
        else:
            time.sleep(max(every, took * REST))


def _is_end(typed: bytes) -> bool:
    """A q among the keys, or a terminal that is gone."""
    return not typed or b"q" in typed.lower()


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


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, so that the first is as it was afterwards."""
    sys.stdout.write(_BEGIN)
    try:
        yield
    finally:
        sys.stdout.write(_END)
        sys.stdout.flush()


@contextlib.contextmanager
def _keys() -> Iterator[bool]:
    """Keys without Enter and without an echo; whether there are any."""
    if not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _draw(lines: list[str], foot: str) -> None:
    """What fits; the foot stands in the last line. Over what was there, so that nothing flickers."""
    width, height = shutil.get_terminal_size()
    hidden = len(lines) - (height - 1)
    if hidden > 0:
        foot = f"{foot}; {counted(hidden, 'more line')} for a higher terminal"
    fitting = [_cut(line, width) for line in lines[: height - 1]]
    fitting = [*fitting, *[""] * (height - 1 - len(fitting)), _cut(foot, width)]
    sys.stdout.write(_HOME + f"{_TO_END_OF_LINE}\n".join(fitting) + _TO_END_OF_LINE + _TO_END)
    sys.stdout.flush()


def _cut(line: str, width: int) -> str:
    """As much as fits, with a sign where there is more."""
    from rich.cells import cell_len, set_cell_size

    return line if cell_len(line) <= width else f"{set_cell_size(line, width - 1)}…"
