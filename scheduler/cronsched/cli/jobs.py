"""`sched jobs`: the queue to look at, and what can be done to its jobs."""

from __future__ import annotations

from typing import Any

import click

from cronqueue.states import STATES
from cronsched.cli.base import NO_MATCH, Exit, SchedGroup, State, confirm, pass_state, refuse
from cronsched.cli.output import parse_time, print_fields, print_json, print_table


@click.group(cls=SchedGroup)
def command() -> None:
    """Jobs: higher priority runs first, then the earlier run_at, then the lower id."""


def _filters(function: Any) -> Any:
    for option in (
        click.option(
            "--state", "states", multiple=True, type=click.Choice(STATES), help="In this state."
        ),
        click.option("--queue", help="Of this queue."),
        click.option("--task", help="Of this task."),
        click.option("--schedule", help="Of this schedule."),
    ):
        function = option(function)
    return function


@command.command("list")
@_filters
@click.option("--due", is_flag=True, help="Queued ones whose time has come.")
@click.option("--due-before", metavar="TIME", help="Waiting ones with a run_at before this.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@pass_state
def list_(state: State, due_before: str | None, limit: int, **chosen: Any) -> None:
    """Jobs, newest first; queued and due ones as they will run."""
    from cronqueue.queries import Filter, select_jobs

    before = None if due_before is None else parse_time(state, due_before)
    found = select_jobs(state.open(), Filter(**chosen, due_before=before), limit=limit)
    if state.as_json:
        print_json(found)
        return
    print_table(
        state,
        ("ID", "STATE", "TASK", "QUEUE", "PRIORITY", "RUN AT", "ATTEMPTS", "REASON"),
        [
            (
                job.id,
                job.state,
                job.task,
                job.queue,
                job.priority,
                job.run_at,
                f"{job.attempts}/{job.max_attempts}",
                job.held_reason or job.reason,
            )
            for job in found
        ],
    )


@command.command()
@click.argument("job_id", type=int)
@pass_state
def show(state: State, job_id: int) -> None:
    """One job with its arguments, result and attempts."""
    from cronqueue import queries

    details = queries.find_job(state.open(), job_id)
    row = {name: getattr(details.row, name) for name in details.row.__dataclass_fields__}
    rest = {
        "args_json": details.args_json,
        "result_json": details.result_json,
        "last_error": details.last_error,
    }
    if state.as_json:
        print_json({**row, **rest, "attempts_failed": details.attempts})
        return
    print_fields(
        state, {name.removesuffix("_json"): value for name, value in {**row, **rest}.items()}
    )
    for attempt in details.attempts:
        error = queries.error_line(attempt.error)
        click.echo(f"attempt {attempt.attempt}: {attempt.outcome} by {attempt.worker}: {error}")


def _ids(
    state: State, ids: tuple[int, ...], chosen: dict[str, Any], states: tuple[str, ...]
) -> list[int]:
    """The jobs that a bulk act means, of those states that it can act on."""
    from cronqueue.queries import Filter, select_jobs

    database = state.open()
    if ids:
        return list(ids)
    if not any(chosen.values()):
        refuse("name jobs by their ids, or say which: --state, --queue, --task, --schedule")
    chosen["states"] = tuple(set(states).intersection(chosen["states"] or states))
    return [job.id for job in select_jobs(database, Filter(**chosen), limit=1_000_000)]


def _act(
    name: str, words: str, states: tuple[str, ...], one: str, many: str, undo: str = ""
) -> None:
    """A command that does the same to one job, or after a question to many."""

    @command.command(name, help=words)
    @click.argument("ids", type=int, nargs=-1)
    @_filters
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @click.option("--dry-run", is_flag=True, help="Only count.")
    @pass_state
    def act(state: State, ids: tuple[int, ...], yes: bool, dry_run: bool, **chosen: Any) -> None:
        from cronqueue import operations
        from cronqueue.audit import this_user

        found = _ids(state, ids, chosen, states)
        if not found:
            raise Exit(NO_MATCH, "no job matches")
        if dry_run:
            click.echo(f"{len(found)} jobs")
            return
        database = state.open()
        if len(found) == 1 and ids:
            answer = getattr(operations, one)(database, found[0], actor=this_user())
            click.echo(
                f"job {found[0]}: {answer or name}{undo and '; undo: ' + undo.format(found[0])}"
            )
            return
        confirm(f"{name} {len(found)} jobs?", yes=yes)
        done = getattr(operations, many)(database, found, actor=this_user())
        click.echo(f"{name}: {done}")


_WAITING = ("queued", "held")
_ENDED = ("failed", "cancelled", "skipped")
_act(
    "retry",
    "Queue failed, cancelled or skipped jobs again, with fresh attempts.",
    _ENDED,
    "retry_job",
    "retry_jobs",
    "sched jobs cancel {}",
)
_act(
    "cancel",
    "Cancel waiting jobs; ask running ones to stop.",
    (*_WAITING, "running"),
    "cancel_job",
    "cancel_jobs",
    "sched jobs retry {}",
)
_act(
    "delete",
    "Delete jobs that do not run.",
    (*_WAITING, *_ENDED, "succeeded"),
    "delete_job",
    "delete_jobs",
)
_act(
    "run-now",
    "Make waiting jobs due at once.",
    _WAITING,
    "run_now",
    "run_jobs_now",
)


@command.command()
@_filters
@pass_state
def failures(state: State, **chosen: Any) -> None:
    """Failed jobs, grouped by task and error."""
    from cronqueue import queries

    groups = queries.failures(state.open(), queries.Filter(**chosen))
    if state.as_json:
        print_json(groups)
        return
    print_table(
        state,
        ("COUNT", "TASK", "ERROR", "LAST", "EXAMPLE"),
        [(each.count, each.task, each.error, each.last_at, each.example_id) for each in groups],
    )


@command.command()
@_filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_state
def clear(state: State, yes: bool, **chosen: Any) -> None:
    """Delete all jobs that do not run, or those that match."""
    from cronqueue import operations
    from cronqueue.audit import this_user
    from cronqueue.queries import Filter, select_jobs

    chosen["states"] = chosen["states"] or tuple(name for name in STATES if name != "running")
    database = state.open()
    found = [job.id for job in select_jobs(database, Filter(**chosen), limit=1_000_000)]
    if not found:
        raise Exit(NO_MATCH, "no job matches")
    confirm(f"Delete {len(found)} jobs?", yes=yes)
    click.echo(f"deleted {operations.delete_jobs(database, found, actor=this_user())} jobs")
