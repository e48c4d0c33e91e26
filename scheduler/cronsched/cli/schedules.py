"""`sched schedules`."""

from __future__ import annotations

import json
from datetime import datetime

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.output import parse_time, print_fields, print_json, print_table, show_time


@click.group(cls=SchedGroup)
def command() -> None:
    """Schedules: declared in files, written ahead as jobs."""


@command.command("list")
@click.option("--all", "retired", is_flag=True, help="Retired ones too.")
@pass_state
def list_(state: State, retired: bool) -> None:
    """All schedules, the one that runs next first."""
    from cronsched import schedule_queries

    found = schedule_queries.list_schedules(state.open(), retired=retired)
    if state.as_json:
        print_json(found)
        return
    print_table(
        state,
        ("NAME", "WHEN", "NEXT", "LAST", "VERDICT", "STATE", "QUEUE", "PRIORITY"),
        [
            (
                each.name,
                each.words,
                each.next_run,
                each.last_run,
                each.last_verdict,
                each.state,
                each.queue,
                each.priority,
            )
            for each in found
        ],
    )


@command.command()
@click.argument("name")
@pass_state
def show(state: State, name: str) -> None:
    """One schedule with its definition and its next runs."""
    from cronsched import schedule_queries

    database = state.open()
    definition = json.loads(schedule_queries.find_definition(database, name).to_json())
    upcoming = [each.run_at for each in schedule_queries.next_occurrences(database, name, 5)]
    if state.as_json:
        print_json({"definition": definition, "next": upcoming})
        return
    print_fields(state, {key: value for key, value in definition.items() if value not in ([], {})})
    for moment in upcoming:
        click.echo(f"next  {show_time(state, moment)}")


@command.command("next")
@click.argument("name")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option("--from", "start", metavar="TIME", help="After this time; default now.")
@pass_state
def next_(state: State, name: str, count: int, start: str | None) -> None:
    """When a schedule runs next: planned times, before jitter."""
    from cronsched import schedule_queries

    moment = None if start is None else parse_time(state, start)
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

    moment = None if as_time is None else parse_time(state, as_time)
    database = state.open()
    job_id = schedule_queries.trigger(
        database, name, state.loaded.settings, actor=this_user(), as_time=moment
    )
    if state.as_json:
        print_json({"id": job_id})
    else:
        click.echo(f"job {job_id}")


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
    moment = utcnow() if start is None else parse_time(state, start)
    first = next_after(trigger, moment)
    found = (
        [] if first is None else list(islice(trigger.between(first, moment + SEARCH_LIMIT), count))
    )
    _print_instants(state, trigger.describe(), found)


def _print_instants(state: State, title: str, instants: list[datetime]) -> None:
    if state.as_json:
        print_json({"words": title, "next": instants})
        return
    click.echo(title)
    for moment in instants:
        click.echo(f"  {show_time(state, moment)}")
