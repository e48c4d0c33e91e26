"""`sched schedules pause`, `skip`, `backfill` and the like: what can be done to schedules."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import NO_MATCH, Exit, confirm, refuse
from cronsched.cli.output import counted, parse_end, parse_time, print_done, print_json, show_time
from cronsched.cli.parameters import DURATION, RATE

if TYPE_CHECKING:
    from cronsched.backfill import Backfill
    from cronsched.overrides import Reached

# Many at a time are told by their number and the first few.
_TOLD = 5


@click.command("pause", cls=SchedCommand)
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every schedule that is not paused.")
@click.option("--reason", help="Shown to everybody.")
@click.option("--until", metavar="TIME", help="Resume by itself then.")
@click.option("--for", "how_long", type=DURATION, help="Resume by itself after so long.")
@click.option("--yes", is_flag=True, help="Do not ask whether all are meant.")
@pass_state
def _pause(
    state: State,
    name: str | None,
    everything: bool,
    reason: str | None,
    until: str | None,
    how_long: timedelta | None,
    yes: bool,
) -> None:
    """Hold a schedule's jobs that no worker has claimed, and those to come."""
    from cronqueue.audit import this_user
    from cronsched import pausing

    moment = parse_end(state, until, how_long)
    if name is None or everything:
        _refuse_unless_one(name, everything)
        _pause_all(state, reason, moment, yes=yes)
        return
    held = pausing.pause(state.open(), name, actor=this_user(), reason=reason, until=moment)
    end = "" if moment is None else f" until {show_time(state, moment)}"
    undo = _command("resume", name)
    words = f"schedule {name} is paused{end}, {counted(held, 'job')} held; undo: {undo}"
    data = {"name": name, "paused": True, "until": moment, "held": held, "undo": undo}
    print_done(state, words, data)


@click.command("resume", cls=SchedCommand)
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every schedule that is paused.")
@click.option("--since", metavar="TIME", help="With --all: if it was paused since then.")
@click.option("--catch-up", is_flag=True, help="Run what came due, by the schedule's own rule.")
@click.option("--yes", is_flag=True, help="Do not ask whether all are meant.")
@pass_state
def _resume(
    state: State,
    name: str | None,
    everything: bool,
    since: str | None,
    catch_up: bool,
    yes: bool,
) -> None:
    """Let a paused schedule go on. What came due meanwhile is skipped, unless it is to be caught up with."""
    from cronqueue.audit import this_user
    from cronsched import pausing

    if name is None or everything or since is not None:
        _refuse_unless_one(name, everything)
        moment = None if since is None else parse_time(state, "--since", since)
        _resume_all(state, moment, catch_up, yes=yes)
        return
    done = pausing.resume(state.open(), name, actor=this_user(), catch_up=catch_up)
    undo = _command("pause", name)
    words = f"schedule {name} goes on: {counted(done.queued, 'job')} queued, {done.skipped} skipped"
    data = {"name": name, "paused": False, **asdict(done), "undo": undo}
    print_done(state, f"{words}; undo: {undo}", data)


@click.command("skip", cls=SchedCommand)
@click.argument("name")
@click.argument("time")
@click.option("--reason", help="Kept with the decision.")
@pass_state
def _skip(state: State, name: str, time: str, reason: str | None) -> None:
    """Do not run the occurrence that is planned for this time; "next" is the one to come."""
    from cronqueue.audit import this_user
    from cronsched import overrides

    planned_for = _planned_for(state, name, time)
    reached = overrides.skip(state.open(), name, planned_for, actor=this_user(), reason=reason)
    _tell_decision(state, "skip", "is skipped", name, planned_for, reached)


@click.command("move", cls=SchedCommand)
@click.argument("name")
@click.argument("time")
@click.option("--to", "to", metavar="TIME", required=True, help="Run it then.")
@click.option("--reason", help="Kept with the decision.")
@pass_state
def _move(state: State, name: str, time: str, to: str, reason: str | None) -> None:
    """Run the occurrence of this planned time at another one; the job still sees the planned time."""
    from cronqueue.audit import this_user
    from cronsched import overrides

    planned_for, moment = _planned_for(state, name, time), parse_time(state, "--to", to)
    reached = overrides.move(
        state.open(), name, planned_for, moment, actor=this_user(), reason=reason
    )
    words = f"runs at {show_time(state, moment)}"
    _tell_decision(state, "move", words, name, planned_for, reached, run_at=moment)


