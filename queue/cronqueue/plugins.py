"""What other packages of the installation add to a worker. The queue asks by entry point, and names nobody.

cronqueue.admission   the judge of the gate (`cronqueue.admission`)
cronqueue.sweep       functions of the database, called every few seconds by every worker
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

GROUPS = ("cronqueue.admission", "cronqueue.sweep")


@cache
def installed(group: str) -> tuple[Any, ...]:
    """The objects that the installation names for a group, by their names."""
    found = sorted(entry_points(group=group), key=lambda each: each.name)
    return tuple(each.load() for each in found)


def load_all() -> None:
    """Import what is named for any group. Raises what the imports raise."""
    for group in GROUPS:
        installed(group)
