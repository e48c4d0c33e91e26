"""`sched config`: the settings in force."""

from __future__ import annotations

import sys
from dataclasses import fields

import click

from cronqueue.setting_values import LEAST_SECRET, ROLES
from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.exits import refuse, say
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
        if each.name in SECRETS and value:
            value = "***"
        rows.append((each.name, value, loaded.origins[each.name]))
    if state.as_json:
        print_json(
            [{"name": name, "value": value, "origin": origin} for name, value, origin in rows]
        )
        return
    print_table(state, ("SETTING", "VALUE", "FROM"), [(n, _text(v), o) for n, v, o in rows])


@command.command()
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(ROLES), help="What this user may do.")
@click.option("--token", "is_token", is_flag=True, help="Make a token for a program.")
@pass_state
def credential(state: State, name: str, role: str, is_token: bool) -> None:
    """What to write into `web_users` for NAME: a digest of a password, or of a new token.

    The password is asked for, or is the first line of standard input. Nothing is stored.
    """
    from cronsched.credentials import keep_password, keep_token, new_token

    if not (name.isprintable() and name.strip() == name != "") or set(name) & set(",:="):
        refuse("a name is printable, and has no comma, colon or equals sign")
    token = new_token() if is_token else None
    kept = keep_password(_asked_password()) if token is None else keep_token(token)
    entry = f"{name}={role}:{kept}"
    if state.as_json:
        print_json({"entry": entry, "token": token})
        return
    click.echo(entry)
    if token is not None:
        say(f"the token, shown this once: {token}")
    say("add it to SCHED_WEB_USERS, entries separated by commas, or to the table [web_users]")


def _asked_password() -> str:
    if sys.stdin.isatty():
        found: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        found = sys.stdin.readline().rstrip("\n")
    if len(found) < LEAST_SECRET:
        refuse(f"a password has at least {LEAST_SECRET} characters")
    return found


def _text(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value
