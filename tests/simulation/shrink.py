"""A failing scenario made short: steps are left out as long as the same thing goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection

from simulation.scenario import Scenario
from simulation.stage import play


def shrink(scenario: Scenario, most_plays: int = 60) -> list[int]:
    """The numbers of the steps that it takes."""
    wrong = _what_is_wrong(scenario)
    plays = 0

    def is_needed(left_out: Collection[int]) -> bool:
        nonlocal plays
        plays += 1
        return not wrong & _what_is_wrong(scenario.without(left_out))

    left_out: set[int] = set()
    for width in (8, 4, 2, 1, 1):
        left_out = _leave_out(
            len(scenario.steps), left_out, width, is_needed, lambda: plays >= most_plays
        )
    return [number for number in range(len(scenario.steps)) if number not in left_out]


def _leave_out(
    length: int,
    left_out: set[int],
    width: int,
    is_needed: Callable[[Collection[int]], bool],
    is_tired: Callable[[], bool],
) -> set[int]:
    """Try to do without so many neighbours at once, from the last ones on."""
    kept = [number for number in range(length) if number not in left_out]
    for start in range(len(kept) - width, -1, -width):
        tried = left_out | set(kept[start : start + width])
        if is_tired():
            break
        if not is_needed(tried):
            left_out = tried
    return left_out


def _what_is_wrong(scenario: Scenario) -> set[str]:
    return {name for name, _ in play(scenario, stops_early=True).violations()}
