"""cronsched: recurring schedules, written ahead as jobs of cronqueue.

from cronsched import daily

@daily(at="07:30", tz="Europe/London")
def report() -> None: ...
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cronsched.declare import cron, daily, every, hourly, monthly, on, schedule, weekly

__all__ = ["cron", "daily", "every", "hourly", "monthly", "on", "schedule", "weekly"]


def __getattr__(name: str) -> Any:
    """Import on first use: `sched --help` is in this package too, and needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cronsched import declare

    return getattr(declare, name)
