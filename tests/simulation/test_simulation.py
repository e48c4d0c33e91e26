"""A share of the simulation: some seeds of each kind, and that a seed is played the same again."""

from __future__ import annotations

import pytest

from simulation.scenario import KINDS, draw
from simulation.stage import play

SEEDS = 2


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_befalls_them_the_services_keep_their_promises(kind: str, seed: int) -> None:
    violations = play(draw(kind, seed)).violations()
    assert not violations, f"make simulate REPLAY={kind}/{seed}\n{violations[0]}"


def test_a_seed_is_played_the_same_again() -> None:
    stories = [[str(event) for event in play(draw("workers", 1)).history] for _ in range(2)]
    assert stories[0] == stories[1]
