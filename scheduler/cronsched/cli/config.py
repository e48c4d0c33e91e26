"""`sched config`: the settings in force."""

from __future__ import annotations

from dataclasses import fields

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.output import print_json, print_table


@click.group(cls=SchedGroup)
def command() -> None:
    """Settings: flag > SCHED_... in the environment > sched.toml or [tool.sched] > default."""


@command.command()
@pass_state
def show(state: State) -> None:
    """Every setting with its value and where that stands; passwords masked."""
    from cronqueue.database import parse_url, shown
    from cronqueue.settings import SECRETS, resolve_database_url

    loaded = state.loaded
    rows = []
    for each in fields(loaded.settings):
        value = getattr(loaded.settings, each.name)
        if each.name == "database_url":
            value = shown(parse_url(resolve_database_url(loaded)))
        if each.name in SECRETS and value is not None:
            value = "***"
        rows.append((each.name, value, loaded.origins[each.name]))
    if state.as_json:
        print_json(
            [{"name": name, "value": value, "origin": origin} for name, value, origin in rows]
        )
        return
    print_table(state, ("SETTING", "VALUE", "FROM"), [(n, _text(v), o) for n, v, o in rows])


def _text(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value
