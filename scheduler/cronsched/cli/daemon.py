"""`sched daemon`."""

from __future__ import annotations

from typing import Any

import click

from cronqueue.processes import ignore_hangup
from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import FAILED, OK
from cronsched.cli.output import print_json
from cronsched.cli.parameters import DURATION, LOG_FORMAT
from cronsched.cli.worker import set_up_logging


@click.command("daemon", cls=SchedCommand)
@click.option(
    "--horizon",
    type=DURATION,
    metavar="DURATION",
    help="How far ahead; default 24h.  [SCHED_HORIZON]",
)
@click.option("--once", is_flag=True, help="Load, apply, write, exit.")
@click.option("--dry-run", is_flag=True, help="Print what would change, exit.")
@click.option(
    "--no-apply", is_flag=True, help="Write on only; `sched apply` carries out what has changed."
)
@click.option("--name", help="Default host:pid.  [SCHED_NAME]")
@LOG_FORMAT
@click.option("--of-up", is_flag=True, hidden=True)
@pass_state
def command(
    state: State,
    once: bool,
    dry_run: bool,
    no_apply: bool,
    name: str | None,
    of_up: bool,
    **flags: Any,
) -> int:
    """Write the schedules' occurrences ahead, apply changed files.

    TERM or INT ends it; HUP loads the files again. Any number may run.
    """
    ignore_hangup()
    from cronqueue.database import shown
    from cronsched.cli.plan import print_plan
    from cronsched.daemon import Daemon, DaemonOptions, log
    from cronsched.reconcile import plan

    loaded = state.load(**flags)
    state.loaded = loaded
    set_up_logging(state, loaded.settings)
    database = state.open()
    if not of_up:  # which has said it
        log.info("database %s", shown(database.url))
    folder = loaded.folder / loaded.settings.schedules
    daemon = Daemon(database, DaemonOptions(loaded.settings, folder, name, applies=not no_apply))
    if dry_run:
        found = plan(database, daemon.load(), loaded.settings)
        print_plan(state, found, database.server_now())
        return FAILED if found.manifest.faults else OK
    code = daemon.run_once() if once else daemon.run()
    if state.as_json:
        print_json({"exit_code": code})
    return code
