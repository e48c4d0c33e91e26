"""cronsched: recurring schedules, written ahead as jobs of cronqueue.

from cronsched import daily

@daily(at="07:30", tz="Europe/London")
def report() -> None: ...
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cronsched.declare import (
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

__all__ = [
    "at_times",
    "calendar",
    "calendar_every",
    "cron",
    "daily",
    "every",
    "hourly",
    "monthly",
    "on",
    "schedule",
    "union",
    "weekly",
]


def __getattr__(name: str) -> Any:
    """Import on first use: `sched --help` is in this package too, and needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cronsched import declare

    return getattr(declare, name)
