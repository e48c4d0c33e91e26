"""`sched schedules`."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.exits import clean
from cronsched.cli.output import (
    parse_time,
    print_done,
    print_fields,
    print_json,
    print_list,
    show_time,
)
from cronsched.cli.schedule_acts import ACTS
from cronsched.cli.schedule_changes import CHANGES

if TYPE_CHECKING:
    from cronsched.definition import Definition
    from cronsched.overrides import Override
    from cronsched.schedule_queries import Standing


@click.group(cls=SchedGroup)
def command() -> None:
    """Schedules: declared in files, written ahead as jobs."""


for act in (*ACTS, *CHANGES):
    command.add_command(act)


@command.command("list")
@click.option("--all", "retired", is_flag=True, help="Retired ones too.")
@pass_state
def list_(state: State, retired: bool) -> None:
    """All schedules, the one that runs next first."""
    from cronsched import schedule_queries

    print_list(
        state,
        schedule_queries.list_schedules(state.open(), retired=retired),
        ("NAME", "WHEN", "NEXT", "LAST", "VERDICT", "STATE"),
        lambda each: (
            each.name,
            each.words,
            each.next_run,
            each.last_run,
            each.last_verdict,
            each.state,
        ),
    )


@command.command()
@click.argument("name")
@pass_state
def show(state: State, name: str) -> None:
    """One schedule with its definition and its next runs; -v for every option."""
    from cronsched import overrides, schedule_queries
    from cronsched.triggers import OpaqueTrigger

    database = state.open()
    definition = schedule_queries.find_definition(database, name)
    standing = schedule_queries.find_standing(database, name)
    decided = overrides.list_overrides(database, name)
    try:
        found = schedule_queries.next_occurrences(database, name, 5)
    except OpaqueTrigger:
        found = ()  # only the process that loads its file can tell
    upcoming = [each.run_at for each in found]
    if state.as_json:
        made = json.loads(definition.to_json())
        print_json(
            {"definition": made, "next": upcoming, "standing": standing, "overrides": decided}
        )
        return
    told = _told(definition, everything=state.verbose)
    print_fields(state, told | _told_standing(state, standing))
    for moment in upcoming:
        click.echo(f"next  {show_time(state, moment)}")
    for each in decided:
        click.echo(clean(f"decided  {_told_override(state, each)}"))


def _told(definition: Definition, *, everything: bool) -> dict[str, Any]:
    """What tells this schedule from others; the options that it has left alone are no news."""
    place = (
        definition.source if definition.line is None else f"{definition.source}:{definition.line}"
    )
    told: dict[str, Any] = {
        "schedule": definition.name,
        "when": definition.trigger.describe(),
        "task": definition.task,
        "declared in": place,
    }
    for each in fields(definition):
        value = getattr(definition, each.name)
        if each.name not in _UNTOLD and (everything or value != each.default):
            told[each.name.removesuffix("_json").replace("_", " ")] = value or "no"
    return told


_UNTOLD = ("name", "trigger", "task", "source", "line", "on_missed_queue")


def _told_standing(state: State, standing: Standing) -> dict[str, Any]:
    """The pause, as long as there is one, and which revision is in force until when it is written."""
    told: dict[str, Any] = {
        "revision": standing.revision,
        "written to": standing.covered_until,
        "retired": standing.retired_at,
    }
    if standing.paused_at is not None:
        who = f"by {standing.paused_by or 'somebody'}, {show_time(state, standing.paused_at)}"
        told["paused"] = f"{who}: {standing.paused_reason}" if standing.paused_reason else who
        told["paused until"] = standing.paused_until or "it is resumed"
    return told


def _told_override(state: State, each: Override) -> str:
    """One decision about one occurrence."""
    parts = [show_time(state, each.planned_for), each.action]
    if each.run_at is not None:
        parts.append(f"to {show_time(state, each.run_at)}")
    if each.priority is not None:
        parts.append(f"priority {each.priority}")
    parts.append(f"by {each.actor or 'somebody'}")
    return " ".join(parts) + (f": {each.reason}" if each.reason else "")


@command.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@pass_state
def history(state: State, name: str, limit: int) -> None:
    """What became of a schedule's occurrences, the newest first."""
    from cronsched import schedule_queries

    print_list(
        state,
        schedule_queries.history(state.open(), name, limit),
        ("PLANNED FOR", "VERDICT", "JOB"),
        lambda each: (each.planned_for, each.verdict, each.job_id),
    )


@command.command()
@click.argument("name")
@pass_state
def revisions(state: State, name: str) -> None:
    """The times that a schedule has had, and from when until when, the newest first."""
    from cronsched.revisions import list_revisions

    print_list(
        state,
        list_revisions(state.open(), name),
        ("REVISION", "KIND", "FROM", "UNTIL", "WHEN"),
        lambda each: (each.revision, each.kind, each.valid_from, each.valid_until, each.words),
    )


@command.command("next")
@click.argument("name")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option("--from", "start", metavar="TIME", help="After this time; default now.")
@pass_state
def next_(state: State, name: str, count: int, start: str | None) -> None:
    """When a schedule runs next: planned times, before jitter."""
    from cronsched import schedule_queries

    moment = None if start is None else parse_time(state, "--from", start)
    found = schedule_queries.next_occurrences(state.open(), name, count, moment)
    _print_instants(state, name, [each.planned_for for each in found])


@command.command()
@click.argument("name")
@click.option("--as", "as_time", metavar="TIME", help="The planned time that the job sees.")
@pass_state
def trigger(state: State, name: str, as_time: str | None) -> None:
    """Run a schedule's task now; its own times stay as they are."""
    from cronqueue.audit import this_user
    from cronsched import schedule_queries

    moment = None if as_time is None else parse_time(state, "--as", as_time)
    database = state.open()
    job_id = schedule_queries.trigger(
        database, name, state.loaded.settings, actor=this_user(), as_time=moment
    )
    print_done(state, f"job {job_id}", {"id": job_id})


@command.command()
@click.argument("expression")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=5, show_default=True)
@click.option("--from", "start", metavar="TIME", help="After this time; default now.")
@pass_state
def explain(state: State, expression: str, count: int, start: str | None) -> None:
    """A cron expression in words, with its next times; --tz is its zone. Needs no database."""
    from itertools import islice

    from cronqueue.clock import utcnow
    from cronsched.triggers import SEARCH_LIMIT, cron_trigger, next_after

    trigger = cron_trigger(expression, tz=state.flags.get("tz") or "UTC")
    moment = utcnow() if start is None else parse_time(state, "--from", start)
    first = next_after(trigger, moment)
    found = (
        [] if first is None else list(islice(trigger.between(first, moment + SEARCH_LIMIT), count))
    )
    _print_instants(state, trigger.describe(), found)


def _print_instants(state: State, title: str, instants: list[datetime]) -> None:
    if state.as_json:
        print_json({"words": title, "next": instants})
        return
    click.echo(clean(title))
    for moment in instants:
        click.echo(f"  {show_time(state, moment)}")
