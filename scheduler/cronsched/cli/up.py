"""`sched up`: daemon, worker and web page in one terminal."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from cronqueue.errors import CronqueueError
from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.browser import open_when_there
from cronsched.cli.exits import FAILED, say
from cronsched.cli.output import print_table
from cronsched.cli.parameters import LOG_FORMAT
from cronsched.cli.worker import set_up_logging

if TYPE_CHECKING:
    from cronqueue.database import Database

log = logging.getLogger("cronsched.up")

_LOOK_PERIOD = 0.5
# A launcher such as timeout(1) sends a signal to us and to our process group: within this it is one.
_SAME_SIGNAL = 0.05
_SHOWN = 10
_PR_SET_PDEATHSIG = 1


@click.command("up", cls=SchedCommand)
@click.option("--port", type=click.IntRange(1, 65_535), help="Of the web page.  [SCHED_PORT]")
@click.option("--no-web", is_flag=True, help="Without the web page.")
@click.option("--open", "shows_page", is_flag=True, help="Show the web page in a browser.")
@LOG_FORMAT
@pass_state
def command(
    state: State, port: int | None, no_web: bool, shows_page: bool, log_format: str | None
) -> int:
    """Bring up the schema, a daemon, a worker and the web page. Ctrl-C ends all; a second one at once."""
    from cronqueue import schema
    from cronqueue.database import shown
    from cronsched.cli.web import missing_packages

    state.loaded = state.load(log_format=log_format)
    set_up_logging(state, state.loaded.settings)
    database = state.open(check=False)
    schema.upgrade(database)
    if _in_json(state):
        log.info("database %s", shown(database.url))
    else:
        click.echo(f"database {shown(database.url)}")
    services = [
        _start(state, "daemon"),
        _start(state, "worker", *([] if state.quiet else ["--verbose"])),
    ]
    web = None
    if not no_web and missing_packages():
        _say(state, "no web page: pip install 'cronqueue[web]' brings it")
    elif not no_web:
        web = _start(state, "web", *(["--port", str(port)] if port else []))
        if shows_page:
            open_when_there(state.loaded.settings.host, port or state.loaded.settings.port)
    signals: list[int] = []
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), lambda number, frame: signals.append(number))
    return _watch(state, database, services, web, signals)


def _watch(
    state: State,
    database: Database,
    services: list[subprocess.Popen[bytes]],
    web: subprocess.Popen[bytes] | None,
    signals: list[int],
) -> int:
    """Until all have ended; says what comes next whenever the schedules have changed."""
    if web is not None:
        services.append(web)
    told: object = None
    failed = stopping = False
    ended_by = 0
    while any(service.poll() is None for service in services):
        if signals:
            if not stopping:
                time.sleep(_SAME_SIGNAL)
            ended_by = signals.pop()
            signals.clear()
            stopping = True
            _signal_all(services)
        elif not stopping and web is not None and web.poll() is not None:
            _say(
                state,
                "the web page has ended, the rest goes on; --port N or --no-web if its port is taken",
            )
            services.remove(web)
            web = None
        elif not stopping and any(service.poll() is not None for service in services):
            failed = stopping = True
            _say(state, "a service has ended by itself; the others are stopped")
            _signal_all(services)
        if not stopping and not _in_json(state):
            told = _tell_next(state, database, told)
        time.sleep(_LOOK_PERIOD)
    database.dispose()
    if failed:
        return FAILED
    return 128 + ended_by if any(service.returncode for service in services) else 0


def _start(state: State, name: str, *options: str) -> subprocess.Popen[bytes]:
    """One service in a process group of its own: the terminal's Ctrl-C reaches us alone."""
    flags = [each for each in state.as_arguments() if each not in ("--json", *options)]
    flags += ["--log-format", state.loaded.settings.log_format]
    command_line = [sys.executable, "-m", "cronsched.cli", name, "--of-up", *flags, *options]
    # No thread of ours runs yet, so a function between fork and exec is safe.
    return subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
        command_line,
        process_group=0,
        preexec_fn=_end_with_us(),  # noqa: PLW1509
    )


def _end_with_us() -> Callable[[], None] | None:
    """Should we be killed, the services stop in order."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal_all(services: list[subprocess.Popen[bytes]]) -> None:
    for service in services:
        if service.poll() is None:
            os.kill(service.pid, signal.SIGTERM)


def _in_json(state: State) -> bool:
    """Whether what is said is for programs."""
    return bool(state.loaded.settings.log_format == "json")


def _say(state: State, words: str) -> None:
    if _in_json(state):
        log.warning(words)
    else:
        say(words)


def _tell_next(state: State, database: Database, told: object) -> object:
    """Print what runs next, if the schedules are not those of which we told last."""
    from sqlalchemy.exc import DBAPIError

    from cronsched.schedule_queries import list_schedules, soonest

    try:
        rows = list_schedules(database)
    except (CronqueueError, DBAPIError):
        return told  # the services say that the database is away
    known = [(row.name, row.revision, row.state) for row in sorted(rows, key=lambda row: row.name)]
    if not rows or known == told:
        return told
    table = [(row.next_run, row.name, row.words) for row in soonest(rows, _SHOWN)]
    print_table(state, ("NEXT", "SCHEDULE", "WHEN"), table)
    return known
