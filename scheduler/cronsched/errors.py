"""Sentences that several modules say when something is not there."""

from __future__ import annotations


def no_such_schedule(name: str) -> LookupError:
    """To be raised where a schedule of that name is asked for."""
    return LookupError(f"there is no schedule {name!r}: `sched schedules list` shows them")
