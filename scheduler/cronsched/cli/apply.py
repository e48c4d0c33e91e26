"""`sched apply`: do what the plan says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import FAILED, PENDING, Exit, refuse, say
from cronsched.cli.output import counted
from cronsched.cli.plan import load_manifest, print_plan

if TYPE_CHECKING:
    from cronsched.plans import Plan


@click.command("apply", cls=SchedCommand)
@click.argument(
    "plan_file",
    metavar="[PLAN]",
    required=False,
    type=click.Path(dir_okay=False, path_type=Path),
)
@click.option("--yes", is_flag=True, help="Do not ask; remove even most schedules at once.")
@pass_state
def command(state: State, plan_file: Path | None, yes: bool) -> None:
    """Bring the database to what the schedule files declare.

    PLAN was saved by `sched plan --out`: it is refused when the files or the schedules are others by now.
    """
    from cronqueue.audit import this_user
    from cronsched.manifests import in_force, place_of, put_in_force, still_in_force
    from cronsched.reconcile import apply, plan

    saved = None if plan_file is None else _read(plan_file)
    database, settings = state.open(), state.loaded.settings
    manifest = load_manifest(state)
    found = plan(database, manifest, settings, allow_removals=yes)
    if saved is not None:
        _check(saved, found)
    if not yes:
        _ask(found)
    place = place_of(state.loaded.folder / settings.schedules)
    put_in_force(database, manifest, settings.release, force=True, place=place)
    # With a fault in them they are not in force: what they have in good order is applied all the same.
    expected = manifest.hash if manifest.complete else in_force(database)
    done = apply(
        database,
        manifest,
        settings,
        allow_removals=yes,
        actor=this_user(),
        may_go_on=still_in_force(database, expected),
    )
    print_plan(state, done, database.server_now(), done=True)
    if done.faults:
        raise Exit(FAILED)
    if done.was_overtaken:
        say("other files came in force meanwhile: these are applied no further")
        raise Exit(PENDING)
    if done.is_unfinished:
        say("some jobs were being changed by somebody else: apply again for them")
        raise Exit(PENDING)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())["data"]
        return {"store": str(found["store"]), "manifest": str(found["manifest"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        refuse(f"{path} is no saved plan: `sched plan --out {path}` writes one")


def _check(saved: dict[str, Any], found: Plan) -> None:
    for what, expected, present in (
        ("the schedules in the database", saved["store"], found.store),
        ("the schedule files", saved["manifest"], found.manifest.hash),
    ):
        if expected != present:
            raise Exit(FAILED, f"{what} have changed since this plan was made: plan again")


def _ask(found: Plan) -> None:
    """Before schedules are removed."""
    removed = [effect.name for effect in found.effects if effect.kind == "remove"]
    if not removed:
        return
    question = f"Remove {counted(len(removed), 'schedule')} ({', '.join(removed)})?"
    if not sys.stdin.isatty():
        refuse(f"{question} Nobody can answer here: --yes does it, `sched plan` shows it")
    click.confirm(question, abort=True, err=True)
