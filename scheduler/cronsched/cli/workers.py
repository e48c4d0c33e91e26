"""`sched workers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedGroup, State, pass_state
from cronsched.cli.output import print_done, print_list

if TYPE_CHECKING:
    from cronqueue.overview import WorkerStatus


@click.group(cls=SchedGroup)
def command() -> None:
    """Processes that have been heard of: executors of workers, and daemons."""


@command.command("list")
@pass_state
def list_(state: State) -> None:
    """Who is there, and what each takes."""
    from cronqueue import overview

    print_list(
        state,
        overview.list_workers(state.open()),
        ("KIND", "NAME", "PID", "STATE", "RUNNING", "QUEUES", "PRIORITY", "HEARD OF"),
        lambda each: (
            each.kind,
            each.name,
            each.pid,
            _state(each),
            None if each.concurrency is None else f"{each.running or 0}/{each.concurrency}",
            each.queues or (each.exclude_queues and f"not {each.exclude_queues}") or "all",
            _band(each.min_priority, each.max_priority),
            each.heartbeat_at,
        ),
    )


def _state(each: WorkerStatus) -> str:
    is_asked = each.drain_requested_at is not None and each.state != "draining"
    return f"{each.state}, asked to drain" if is_asked else each.state


def _band(least: int | None, most: int | None) -> str:
    if least is None and most is None:
        return "all"
    return f"{'' if least is None else least}..{'' if most is None else most}"


@command.command()
@click.argument("worker", metavar="ID|NAME")
@pass_state
def drain(state: State, worker: str) -> None:
    """Ask a worker to take no more jobs, end what runs, and leave.

    It hears that with its next heartbeat, within 5 s, and then does what it does at TERM: unstarted jobs go
    back unspent, running ones have its --shutdown-timeout. There is no way back. A service manager that
    restarts it starts a fresh one, which takes jobs; `sched up` ends with its worker. A name is that of the
    whole worker, and of all workers that bear it; the id of an executor stands for its worker alone
    (`sched workers list --json`).
    """
    from cronqueue.audit import this_user
    from cronqueue.registration import ask_to_drain

    name = ask_to_drain(state.open(), worker, actor=this_user())
    print_done(state, f"worker {name} is asked to drain", {"name": name, "drain_requested": True})
