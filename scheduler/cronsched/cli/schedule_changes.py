"""`sched schedules add | remove`: schedules that no file declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import refuse
from cronsched.cli.output import parse_time, print_done, show_time
from cronsched.cli.parameters import DURATION, JSON_LIST, JSON_OBJECT

if TYPE_CHECKING:
    from cronsched.timing import Timing

_OVERLAPS = ("skip", "queue_one", "queue_all", "allow", "cancel_running")
_CATCH_UPS = ("latest", "all", "none")
_KINDS = ("cron", "every", "after", "daily", "at")


@click.command("add", cls=SchedCommand)
@click.argument("name")
@click.argument("task")
@click.option("--cron", metavar="EXPR", help="By a cron expression; --tz is its zone.")
@click.option("--every", type=DURATION, metavar="DURATION", help="After each stretch: 90s, 5m.")
@click.option(
    "--after", type=DURATION, metavar="DURATION", help="So long after the run before has ended."
)
@click.option("--daily", multiple=True, metavar="HH:MM", help="Every day then; repeatable.")
@click.option("--at", multiple=True, metavar="TIME", help="Once at this time; repeatable.")
@click.option("--args", type=JSON_LIST, metavar="JSON", help="Positional arguments.")
@click.option("--kwargs", type=JSON_OBJECT, metavar="JSON", help="Named arguments.")
@click.option("--priority", type=int, help="Higher runs first; default: the task's, or 0.")
@click.option("--queue", help="Default: the task's.")
@click.option("--max-attempts", type=int)
@click.option("--timeout", type=DURATION, metavar="DURATION", help="For each attempt.")
@click.option("--jitter", type=DURATION, metavar="DURATION", help="Delay each by up to this.")
@click.option("--overlap", type=click.Choice(_OVERLAPS), help="While one still runs.")
@click.option("--catch-up", type=click.Choice(_CATCH_UPS), help="Which of those that are late run.")
@click.option(
    "--start-within", type=DURATION, metavar="DURATION", help="Not worth starting later than this."
)
@click.option("--start", metavar="TIME", help="No occurrence before.")
@click.option("--end", metavar="TIME", help="No occurrence after.")
@click.option("--description", help="Shown in lists.")
@pass_state
def _add(state: State, name: str, task: str, **chosen: Any) -> None:
    """Give TASK a schedule of this NAME, or change the one that was added so.

    \b
    sched schedules add welcome.seven mail.welcome --args '[7]' --daily 09:00 --tz Europe/London
    sched schedules add sync.slow sync.run --after 5m --priority 3
    """
    from cronqueue.registry import find_task
    from cronsched import dynamic
    from cronsched.cli.enqueue import unknown_task

    for option in ("start", "end"):
        if chosen[option] is not None:
            chosen[option] = parse_time(state, f"--{option}", chosen[option])
    timing = _timing(state, {kind: chosen.pop(kind) for kind in _KINDS})
    options = {option: value for option, value in chosen.items() if value is not None}
    if state.flags.get("tz"):
        options["tz"] = state.flags["tz"]
    state.load_tasks()
    if (found := find_task(task)) is None:
        refuse(unknown_task(task))
    state.open()
    done = dynamic.add_schedule(found, timing, name=name, **options)
    row = dynamic.get_schedule(name)
    next_run = None if row is None else row.next_run
    when = "no run lies ahead" if next_run is None else f"next {show_time(state, next_run)}"
    print_done(
        state,
        f"schedule {name}: {done}, {when}",
        {"name": name, "result": done, "next_run": next_run},
    )


def _timing(state: State, given: dict[str, Any]) -> Timing:
    """The one kind of times that was given."""
    from cronsched import declare

    kinds = [kind for kind, value in given.items() if value]
    if len(kinds) != 1:
        listed = ", ".join(f"--{kind}" for kind in _KINDS)
        refuse(f"say when, in one way: one of {listed}")
    value = given[kinds[0]]
    match kinds[0]:
        case "cron":
            return declare.cron(value)
        case "every":
            return declare.every(value)
        case "after":
            return declare.after(value)
        case "daily":
            return declare.daily(at=value)
        case _:
            return declare.at_times([parse_time(state, "--at", each) for each in value])


@click.command("remove", cls=SchedCommand)
@click.argument("name")
@pass_state
def _remove(state: State, name: str) -> None:
    """Take away a schedule that was added so, with its waiting jobs."""
    from cronsched import dynamic

    state.open()
    dynamic.remove_schedule(name)
    print_done(state, f"schedule {name} is removed", {"name": name, "removed": True})


CHANGES = (_add, _remove)
