"""`sched worker`."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from cronqueue.processes import ignore_hangup
from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.output import print_json
from cronsched.cli.parameters import DURATION, LOG_FORMAT

if TYPE_CHECKING:
    from cronqueue.settings import Settings


@click.command("worker", cls=SchedCommand)
@click.option("--queues", metavar="A,B", help="Only these.  [SCHED_QUEUES, QUEUES, QUEUE]")
@click.option("--exclude-queues", metavar="A,B", help="All but these.  [SCHED_EXCLUDE_QUEUES]")
@click.option(
    "--pool",
    "pools",
    metavar="QUEUE:N",
    multiple=True,
    help="A queue with N places of its own; repeatable. Others only with --queues.  [SCHED_POOLS]",
)
@click.option(
    "--concurrency", type=int, help="Jobs at a time in each process.  [SCHED_CONCURRENCY]"
)
@click.option("--processes", type=int, help="Executor processes.  [SCHED_PROCESSES]")
@click.option(
    "--min-priority",
    type=int,
    help="At least this; higher runs first.  [SCHED_MIN_PRIORITY, MIN_PRIORITY]",
)
@click.option("--max-priority", type=int, help="At most this.  [SCHED_MAX_PRIORITY, MAX_PRIORITY]")
@click.option("--burst", is_flag=True, help="Exit when nothing is due.")
@click.option("--max-jobs", type=click.IntRange(1), help="Exit after this many.")
@click.option(
    "--lease",
    type=DURATION,
    metavar="DURATION",
    help="When others take a dead worker's jobs.  [SCHED_LEASE]",
)
@click.option(
    "--shutdown-timeout",
    type=DURATION,
    metavar="DURATION",
    help="After TERM.  [SCHED_SHUTDOWN_TIMEOUT]",
)
@click.option("--name", help="Default host:pid.  [SCHED_NAME]")
@click.option("--tags", metavar="K=V,...", help="Labels.  [SCHED_TAGS]")
@LOG_FORMAT
@click.option("--of-up", is_flag=True, hidden=True)
@pass_state
def command(
    state: State,
    burst: bool,
    max_jobs: int | None,
    pools: tuple[str, ...],
    of_up: bool,
    **flags: Any,
) -> int:
    """Run due jobs: higher priority first, then the earlier run_at, then the lower id.

    TERM or INT: nothing new, running jobs may end; a second one interrupts them. HUP: new code.
    """
    ignore_hangup()
    from cronqueue.registration import default_name
    from cronqueue.worker import Worker

    loaded = state.load(delayed_job_names=True, pools=pools or None, **flags)
    set_up_logging(state, loaded.settings, loaded.settings.name or default_name())
    sys.path.insert(0, os.getcwd())
    worker = Worker(burst=burst, max_jobs=max_jobs, loaded=loaded)
    # `sched up` has said it.
    worker.says_database = not of_up
    worker.is_alone = True
    code = worker.run()
    if state.as_json:
        print_json({"exit_code": code})
    return code


def set_up_logging(state: State, settings: Settings, name: str | None = None) -> None:
    """Errors only; or what services do; or the end of every job too. `name` is the worker's."""
    from cronqueue.logs import log_to

    level = logging.ERROR if settings.quiet else logging.INFO
    jobs = logging.INFO if state.verbose else max(level, logging.WARNING)
    log_to(level, jobs, settings.log_format, name)
