"""`sched plan`: what the files would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronsched.cli.base import FAILED, PENDING, Exit, SchedCommand, State, pass_state
from cronsched.cli.output import print_json

if TYPE_CHECKING:
    from cronsched.reconcile import Effect, Plan

_SIGNS = {"add": "+", "change": "~", "revive": "+", "remove": "-"}


@click.command("plan", cls=SchedCommand)
@click.option("--exit-code", is_flag=True, help="Exit with 3 when something would change.")
@pass_state
def command(state: State, exit_code: bool) -> None:
    """Compare the schedule files with the database; changes nothing."""
    from cronsched.loader import load_in_child
    from cronsched.reconcile import plan

    loaded = state.loaded
    database, settings = state.open(), loaded.settings
    manifest = load_in_child(loaded.folder / settings.schedules, settings.imports, tz=settings.tz)
    found = plan(database, manifest, settings)
    print_plan(state, found)
    if found.faults:
        raise Exit(FAILED)
    if exit_code and not found.is_empty:
        raise Exit(PENDING)


def print_plan(state: State, found: Plan) -> None:
    """The plan for people, or as JSON."""
    faults = [str(fault) for fault in found.faults]
    if state.as_json:
        changes = [
            {
                "kind": effect.kind,
                "name": effect.name,
                "added": effect.added,
                "kept": effect.kept,
                "cancelled": effect.cancelled,
            }
            for effect in found.effects
        ]
        print_json({"changes": changes, "faults": faults, "not_removed": found.changes.kept})
        return
    for effect in found.effects:
        click.echo(f"{_SIGNS[effect.kind]} {effect.name}  {_words(effect)}")
    for fault in faults:
        click.echo(f"! {fault}", err=True)
    if found.changes.kept:
        names = ", ".join(found.changes.kept)
        click.echo(f"! not removed, because {found.changes.kept_because}: {names}", err=True)
    click.echo(_summary(found) if found.effects else "Nothing would change.")


def _words(effect: Effect) -> str:
    rows = f"{effect.added} rows to add, {effect.kept} to keep, {effect.cancelled} to cancel"
    before, after = effect.before, effect.after
    if after is None:
        return f"{effect.cancelled} rows to cancel, history kept"
    words = after.trigger.describe()
    if before is not None and before.trigger != after.trigger:
        words = f"{before.trigger.describe()} -> {words}"
    return f"{words}; {rows}"


def _summary(found: Plan) -> str:
    counts = {kind: sum(each.kind == kind for each in found.effects) for kind in _SIGNS}
    return (
        f"Plan: {counts['add'] + counts['revive']} to add, {counts['change']} to change,"
        f" {counts['remove']} to remove."
    )
