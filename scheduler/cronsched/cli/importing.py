"""`sched import`: schedules that stood elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.exits import FAILED, NO_MATCH, Exit, refuse, say
from cronsched.cli.output import counted, print_done, print_json

# Crontabs in these have a column for the user.
_OF_THE_SYSTEM = ("/etc/crontab", "/etc/cron.d/")


@click.group(cls=SchedGroup)
def command() -> None:
    """Make a schedule file of what another scheduler has."""


@command.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: standard output."
)
@click.option(
    "--user-column/--no-user-column",
    default=None,
    help="Whether the sixth word is a user; default: for /etc/crontab and /etc/cron.d.",
)
@click.option("--tz", metavar="ZONE", help="Of lines without CRON_TZ; default: this machine's.")
@pass_state
def crontab(
    state: State, file: IO[bytes], out: Path | None, user_column: bool | None, tz: str
) -> int:
    """Make a schedule file of a crontab; - reads standard input.

    crontab -l | sched import crontab - --out schedules/crontab.py

    What cannot be carried over is told with its line: exit code 1 if that is an entry.
    """
    from cronsched.crontab_code import code_of
    from cronsched.crontabs import read_crontab
    from cronsched.timezones import check_zone

    zone = tz or _zone_of_the_machine()
    check_zone(zone)
    if out is not None and out.exists():
        refuse(f"{out} is there already")
    named = str(getattr(file, "name", "-"))
    origin = named if named not in ("-", "<stdin>") else "standard input"
    if user_column is None:
        user_column = os.path.realpath(origin).startswith(_OF_THE_SYSTEM)
    text = file.read().decode("utf-8", errors="surrogateescape")
    found = read_crontab(text, has_users=user_column)
    for each in found.remarks:
        say(f"line {each.line}: {each.words}: {each.text}")
    if not found.entries:
        raise Exit(NO_MATCH, f"{origin}: no line that can be carried over")
    code = code_of(found, origin=origin, tz=zone)
    count = counted(len(found.entries), "schedule")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(code, encoding="utf-8")
    if state.as_json:
        print_json({"schedules": len(found.entries), "remarks": found.remarks, "code": code})
    elif out is not None:
        print_done(state, f"wrote {out}: {count}, in {zone} unless a line says otherwise", None)
    else:
        click.echo(code, nl=False)
    return FAILED if any(each.is_entry for each in found.remarks) else 0


def _zone_of_the_machine() -> str:
    """The zone that cron would have taken; UTC where the machine names none."""
    linked = os.path.realpath("/etc/localtime").rpartition("/zoneinfo/")[2]
    return linked if linked and not linked.startswith("/") else "UTC"
