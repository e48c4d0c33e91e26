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
@click.argument("question", type=click.Choice(["live", "ready"]), default="live")
@pass_state
def command(state: State, question: str, max_age: timedelta) -> None:
    """Whether the daemon or worker with this SCHED_ALIVE_FILE turns; exit code 4 if not.

    "ready" asks more: that it has started, does not stop, and is in touch with the database. Neither asks the
    database or the user's code: an outage must not restart what is healthy.
    """
    from cronqueue.settings import load_settings

    named = load_settings().settings.alive_file
    if named is None:
        refuse("set SCHED_ALIVE_FILE here and for the service: it is the file that is looked at")
    try:
        word = Path(named).read_text(errors="replace").strip()
        age = max(time.time() - Path(named).stat().st_mtime, 0.0)
    except OSError as error:
        raise Exit(WRONG, f"{named}: {error.strerror}") from None
    if age > max_age.total_seconds():
        raise Exit(WRONG, f"{named}: the last sign of life came {age:.0f} s ago")
    if question == "ready" and word != "ready":
        raise Exit(WRONG, "it is alive, and not ready: it starts, stops, or waits for the database")
    print_done(state, f"{word or 'alive'}, {age:.0f} s ago", {"state": word, "age": round(age, 1)})
