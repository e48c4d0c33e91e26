"""Every wrong variant of the protocol is caught: a simulation that misses one proves little."""

from __future__ import annotations

import pytest

from simulation.mutants import MUTANTS, Mutant, mutated
from simulation.scenario import draw
from simulation.stage import play

# The code may change, and with it what a seed comes to: then another one has to catch the mutant.
MOST_SEEDS = 40


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_the_simulation_catches(mutant: Mutant) -> None:
    seeds = [mutant.seed, *range(MOST_SEEDS)]
    with mutated(mutant):
        assert any(play(draw(mutant.kind, seed), stops_early=True).violations() for seed in seeds)


def test_the_simulation_finds_nothing_wrong_with_the_right_code() -> None:
    for mutant in MUTANTS[::6]:
        assert not play(draw(mutant.kind, mutant.seed)).violations()
