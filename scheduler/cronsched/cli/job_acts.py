"""`sched jobs retry | cancel | delete | run-now | clear | edit`: what can be done to jobs.

Jobs named by their ids are dealt with one by one, each with its own answer. Those that a filter finds are
counted, asked about, and dealt with in bulk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cronqueue.states import STATES
from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import FAILED, NO_MATCH, Exit, confirm, refuse, say
from cronsched.cli.output import counted, parse_time, print_done, print_json
from cronsched.cli.parameters import JOB_ID, JSON_LIST, JSON_OBJECT, job_filters

if TYPE_CHECKING:
    from cronqueue.database import Database
    from cronqueue.queries import Filter

_WAITING = ("queued", "held")
_ENDED = ("failed", "cancelled", "skipped")
_STOPS = "; if it goes on for longer than its worker's SCHED_CANCEL_TIMEOUT, its process is ended"
_IDLE = tuple(state for state in STATES if state != "running")


def _act(name: str, words: str, done: str, states: Sequence[str], undo: str = "") -> click.Command:
    """A command that does the same to jobs named by id, or after a question to all that match."""

    @click.command(name, cls=SchedCommand, help=words)
    @click.argument("ids", type=JOB_ID, nargs=-1)
    @job_filters
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @click.option("--dry-run", is_flag=True, help="Only count.")
    @pass_state
    def act(state: State, ids: tuple[int, ...], yes: bool, dry_run: bool, **chosen: Any) -> None:
        is_filtered = any(each not in (None, "", ()) for each in chosen.values())
        if ids and is_filtered:
            refuse("ids or filters, not both")
        if ids and not dry_run:
            _do_to_each(state, name, done, undo, ids)
        elif ids or is_filtered:
            _do_to_all(state, name, states, {"ids": ids, **chosen}, yes=yes, dry_run=dry_run)
        else:
            refuse(
                "say which jobs: ids, or --state, --queue, --task, --schedule, --min-priority,"
                " --max-priority"
            )

    return act


@click.command("clear", cls=SchedCommand)
@job_filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@pass_state
def _clear(state: State, yes: bool, dry_run: bool, **chosen: Any) -> None:
    """Delete all jobs that do not run, or those that match; for good."""
    _do_to_all(state, "delete", _IDLE, chosen, yes=yes, dry_run=dry_run)


@click.command("edit", cls=SchedCommand)
@click.argument("job_id", type=JOB_ID)
@click.option("--args", type=JSON_LIST, metavar="JSON", help="Positional arguments, a list.")
@click.option("--kwargs", type=JSON_OBJECT, metavar="JSON", help="Named arguments, an object.")
@click.option("--run-at", metavar="TIME", help="Not before this time.")
@click.option("--priority", type=int, help="Higher runs first.")
@click.option("--queue", help="Move it there.")
@pass_state
def _edit(
    state: State,
    job_id: int,
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    run_at: str | None,
    **chosen: Any,
) -> None:
    """Change a waiting job. New arguments replace all old ones."""
    from cronqueue import operations

    moment = None if run_at is None else parse_time(state, "--run-at", run_at)
    arguments = None if args is None and kwargs is None else (args or [], kwargs or {})
    if arguments is None and moment is None and all(each is None for each in chosen.values()):
        refuse("say what to change: --args, --kwargs, --run-at, --priority, --queue")
    if arguments is not None:
        state.load_tasks()
    actor = operations.this_user()
    changed = operations.Edit(arguments=arguments, run_at=moment, **chosen)
    operations.edit_job(state.open(), job_id, changed, actor=actor)
    print_done(state, f"job {job_id}: changed", {"id": job_id})


ACTS = (
    _act(
        "retry",
        "Queue failed, cancelled or skipped jobs again, with fresh attempts.",
        "queued again",
        _ENDED,
        "cancel",
    ),
    _act(
        "cancel",
        "Cancel waiting jobs; ask running ones to stop, and end the process of one that does not.",
        "cancelled",
        (*_WAITING, "running"),
        "retry",
    ),
    _act("delete", "Delete jobs that do not run; for good.", "deleted", _IDLE),
    _act("run-now", "Make waiting jobs due at once.", "due now", _WAITING),
    _edit,
    _clear,
)


def _do_to_each(state: State, name: str, done: str, undo: str, ids: Sequence[int]) -> None:
    """One after the other; what is refused is told, and the rest is done all the same."""
    from cronqueue import operations
    from cronqueue.errors import KeyTaken, StateError

    acts: dict[str, Callable[..., Any]] = {
        "retry": operations.retry_job,
        "cancel": operations.cancel_job,
        "delete": operations.delete_job,
        "run-now": operations.run_now,
    }
    database, actor = state.open(), operations.this_user()
    did: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    codes = set()
    for job_id in ids:
        try:
            answer = acts[name](database, job_id, actor=actor)
        except (KeyTaken, StateError, LookupError) as error:
            codes.add(NO_MATCH if isinstance(error, LookupError) else FAILED)
            refused.append({"id": job_id, "error": str(error)})
            say(str(error))
            continue
        words = "asked to stop" if answer == "requested" else done
        hint = _STOPS if answer == "requested" else ""
        if undo and words == done:
            hint = f"; undo: sched jobs {undo} {job_id}"
        did.append({"id": job_id, "done": words})
        if not state.as_json:
            print_done(state, f"job {job_id}: {words}{hint}", None)
    if state.as_json:
        print_json({"done": did, "refused": refused})
    if codes:
        raise Exit(NO_MATCH if codes == {NO_MATCH} and not did else FAILED)


def _do_to_all(
    state: State,
    name: str,
    states: Sequence[str],
    chosen: dict[str, Any],
    *,
    yes: bool,
    dry_run: bool,
) -> None:
    """Count what matches and can be acted on, ask, act."""
    from cronqueue import operations
    from cronqueue.queries import Filter, count_jobs

    wanted = tuple(each for each in states if each in (chosen["states"] or states))
    meant = replace(Filter(**chosen), states=wanted)
    database = state.open()
    count = count_jobs(database, meant) if wanted else 0
    if not count:
        raise Exit(NO_MATCH, f"no job matches that can be acted on: {', '.join(states)} ones can")
    if dry_run:
        print_done(state, f"would {name} {counted(count, 'job')}", {"matched": count})
        return
    confirm(f"{name} {counted(count, 'job')}?", yes=yes)
    acts: dict[str, Callable[..., Any]] = {
        "retry": operations.retry_jobs,
        "cancel": operations.cancel_jobs,
        "delete": operations.delete_jobs,
        "run-now": operations.run_jobs_now,
    }
    answer = acts[name](database, _ids(database, meant), actor=operations.this_user())
    if isinstance(answer, operations.Cancelled):
        asked = f", {counted(answer.requested, 'job')} asked to stop" if answer.requested else ""
        words = f"cancelled {counted(answer.cancelled, 'job')}{asked}"
    else:
        words = f"{name}: {counted(answer, 'job')}"
    print_done(state, words, {"matched": count, "done": answer})


def _ids(database: Database, meant: Filter) -> Iterator[int]:
    """The jobs' ids, page by page: there may be millions."""
    from cronqueue.queries import select_ids

    last = 0
    while page := select_ids(database, meant, after=last):
        yield from page
        last = page[-1]