@click.command("edit", cls=SchedCommand)
@click.argument("name")
@click.argument("time")
@click.option("--priority", type=int, required=True, help="Higher runs first.")
@click.option("--reason", help="Kept with the decision.")
@pass_state
def _edit(state: State, name: str, time: str, priority: int, reason: str | None) -> None:
    """Run the occurrence of this planned time with another priority."""
    from cronqueue.audit import this_user
    from cronsched import overrides

    planned_for = _planned_for(state, name, time)
    reached = overrides.edit(
        state.open(), name, planned_for, priority, actor=this_user(), reason=reason
    )
    words = f"has priority {priority}"
    _tell_decision(state, "edit", words, name, planned_for, reached, priority=priority)


@click.command("restore", cls=SchedCommand)
@click.argument("name")
@click.argument("time")
@pass_state
def _restore(state: State, name: str, time: str) -> None:
    """Take back what was decided about one occurrence: it runs as its schedule says."""
    from cronqueue.audit import this_user
    from cronsched import overrides

    planned_for = _planned_for(state, name, time)
    settings = state.loaded.settings
    reached = overrides.restore(state.open(), name, planned_for, settings, actor=this_user())
    undo = _command("skip", name, planned_for)
    words = f"{name} at {show_time(state, planned_for)} is as declared again{_later(reached)}"
    data = {"name": name, "planned_for": planned_for, "reached": reached, "undo": undo}
    print_done(state, words, data)


@click.command("backfill", cls=SchedCommand)
@click.argument("name", required=False)
@click.option("--from", "start", metavar="TIME", help="The first time that is filled in.")
@click.option("--to", "end", metavar="TIME", help="Up to this time, which is left out.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be written.")
@click.option("--limit", type=click.IntRange(1, 10_000), help="At most so many jobs; 1000.")
@click.option("--rate", type=RATE, help="At most so many a minute, or 100/h, or 2/s.")
@click.option("--priority", type=int, help="Instead of the schedule's; higher runs first.")
@click.option("--force", is_flag=True, help="What ran already too, outside the ledger.")
@click.option("--undo", "batch", metavar="BATCH", help="Cancel what has not started of this one.")
@pass_state
def _backfill(
    state: State,
    name: str | None,
    start: str | None,
    end: str | None,
    batch: str | None,
    dry_run: bool,
    **chosen: Any,
) -> None:
    """Run a schedule for times that have passed: holes, and what was missed, skipped or coalesced."""
    from cronqueue.audit import this_user
    from cronsched import backfill

    if batch is not None:
        if name or start or end or dry_run or any(chosen.values()):
            refuse("--undo BATCH stands alone")
        _undo_backfill(state, batch)
        return
    if name is None or start is None or end is None:
        refuse("say what to fill in: NAME --from TIME --to TIME; or --undo BATCH")
    options = backfill.BackfillOptions(
        **{key: value for key, value in chosen.items() if value is not None}
    )
    done = backfill.backfill(
        state.open(),
        name,
        parse_time(state, "--from", start),
        parse_time(state, "--to", end),
        state.loaded.settings,
        actor=this_user(),
        options=options,
        dry_run=dry_run,
    )
    _tell_backfill(state, name, done, dry_run=dry_run)


def _refuse_unless_one(name: str | None, everything: bool) -> None:
    if (name is not None) == everything:
        refuse("say which schedule, or --all for all of them")


def _pause_all(state: State, reason: str | None, until: datetime | None, *, yes: bool) -> None:
    from cronqueue.audit import this_user
    from cronsched import pausing, schedule_queries

    database = state.open()
    began = database.server_now()
    rows = schedule_queries.list_schedules(database)
    names = [each.name for each in rows if each.state == "active"]
    if not names:
        raise Exit(NO_MATCH, "there is no schedule that is not paused")
    confirm(f"pause {counted(len(names), 'schedule')}?", yes=yes)
    done = pausing.pause_all(database, names, actor=this_user(), reason=reason, until=until)
    undo = f"sched schedules resume --all --since {began.isoformat().replace('+00:00', 'Z')} --yes"
    end = "" if until is None else f" until {show_time(state, until)}"
    words = f"{counted(done.schedules, 'schedule')} paused{end}, {counted(done.held, 'job')} held"
    print_done(state, f"{words}; undo: {undo}", {**asdict(done), "until": until, "undo": undo})


