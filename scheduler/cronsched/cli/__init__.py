"""The command `sched`. Commands are imported when they are called: help and completion are instant."""

from __future__ import annotations

import io
import os
import signal
import sys

import click

from cronqueue.version import __version__
from cronsched.cli.base import Lazy, Sched
from cronsched.cli.exits import Terminated

COMMANDS = {
    "up": Lazy("up", "Schema, daemon, worker and web together, for development and small sites"),
    "daemon": Lazy("daemon", "Write the schedules' occurrences ahead, apply changed files"),
    "worker": Lazy("worker", "Run due jobs; higher priority runs first"),
    "enqueue": Lazy("enqueue", "Store a job for a task"),
    "run": Lazy("run", "Run a task here and now, without the queue"),
    "jobs": Lazy("jobs", "List, show, retry, cancel, delete jobs"),
    "schedules": Lazy(
        "schedules", "List, show, pause, trigger, backfill schedules; explain expressions"
    ),
    "plan": Lazy("plan", "What the schedule files would change"),
    "apply": Lazy("apply", "Bring the database to what the schedule files declare"),
    "queues": Lazy("queues", "List, pause, resume queues"),
    "workers": Lazy("workers", "List workers and daemons"),
    "stats": Lazy("stats", "The whole at a glance"),
    "top": Lazy("top", "Queues, workers and jobs on a live screen"),
    "explain": Lazy("explain", "Why a job does not run, or why it ran when it did"),
    "check": Lazy("check", "What is wrong with schedules and queue"),
    "doctor": Lazy(
        "doctor", "Whether database, clock, zones, versions and workers are as they should be"
    ),
    "probe": Lazy("probe", "Whether a daemon or worker turns, without asking the database"),
    "audit": Lazy("audit", "Whether every promised occurrence has its verdict"),
    "alerts": Lazy("alerts", "What was told of failures, whether it arrived; test a channel"),
    "timeline": Lazy("timeline", "What ran and what will run, a line for each schedule"),
    "forecast": Lazy("forecast", "Whether the workers can carry what comes"),
    "simulate": Lazy("simulate", "What the schedules will do to the workers"),
    "web": Lazy("web", "Dashboard and API"),
    "db": Lazy("db", "The schema: upgrade, current, check, sql, prune"),
    "import": Lazy("importing", "Make a schedule file of a crontab"),
    "init": Lazy("init", "Write a settings file and a first schedule"),
    "config": Lazy("config", "The settings in force, and where each comes from"),
    "completion": Lazy("completion", "Print the completion script for a shell"),
    "version": Lazy("version", "Print the version"),
}


@click.group(cls=Sched, lazy=COMMANDS)
@click.version_option(__version__, message="cronqueue %(version)s")
def sched() -> None:
    """Recurring schedules and a job queue in one service.

    \b
    sched up                    everything in one terminal
    sched daemon                write the schedules' occurrences ahead
    sched worker                run what is due
    sched jobs list             look at the queue
    """


def main() -> None:
    """The console script."""
    signal.signal(signal.SIGTERM, _terminate)
    _occupy_standard_streams()
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show ends nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sched.main()


def _occupy_standard_streams() -> None:
    """Where one is closed, the next connection would get its number, and all that is printed there."""
    opened = os.open(os.devnull, os.O_RDWR)
    while opened < 3:
        os.set_inheritable(opened, True)
        opened = os.open(os.devnull, os.O_RDWR)
    os.close(opened)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "r" if number == 0 else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _terminate(number: int, frame: object) -> None:
    raise Terminated
