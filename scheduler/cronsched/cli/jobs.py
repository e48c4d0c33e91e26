"""`sched jobs`: the queue to look at, and what can be done to its jobs."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from cronsched.cli import job_log
from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.exits import NO_MATCH, Exit, clean, refuse, say
from cronsched.cli.job_acts import ACTS
from cronsched.cli.output import (
    parse_time,
    print_fields,
    print_json,
    print_list,
    show_time,
    table_lines,
)
from cronsched.cli.parameters import DURATION, JOB_ID, job_filters
from cronsched.cli.screen import show_live
from cronsched.cli.waiting import wait_for

if TYPE_CHECKING:
    from datetime import timedelta

    from cronqueue.database import Database
    from cronqueue.queries import Filter, JobDetails, JobRow
    from cronsched.job_search import Carried

# Of a log, beside everything else about its job.
_SHOWN_LINES = 10
_ROWS = 50
# Seconds between two looks of `list --watch`.
_WATCHED_EVERY = 2.0


@click.group(cls=SchedGroup)
def command() -> None:
    """Jobs: higher priority runs first, then the earlier run_at, then the lower id."""


for act in ACTS:
    command.add_command(act)
command.add_command(job_log.command)


@command.command("list")
@job_filters
@click.option("--due", is_flag=True, help="Queued ones whose time has come.")
@click.option("--due-before", metavar="TIME", help="Waiting ones with a run_at before this.")
@click.option("--tag", metavar="TEXT", help="With this tag: its name, its value, or NAME=VALUE.")
@click.option(
    "--argument", metavar="TEXT", help="With this among its arguments: a value, or NAME=VALUE."
)
@click.option("--limit", type=click.IntRange(1), help="50; with -o all that match.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, on a terminal.")
@click.option(
    "-o", "format_", type=click.Choice(["csv", "jsonl"]), help="Print a file: all that match."
)
@pass_state
def list_(
    state: State,
    due_before: str | None,
    tag: str | None,
    argument: str | None,
    limit: int | None,
    watch: bool,
    format_: str | None,
    **chosen: Any,
) -> None:
    """Jobs: those that run, those that come next, those that ended last.

    With --state the newest come first; queued and due ones as they will run. With --tag, --argument or -o
    waiting ones come by their time, ended ones the latest first, others the newest first.
    """
    from cronqueue.queries import Filter
    from cronsched.job_search import Carried

    before = None if due_before is None else parse_time(state, "--due-before", due_before)
    wanted, carried = Filter(**chosen, due_before=before), Carried(tag, argument)
    if format_ is not None:
        _print_file(state, wanted, carried, format_, limit)
        return
    look = partial(_look, state, state.open(), wanted, carried, limit or _ROWS)
    if watch and sys.stdout.isatty() and not state.as_json:
        show_live(lambda: _job_lines(state, look()), _WATCHED_EVERY)
    else:
        print_list(state, look(), _HEADERS, _cells)


def _look(
    state: State, database: Database, wanted: Filter, carried: Carried, limit: int
) -> list[JobRow]:
    """The jobs of the list; where not all could be looked at, that is said."""
    from cronqueue.queries import select_jobs
    from cronsched.job_search import LOOKED_AT, NOTHING, find_page

    if carried == NOTHING:
        return select_jobs(database, wanted, limit)
    page = find_page(database, wanted, carried, wanted.natural_order, limit=limit)
    if page.next is not None and len(page.rows) < limit and not state.quiet:
        say(
            f"looked at {LOOKED_AT:,} jobs, there are more: narrow it down, with --task say,"
            " or let -o jsonl look at all"
        )
    return page.rows


def _print_file(
    state: State, wanted: Filter, carried: Carried, format_: str, limit: int | None
) -> None:
    from cronsched.job_export import FORMATS
    from cronsched.job_search import find_all

    if state.as_json:
        refuse("-o or --json, not both")
    lines, _ = FORMATS[format_]
    for line in lines(find_all(state.open(), wanted, carried, limit=limit)):
        click.echo(line, nl=False)


def _job_lines(state: State, jobs: list[JobRow]) -> list[str]:
    """The list as it is watched: its times are as short as they can be."""
    rows = [
        [show_time(state, each, brief=True) if isinstance(each, datetime) else each for each in row]
        for row in map(_cells, jobs)
    ]
    return table_lines(state, _HEADERS, rows) if rows else ["no jobs"]


_HEADERS = ("ID", "STATE", "TASK", "QUEUE", "PRIORITY", "RUN AT", "ATTEMPTS", "REASON")


def _cells(job: JobRow) -> tuple[Any, ...]:
    return (
        job.id,
        job.state,
        job.task,
        job.queue,
        job.priority,
        job.run_at,
        f"{job.attempts}/{job.max_attempts}",
        job.held_reason or job.reason,
    )


@command.command()
@click.argument("job_id", type=JOB_ID)
@click.option("--reveal", is_flag=True, help="Also what stands under a name such as password.")
@pass_state
def show(state: State, job_id: int, reveal: bool) -> None:
    """One job with its arguments, result, attempts and last log lines; -v for every column."""
    from cronqueue import loglines, queries
    from cronqueue.tracebacks import error_line

    details = queries.find_job(state.open(), job_id)
    lines = loglines.last_lines(state.open(), job_id, _SHOWN_LINES)
    if not reveal:
        details = _redacted(details)
    large = {
        "args_json": details.args_json,
        "result_json": details.result_json,
        "last_error": details.last_error,
    }
    everything = {**asdict(details.row), **large}
    if state.as_json:
        print_json({**everything, "attempts_failed": details.attempts, "log": lines})
        return
    if state.verbose:
        print_fields(state, {name.removesuffix("_json"): each for name, each in everything.items()})
    else:
        print_fields(state, _told(details))
    for attempt in details.attempts:
        error = error_line(attempt.error)
        who = f"attempt {attempt.attempt} {attempt.outcome} on {attempt.worker or 'no worker'}"
        click.echo(clean(f"{who}: {error}"))
    job_log.print_lines(state, lines)
    if len(lines) == _SHOWN_LINES:
        click.echo(f"all of its log: `sched jobs log {job_id}`")


def _redacted(details: JobDetails) -> JobDetails:
    """Without what is nobody's to see over a shoulder."""
    from cronsched.redaction import redacted_json

    row = details.row
    shown = replace(
        row, tags_json=redacted_json(row.tags_json), progress_json=redacted_json(row.progress_json)
    )
    return replace(
        details,
        row=shown,
        args_json=redacted_json(details.args_json) or "",
        result_json=redacted_json(details.result_json),
    )


