"""Charts as rectangles in a box of their own units; templates draw them as SVG. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

HEIGHT = 40
# Of a bar's place, what stays free beside it.
_GAP = 0.22


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle, what it stands for, and what a closer look tells."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All bars, the size of their box, and the highest value in it."""

    bars: tuple[Bar, ...]
    width: float
    height: float
    highest: int


def hourly(counts: Sequence[int], start: datetime, kind: str) -> Chart:
    """One column for each hour."""
    hour = timedelta(hours=1)
    found = {start + number * hour: {kind: count} for number, count in enumerate(counts) if count}
    return stacked(found, start, hour, len(counts), (kind,))


def stacked(
    counts: Mapping[datetime, Mapping[str, int]],
    start: datetime,
    step: timedelta,
    steps: int,
    kinds: Sequence[str],
) -> Chart:
    """One column for each step, its kinds upon one another; an empty one leaves a mark on the ground."""
    highest = max((sum(each.values()) for each in counts.values()), default=0)
    bars: list[Bar] = []
    for number in range(steps):
        at = start + number * step
        found = counts.get(at, {})
        title = f"{at:%H:%M}: " + (
            ", ".join(f"{found[k]} {k}" for k in kinds if found.get(k)) or "nothing"
        )
        bars.append(Bar("base", number, HEIGHT - 0.5, 1 - _GAP, 0.5, title))
        top = float(HEIGHT)
        for kind in kinds:
            if count := found.get(kind, 0):
                height = max(count / highest * HEIGHT, 1.0)
                top -= height
                bars.append(Bar(kind, number, round(top, 2), 1 - _GAP, round(height, 2), title))
    return Chart(tuple(bars), steps, HEIGHT, highest)
