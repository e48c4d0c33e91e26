"""`sched plan`: what the files would change."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import FAILED, PENDING, Exit, clean, say
from cronsched.cli.output import counted, print_json, show, show_time

if TYPE_CHECKING:
    from datetime import datetime

    from cronsched.reconcile import Effect, Plan

_SIGNS = {"add": "+", "change": "~", "revive": "+", "remove": "-"}
_COLOURS = {"add": "green", "change": "yellow", "revive": "green", "remove": "red"}
# What a change of a definition is about, in words; where a schedule stands does not matter.
_UNTOLD = ("trigger", "source", "line")


@click.command("plan", cls=SchedCommand)
@click.option("--exit-code", is_flag=True, help="Exit with 3 when something would change.")
@pass_state
def command(state: State, exit_code: bool) -> None:
    """Compare the schedule files with the database; changes no schedule."""
    from cronsched.daemon import Daemon, DaemonOptions
    from cronsched.reconcile import plan

    loaded = state.loaded
    database, settings = state.open(), loaded.settings
    daemon = Daemon(database, DaemonOptions(settings, loaded.folder / settings.schedules))
    found = plan(database, daemon.load(), settings)
    print_plan(state, found, database.server_now())
    if found.faults:
        raise Exit(FAILED)
    if exit_code and not found.is_empty:
        raise Exit(PENDING)


def print_plan(state: State, found: Plan, now: datetime) -> None:
    """The plan for people, or as JSON."""
    if state.as_json:
        print_json(_as_data(state, found, now))
    else:
        _print_words(state, found, now)
    for fault in found.faults:
        say(str(fault))
    if found.changes.kept:
        names = ", ".join(found.changes.kept)
        say(f"not removed, because {found.changes.kept_because}: {names}")


def _as_data(state: State, found: Plan, now: datetime) -> dict[str, Any]:
    changes = [
        {
            "kind": effect.kind,
            "name": effect.name,
            "source": (effect.after or effect.before).source,  # type: ignore[union-attr]
            "words": None if effect.after is None else effect.after.trigger.describe(),
            "next": _next_run(effect, now),
            "changed": _differences(state, effect),
            "added": effect.added,
            "kept": effect.kept,
            "cancelled": effect.cancelled,
        }
        for effect in found.effects
    ]
    faults = [
        {"file": fault.file, "line": fault.line, "message": fault.message} for fault in found.faults
    ]
    return {"changes": changes, "faults": faults, "not_removed": found.changes.kept}


def _print_words(state: State, found: Plan, now: datetime) -> None:
    files, declared = len(found.manifest.sources), len(found.manifest.schedules)
    folder = state.loaded.settings.schedules
    click.echo(f"{folder}: {counted(files, 'file')}, {counted(declared, 'schedule')}")
    width = max((len(effect.name) for effect in found.effects), default=0)
    for effect in found.effects:
        sign = click.style(_SIGNS[effect.kind], fg=_COLOURS[effect.kind])
        first, *more = _lines(state, effect, now)
        click.echo(f"{sign} {clean(effect.name).ljust(width)}  {clean(first)}")
        for line in more:
            click.echo(f"  {' ' * width}  {clean(line)}")
    click.echo(_summary(found) if found.effects else "Nothing would change.")


def _lines(state: State, effect: Effect, now: datetime) -> list[str]:
    """What becomes of one schedule."""
    if effect.after is None:
        return [f"{effect.cancelled} future jobs cancelled, history kept"]
    lines = [f"{name} {value}" for name, value in _differences(state, effect).items()]
    if effect.kind != "change":
        lines = [effect.after.trigger.describe()]
    first = _next_run(effect, now)
    if first is not None:
        lines.append(f"next {show_time(state, first)}")
    counts = {"written": effect.added, "cancelled": effect.cancelled, "kept": effect.kept}
    jobs = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return [*lines, f"jobs {jobs}"] if jobs else lines


def _differences(state: State, effect: Effect) -> dict[str, str]:
    """Which parts of the definition change, from what to what."""
    before, after = effect.before, effect.after
    if before is None or after is None:
        return {}
    found = {}
    if before.trigger != after.trigger:
        found["when"] = f"{before.trigger.describe()} -> {after.trigger.describe()}"
    for each in fields(after):
        was, becomes = getattr(before, each.name), getattr(after, each.name)
        if was != becomes and each.name not in _UNTOLD:
            found[each.name.removesuffix("_json")] = f"{show(state, was)} -> {show(state, becomes)}"
    return found


def _next_run(effect: Effect, now: datetime) -> datetime | None:
    from cronsched.planner import upcoming
    from cronsched.triggers import OpaqueTrigger

    if effect.after is None:
        return None
    try:
        return next((each.run_at for each in upcoming(effect.after, now, 1)), None)
    except OpaqueTrigger:  # only the process that loads its file can tell
        return None


def _summary(found: Plan) -> str:
    counts = {kind: sum(each.kind == kind for each in found.effects) for kind in _SIGNS}
    return (
        f"Plan: {counts['add'] + counts['revive']} to add, {counts['change']} to change,"
        f" {counts['remove']} to remove. `sched daemon` does it."
    )
