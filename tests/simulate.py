"""`make simulate`: plays seeds of the simulation, and tells the shortest story of each that fails.

make simulate SEEDS=1000                  so many seeds of each kind
make simulate SEEDS=1000 KINDS=leases     of one kind, or several
make simulate REPLAY=leases/17            one seed, its whole story
make simulate REPLAY=leases/17/0,3,4      with these of its steps only
make simulate MUTANTS=40                  every mutant, until a seed catches it: at most so many
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from simulation.mutants import MUTANTS, Mutant, mutated
from simulation.scenario import KINDS, Scenario, draw
from simulation.shrink import shrink
from simulation.stage import Played, play, template_folder


@dataclass(frozen=True)
class Seen:
    """What a seed has come to."""

    kind: str
    seed: int
    violations: tuple[str, ...]
    statements: int
    seconds: float
    faults: int


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--replay", default="")
    parser.add_argument("--mutants", type=int, default=0)
    chosen = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of texts are walked in an order that depends on it.
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    if chosen.replay:
        return _replay(*chosen.replay.split("/"))
    template_folder()  # here, and not in each of the processes
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        if chosen.mutants:
            hunted = partial(_hunt, chosen.mutants)
            return _report_mutants(zip(MUTANTS, pool.map(hunted, range(len(MUTANTS))), strict=True))
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        failed = [
            _report(kind, pool.map(partial(_see, kind), seeds)) for kind in chosen.kinds.split(",")
        ]
    return int(any(failed))


def _see(kind: str, seed: int) -> Seen:
    played = play(draw(kind, seed))
    wrong = tuple(f"{name}: {violation}" for name, violation in played.violations())
    faults = sum(
        step.act not in ("start_worker", "start_daemon", "enqueue")
        for step in played.scenario.steps
    )
    return Seen(kind, seed, wrong, played.statements, played.seconds, faults)


def _report(kind: str, seen: Iterable[Seen]) -> bool:
    """A line for the kind; whether a seed of it has failed."""
    began, failed, done = time.monotonic(), [], []
    for each in seen:
        done.append(each)
        if each.violations:
            failed.append(each)
            print(
                f"{kind}/{each.seed}: {len(each.violations)} violations, such as {each.violations[0]}",
                flush=True,
            )
    took = time.monotonic() - began
    hours = sum(each.seconds for each in done) / 3600
    statements, faults = sum(each.statements for each in done), sum(each.faults for each in done)
    print(
        f"{kind:10} {len(done)} seeds, {len(failed)} failed; {hours:.2f} virtual hours,"
        f" {faults} faults and acts, {statements} statements; {len(done) / took:.2f} seeds/s",
        flush=True,
    )
    if failed:
        scenario = draw(kind, failed[0].seed)
        print(f"\nmaking {kind}/{failed[0].seed} short ...", flush=True)
        _tell(scenario, shrink(scenario))
    return bool(failed)


def _replay(kind: str, seed: str, steps: str = "") -> int:
    scenario = draw(kind, int(seed))
    kept = [int(each) for each in steps.split(",")] if steps else [*range(len(scenario.steps))]
    return _tell(scenario, kept, whole=True)


def _tell(scenario: Scenario, kept: list[int], *, whole: bool = False) -> int:
    """The story of a scenario: its steps, what is wrong, what happened to the job concerned."""
    played = play(scenario.without(set(range(len(scenario.steps))).difference(kept)))
    numbers = ",".join(map(str, kept))
    print(f"\nmake simulate REPLAY={scenario.kind}/{scenario.seed}/{numbers}\n")
    print(*(step for step in played.scenario.steps), sep="\n")
    wrong = played.violations()
    print("\n", *(f"{name}: {violation}\n" for name, violation in wrong[:20]), sep="")
    print(*_story(played, None if whole or not wrong else wrong[0][1].job_id), sep="\n")
    return int(bool(wrong))


def _story(played: Played, job_id: int | None) -> list[str]:
    return [str(event) for event in played.history.story_of(job_id)]


def _hunt(most_seeds: int, number: int) -> tuple[int, str] | None:
    """The first seed that catches a mutant, and how."""
    mutant = MUTANTS[number]
    with mutated(mutant):
        for seed in range(most_seeds):
            wrong = play(draw(mutant.kind, seed), stops_early=True).violations()
            if wrong:
                return seed, f"{wrong[0][0]}: {wrong[0][1]}"
    return None


def _report_mutants(hunted: Iterable[tuple[Mutant, tuple[int, str] | None]]) -> int:
    escaped = total = 0
    for mutant, caught in hunted:
        total += 1
        escaped += caught is None
        how = "ESCAPED" if caught is None else f"seed {caught[0]}: {caught[1]}"
        print(f"{mutant.kind:10} {mutant.name}: {how}"[:200], flush=True)
    print(f"{total - escaped} of {total} mutants caught")
    return int(escaped > 0)


if __name__ == "__main__":
    sys.exit(main())