def _resume_all(state: State, since: datetime | None, catch_up: bool, *, yes: bool) -> None:
    from cronqueue.audit import this_user
    from cronsched import pausing, schedule_queries

    database = state.open()
    names = [
        each.name
        for each in schedule_queries.list_schedules(database)
        if each.paused_at is not None and (since is None or each.paused_at >= since)
    ]
    if not names:
        raise Exit(NO_MATCH, "no such schedule is paused")
    confirm(f"resume {counted(len(names), 'schedule')}?", yes=yes)
    done = pausing.resume_all(database, names, actor=this_user(), catch_up=catch_up)
    queued, skipped = sum(each.queued for each in done), sum(each.skipped for each in done)
    words = f"{counted(len(done), 'schedule')} {'goes' if len(done) == 1 else 'go'} on"
    told = f"{words}: {counted(queued, 'job')} queued, {skipped} skipped"
    print_done(state, told, {"schedules": len(done), "queued": queued, "skipped": skipped})


ACTS = (_pause, _resume, _skip, _move, _edit, _restore, _backfill)


def _planned_for(state: State, name: str, time: str) -> datetime:
    """The planned time of one occurrence; "next" is the one to come."""
    from cronsched.schedule_queries import next_occurrences

    if time != "next":
        return parse_time(state, "TIME", time)
    found = next_occurrences(state.open(), name, 1)
    if not found:
        raise Exit(NO_MATCH, f"schedule {name!r} has no occurrence to come")
    return found[0].planned_for


def _command(act: str, name: str, planned_for: datetime | None = None) -> str:
    """The command that takes it back."""
    words = ["sched", "schedules", act, name]
    if planned_for is not None:
        words.append(planned_for.isoformat().replace("+00:00", "Z"))
    return shlex.join(words)


def _tell_decision(
    state: State,
    act: str,
    words: str,
    name: str,
    planned_for: datetime,
    reached: Reached,
    **more: Any,
) -> None:
    undo = _command("restore", name, planned_for)
    data = {"name": name, "planned_for": planned_for, "act": act, "reached": reached, "undo": undo}
    told = f"{name} at {show_time(state, planned_for)} {words}{_later(reached)}; undo: {undo}"
    print_done(state, told, data | more)


def _later(reached: Reached) -> str:
    return "" if reached == "done" else ", once it is written"


def _undo_backfill(state: State, batch: str) -> None:
    from cronqueue.audit import this_user
    from cronsched.backfill import undo_backfill

    count = undo_backfill(state.open(), batch, actor=this_user())
    if not count:
        raise Exit(
            NO_MATCH, f"no job of backfill {batch} waits: all have started, or none is known"
        )
    print_done(
        state, f"{counted(count, 'job')} of backfill {batch} cancelled", {"cancelled": count}
    )


def _tell_backfill(state: State, name: str, done: Backfill, *, dry_run: bool) -> None:
    is_written = bool(done.count) and not dry_run
    undo = f"sched schedules backfill --undo {done.batch_id}" if is_written else None
    data = asdict(done) | {"name": name, "count": done.count, "dry_run": dry_run, "undo": undo}
    if not is_written:
        data["batch_id"] = None
    lines = [
        f"{name}: {counted(done.count, 'job')} {'would be ' if dry_run else ''}written,"
        f" {len(done.holes)} for holes and {len(done.reopened)} for what did not run;"
        f" {done.left_alone} left alone",
        *_times(state, sorted((*done.holes, *done.reopened))),
    ]
    if done.beyond_limit:
        lines.append(f"{done.beyond_limit} more lie beyond --limit: repeat the command to go on")
    if undo is not None:
        lines.append(f"undo: {undo}")
    if state.as_json:
        print_json(data)
        return
    for line in lines:
        print_done(state, line, None)


def _times(state: State, instants: Sequence[datetime]) -> Iterator[str]:
    for instant in instants[:_TOLD]:
        yield f"  {show_time(state, instant)}"
    if len(instants) > _TOLD:
        yield f"  ... {len(instants) - _TOLD} more, the last {show_time(state, instants[-1])}"
