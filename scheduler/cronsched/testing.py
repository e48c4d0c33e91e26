"""Testing schedules: a day of them in a moment. With pytest, ask for the fixture `sched_simulate`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from cronqueue.durations import parse_duration
from cronqueue.errors import RunAtError
from cronqueue.registry import Duration
from cronqueue.settings import load_settings
from cronsched.loader import load_in_child
from cronsched.simulation import Simulation, simulate


def simulate_files(
    start: datetime,
    span: Duration = "1d",
    *,
    places: int | None = None,
    durations: Mapping[str, Duration] | None = None,
    folder: Path | str | None = None,
) -> Simulation:
    """Play what the schedule files declare from `start` on, on a clock that does not wait.

    `places`: how many jobs run at a time, by default those of one worker with these settings. `durations`
    by task; 1 s where none is given. Files with a fault, and durations of tasks that no schedule runs,
    raise AssertionError.
    """
    if start.utcoffset() is None:
        raise RunAtError(f"start {start.isoformat()} has no time zone: use an aware datetime")
    loaded = load_settings()
    settings = loaded.settings
    found = load_in_child(
        loaded.folder / (folder or settings.schedules), settings.imports, tz=settings.tz
    )
    if found.faults:
        raise AssertionError("\n".join(str(fault) for fault in found.faults))
    named = {name: parse_duration(value) for name, value in (durations or {}).items()}
    unknown = sorted(named.keys() - {each.task for each in found.schedules})
    if unknown:
        raise AssertionError(f"no schedule runs {', '.join(unknown)}")
    room = places or settings.places
    return simulate(found.schedules, start, start + parse_duration(span), room, named)
