"""`sched stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.output import counted, print_fields, print_json

if TYPE_CHECKING:
    from cronqueue.overview import Percentiles


@click.command("stats", cls=SchedCommand)
@pass_state
def command(state: State) -> None:
    """Counts by state, throughput, waits and durations."""
    from cronqueue import overview

    found = overview.stats(state.open())
    if state.as_json:
        print_json(found)
        return
    print_fields(
        state,
        {
            **{name: count for name, count in found.by_state.items() if count},
            "due now": found.due,
            "oldest due": found.oldest_due,
            "last hour": _counts(found.last_hour),
            "last day": _counts(found.last_day),
            "wait": _percentiles(found.wait),
            "run": _percentiles(found.run),
            "workers": f"{counted(found.workers, 'executor')} with {counted(found.places, 'place')}",
        },
    )


def _counts(counts: object) -> str:
    assert isinstance(counts, dict)
    return (
        ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing ended"
    )


def _percentiles(found: Percentiles | None) -> str | None:
    from cronqueue.durations import format_rough

    if found is None:
        return None
    p50, p95, p99 = (format_rough(each) for each in (found.p50, found.p95, found.p99))
    return f"p50 {p50}, p95 {p95}, p99 {p99} of {counted(found.count, 'job')}"
