"""`sched probe`: whether a service turns, told by its file alone."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import WRONG, Exit, refuse
from cronsched.cli.output import print_done
from cronsched.cli.parameters import DURATION


@click.command("probe", cls=SchedCommand)
@click.option(
    "--max-age",
    type=DURATION,
    default="2m",
    show_default=True,
    metavar="DURATION",
    help="How old the last sign of life may be.",
)
@pass_state
def command(state: State, max_age: timedelta) -> None:
    """Whether the daemon or worker with this SCHED_ALIVE_FILE turns; exit code 4 if not.

    Asks neither the database nor the user's code: an outage must not restart what is healthy.
    """
    named = state.loaded.settings.alive_file
    if named is None:
        refuse("set SCHED_ALIVE_FILE here and for the service: it is the file that is looked at")
    try:
        age = max(time.time() - Path(named).stat().st_mtime, 0.0)
    except OSError as error:
        raise Exit(WRONG, f"{named}: {error.strerror}") from None
    if age > max_age.total_seconds():
        raise Exit(WRONG, f"{named}: the last sign of life came {age:.0f} s ago")
    print_done(state, f"alive {age:.0f} s ago", {"age": round(age, 1)})
