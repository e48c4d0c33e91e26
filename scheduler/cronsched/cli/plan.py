"""`sched plan`: what the files would change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import FAILED, PENDING, Exit, clean, say
from cronsched.cli.output import counted, print_json, show, show_time
from cronsched.documents import versioned

if TYPE_CHECKING:
    from datetime import datetime

    from cronsched.definition import Definition
    from cronsched.manifest import Manifest
    from cronsched.plans import Effect, Plan

_SIGNS = {"add": "+", "revive": "+", "change": "~", "rename": "~", "tzdata": "!", "remove": "-"}
_COLOURS = {"+": "green", "~": "yellow", "-": "red", "!": "magenta", "?": "cyan"}
# What a change of a definition is about, in words; where a schedule stands does not matter.
_UNTOLD = ("trigger", "name", "source", "line", "renamed_from", "on_missed_queue")
# So many coming runs are shown.
_NEXT = 2


@click.command("plan", cls=SchedCommand)
@click.option("--exit-code", is_flag=True, help="Exit with 3 when something would change.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the plan for `sched apply FILE`.",
)
@pass_state
def command(state: State, exit_code: bool, out: Path | None) -> None:
    """Compare the schedule files with the database; changes no schedule."""
    from cronsched.reconcile import plan

    database = state.open()
    found = plan(database, load_manifest(state), state.loaded.settings)
    now = database.server_now()
    print_plan(state, found, now)
    if out is not None:
        out.write_text(json.dumps(versioned(_as_data(state, found, now))) + "\n")
    if found.faults:
        raise Exit(FAILED)
    if exit_code and not found.is_empty:
        raise Exit(PENDING)


def load_manifest(state: State) -> Manifest:
    """What the files declare, loaded in a fresh process; and in another, to find what is unsteady."""
    from cronsched.daemon import Daemon, DaemonOptions
    from cronsched.manifest import with_unsteady

    loaded = state.loaded
    options = DaemonOptions(loaded.settings, loaded.folder / loaded.settings.schedules)
    daemon = Daemon(state.open(), options)
    return with_unsteady(daemon.load(), daemon.load())


def print_plan(state: State, found: Plan, now: datetime, *, done: bool = False) -> None:
    """The plan for people, or as JSON; `done`: it has been carried out."""
    if state.as_json:
        print_json(_as_data(state, found, now))
    else:
        _print_words(state, found, now, done=done)
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
            "renamed_from": effect.renamed_from,
            "because": effect.because,
            "source": _source(effect),
            "words": None if effect.after is None else effect.after.trigger.describe(),
            "next": next(iter(_next_runs(effect.after, now)), None),
            "changed": _differences(state, effect),
            "added": effect.added,
            "kept": effect.kept,
            "moved": effect.moved,
            "cancelled": effect.cancelled,
            "rows": effect.rows,
        }
        for effect in found.effects
    ]
    faults = [
        {"file": fault.file, "line": fault.line, "message": fault.message} for fault in found.faults
    ]
    return {
        "changes": changes,
        "warnings": found.lints,
        "faults": faults,
        "not_removed": found.changes.kept,
        "store": found.store,
        "manifest": found.manifest.hash,
    }


def _source(effect: Effect) -> str | None:
    definition = effect.after or effect.before
    return None if definition is None else definition.source


def _print_words(state: State, found: Plan, now: datetime, *, done: bool) -> None:
    files, declared = len(found.manifest.sources), len(found.manifest.schedules)
    folder = state.loaded.settings.schedules
    click.echo(f"{folder}: {counted(files, 'file')}, {counted(declared, 'schedule')}")
    told = [*(each.name for each in found.effects), *(each.schedule for each in found.lints)]
    width = max(map(len, told), default=0)
    for effect in found.effects:
        _print_lines(_SIGNS[effect.kind], effect.name, width, list(_lines(state, effect, now)))
    for lint in found.lints:
        _print_lines("?", lint.schedule, width, [lint.message])
    click.echo(_summary(found, done=done))


def _print_lines(sign: str, name: str, width: int, lines: list[str]) -> None:
    first, *more = lines or [""]
    coloured = click.style(sign, fg=_COLOURS[sign])
    click.echo(f"{coloured} {clean(name).ljust(width)}  {clean(first)}".rstrip())
    for line in more:
        click.echo(f"  {' ' * width}  {clean(line)}")


def _lines(state: State, effect: Effect, now: datetime) -> Iterator[str]:
    """What becomes of one schedule."""
    if effect.after is None:
        yield f"rows {effect.cancelled} cancelled, history kept"
        return
    if effect.renamed_from is not None:
        yield f"name {effect.renamed_from} -> {effect.name}, history moves along"
    if effect.because is not None:
        yield f"times {effect.because}"
    if effect.kind in ("add", "revive"):
        yield effect.after.trigger.describe()
    for name, value in _differences(state, effect).items():
        yield f"{name} {value}"
    yield from _coming(state, effect, now)
    counts = {
        "written": effect.added,
        "moved": effect.moved,
        "cancelled": effect.cancelled,
        "kept": effect.kept - effect.moved,
        "busy": effect.busy,
    }
    rows = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    if rows:
        yield f"rows {rows}"


def _coming(state: State, effect: Effect, now: datetime) -> Iterator[str]:
    """The next runs, and which they were where others come now."""
    before, after = _next_runs(effect.before, now), _next_runs(effect.after, now)
    if effect.kind != "revive" and before and before != after:
        yield f"next {_times(state, before)} -> {_times(state, after)}"
    elif after:
        yield f"next {show_time(state, after[0])}"


def _times(state: State, moments: list[datetime]) -> str:
    return ", ".join(show_time(state, each).partition(" (")[0] for each in moments) or "never"


def _differences(state: State, effect: Effect) -> dict[str, str]:
    """Which parts of the definition change, from what to what."""
    return {
        name: f"{show(state, was)} -> {show(state, becomes)}"
        for name, (was, becomes) in effect.differences().items()
    }


def _next_runs(definition: Definition | None, now: datetime) -> list[datetime]:
    from cronsched.planner import upcoming
    from cronsched.triggers import OpaqueTrigger

    if definition is None:
        return []
    try:
        return [each.run_at for each in upcoming(definition, now, _NEXT)]
    except OpaqueTrigger:  # only the process that loads its file can tell
        return []


def _summary(found: Plan, *, done: bool) -> str:
    counts = dict.fromkeys("+~-!", 0)
    for effect in found.effects:
        counts[_SIGNS[effect.kind]] += 1
    warnings = f"{counted(len(found.lints), 'warning')}" if found.lints else ""
    if not found.effects:
        said = "Nothing has changed" if done else "Nothing would change"
        return f"{said}, {warnings}." if warnings else f"{said}."
    words = ("added", "changed", "removed") if done else ("to add", "to change", "to remove")
    told = [f"{counts[sign]} {word}" for sign, word in zip("+~-", words, strict=True)]
    if counts["!"]:
        told.append(f"{counts['!']} computed otherwise")
    if warnings:
        told.append(warnings)
    if done:
        return f"Done: {', '.join(told)}."
    return f"Plan: {', '.join(told)}. `sched apply` or the daemon does it."
