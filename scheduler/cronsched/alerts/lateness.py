"""Whether a run is late: pure. `must_start_within` and `must_finish_by` tell; `start_within` gives up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from cronqueue.durations import format_duration
from cronsched.alerts.runs import Run
from cronsched.definition import Definition


@dataclass(frozen=True, slots=True)
class Fault:
    """What was promised and when that was broken."""

    what: Literal["start", "finish"]
    at: datetime
    words: str


# What was skipped, coalesced or cancelled was never to run; what was missed or has failed is told as that.
_RUNS = ("queued", "held", "running", "succeeded")


def late_since(made: Definition, run: Run, now: datetime, fresh: timedelta) -> Iterator[Fault]:
    """What the run has broken, unless it did so all the same longer than `fresh` ago."""
    if run.verdict not in _RUNS:
        return
    planned = run.moved_to or made.run_at(run.planned_for, None)
    if made.must_start_within is not None:
        limit = planned + made.must_start_within
        within = format_duration(made.must_start_within)
        began = run.began_at or run.ended_at
        if _is_broken(limit, began, now, fresh):
            verb = "has not started" if began is None else "started, but not"
            yield Fault("start", limit, f"{verb} within {within}")
    if made.must_finish_by is not None:
        limit = finish_limit(made, planned)
        if _is_broken(limit, run.ended_at, now, fresh):
            verb = "has not finished" if run.ended_at is None else "finished, but not"
            yield Fault("finish", limit, f"{verb} by {limit:%Y-%m-%d %H:%M:%S} UTC")


def finish_limit(made: Definition, planned: datetime) -> datetime:
    """So long after its time, or the next moment at which the schedule's clocks show that time of day."""
    by = made.must_finish_by
    assert by is not None
    if isinstance(by, timedelta):
        return planned + by
    zone = ZoneInfo(made.tz)
    local = planned.astimezone(zone)
    limit = datetime.combine(local.date(), time.fromisoformat(by), zone)
    if limit <= local:
        limit = datetime.combine(local.date() + timedelta(days=1), time.fromisoformat(by), zone)
    return limit.astimezone(planned.tzinfo)


def _is_broken(
    limit: datetime, happened_at: datetime | None, now: datetime, fresh: timedelta
) -> bool:
    if happened_at is None:
        return now >= limit
    return happened_at > limit and happened_at > now - fresh
