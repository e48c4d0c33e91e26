"""cronsched: recurring schedules, written ahead as jobs of cronqueue.

from cronsched import daily

@daily(at="07:30", tz="Europe/London")
def report() -> None: ...
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cronsched.declare import (
        after,
        at_times,
        calendar,
        calendar_every,
        cron,
        daily,
        every,
        hourly,
        monthly,
        on,
        schedule,
        union,
        weekly,
    )
    from cronsched.dynamic import add_schedule, get_schedule, list_schedules, remove_schedule

_OF_DYNAMIC = ("add_schedule", "get_schedule", "list_schedules", "remove_schedule")

__all__ = [
    "add_schedule",
    "after",
    "at_times",
    "calendar",
    "calendar_every",
    "cron",
    "daily",
    "every",
    "get_schedule",
    "hourly",
    "list_schedules",
    "monthly",
    "on",
    "remove_schedule",
    "schedule",
    "union",
    "weekly",
]


def __getattr__(name: str) -> Any:
    """Import on first use: `sched --help` is in this package too, and needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _OF_DYNAMIC:
        from cronsched import dynamic

        return getattr(dynamic, name)
    from cronsched import declare

    return getattr(declare, name)