def _told(details: JobDetails) -> dict[str, Any]:
    """What somebody wants to know who looks for the reason of something."""
    row = details.row
    why = row.held_reason or row.reason
    return {
        "job": row.id,
        "task": row.task,
        "state": f"{row.state}: {why}" if why else row.state,
        "queue": row.queue,
        "priority": row.priority,
        "run at": row.run_at,
        "attempts": f"{row.attempts} of {row.max_attempts}",
        "schedule": row.schedule,
        "planned for": row.planned_for,
        "key": row.key,
        "expires": row.expires_at,
        "timeout": None if row.timeout is None else f"{row.timeout:g}s",
        "worker": row.locked_by,
        "lease until": row.locked_until if row.state == "running" else None,
        "cancel asked": row.cancel_requested_at,
        "started": row.started_at,
        "finished": row.finished_at,
        "created": row.created_at,
        "tags": row.tags_json,
        "progress": row.progress_json,
        "args": details.args_json,
        "result": details.result_json,
        "error": details.last_error,
    }


@command.command()
@job_filters
@pass_state
def failures(state: State, **chosen: Any) -> None:
    """Failed jobs, grouped by task and error; the largest group first."""
    from cronqueue import failuregroups, queries

    print_list(
        state,
        failuregroups.failures(state.open(), queries.Filter(**chosen)),
        ("COUNT", "TASK", "ERROR", "LAST", "EXAMPLE"),
        lambda each: (each.count, each.task, each.error, each.last_at, each.example_id),
    )


@command.command()
@click.argument("job_id", type=JOB_ID)
@click.option("--timeout", type=DURATION, metavar="DURATION", help="Exit code 124 after this.")
@pass_state
def wait(state: State, job_id: int, timeout: timedelta | None) -> None:
    """Wait until a job has ended; exit code 7 unless it succeeded."""
    from cronqueue import handles

    state.open()
    job = handles.get(job_id)
    if job is None:
        raise Exit(NO_MATCH, f"there is no job {job_id}: deleted, or pruned after its retention")
    wait_for(state, job, timeout)
