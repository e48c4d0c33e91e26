"""A scenario: who is there, what they do, what befalls them. A seed draws it.

Steps can be left out, and the rest stays as it is: that is how a failing seed is made short.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from random import Random
from typing import Any

# Seconds: several leases, so that what dies early is found.
LENGTH = 60.0
LEASE = 18.0
WORK, NEW_WORK = "work", "new_work"
# What the bodies of a job come to, one after the other; the last one goes on.
OUTCOMES = (
    ["ok"],
    ["ok"],
    ["ok"],
    ["fails", "ok"],
    ["fails"],
    ["retries", "snoozes", "ok"],
    ["discards"],
    ["dies", "ok"],
    ["dies"],
)
# What is in a body's way for long enough that its lease runs out, and for a moment.
LONG, SHORT = (LEASE * 1.2, LEASE * 2), (0.2, 4.0)
# Statements at which it is worst.
CLAIM, ENDS, RENEWAL = (
    "UPDATE sched_jobs SET state = 'running'",
    "UPDATE sched_jobs SET state = ",
    "locked_until = :until",
)
REPLY = "the reply to COMMIT"


@dataclass(frozen=True)
class Step:
    """Something that happens at a moment. `act` names a method of `simulation.stage.Stage`."""

    at: float
    act: str
    values: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:10.4f}  {self.act}({', '.join(map(repr, self.values))})"


@dataclass(frozen=True)
class Declared:
    """A schedule in a file."""

    name: str
    every: int
    overlap: str
    catch_up: str
    seconds: float
    outcomes: list[str]
    start_within: float | None = None
    priority: int = 0


@dataclass(frozen=True)
class Scenario:
    """Steps by their time, and the seed that decides about everything else."""

    kind: str
    seed: int
    steps: tuple[Step, ...]

    def without(self, left_out: Collection[int]) -> Scenario:
        """The same with some steps left out."""
        kept = tuple(step for number, step in enumerate(self.steps) if number not in left_out)
        return replace(self, steps=kept)


def draw(kind: str, seed: int) -> Scenario:
    """The scenario of a seed."""
    random = Random(f"{kind}/{seed}")
    steps = sorted(KINDS[kind](random), key=lambda step: step.at)
    return Scenario(kind, seed, tuple(steps))


def _workers(random: Random) -> list[Step]:
    """Workers that die, are stopped, are cut off, while clients enqueue."""
    names = _names("w", random.choice((2, 2, 3)))
    steps = [Step(random.uniform(0, 1), "start_worker", (name,)) for name in names]
    steps += [_enqueue(random) for _ in range(random.randint(4, 12))]
    return steps + [_fault(random, names) for _ in range(random.randint(1, 5))]


def _leases(random: Random) -> list[Step]:
    """Few jobs, and troubles that last longer than a lease: whoever comes back finds others at his jobs."""
    names = _names("w", 2)
    steps = [Step(random.uniform(0, 1), "start_worker", (name,)) for name in names]
    for _ in range(random.randint(3, 6)):
        seconds = random.choice((0.2, 6.0, 14.0, LEASE * 1.5, LEASE * 3, LEASE * 3))
        outcomes = random.choice((["ok"], ["ok"], ["fails", "ok"], ["retries", "ok"]))
        times = random.choice((1, 2, 3))
        if seconds > LEASE:
            times, outcomes = 1, ["ok"]
        steps.append(_client(random.uniform(0, 12), times, seconds, outcomes))
    for _ in range(random.randint(1, 2)):
        at, name, long = random.uniform(1, 20), random.choice(names), random.uniform(*LONG)
        skip, executor = random.randrange(3), f"{name}.1/x"
        whole = (
            Step(at, "stop", (name, "all", long)),
            Step(at, "stop", (name, "/x", long)),
            Step(at, "stop", (name, "", long)),
            Step(at, "suspend", (name, long)),
            Step(at, "cut", (name, long)),
            Step(at, "outage", (long,)),
        )
        within = (
            Step(at, "stop_at", (executor, CLAIM, skip, long)),
            Step(at, "stop", (name, "/x", long)),
            Step(at, "stop_at", (executor, REPLY, skip, long)),
            Step(at, "suspend_at", (executor, REPLY, skip, long)),
            Step(at, "stop_at", (f"{name}.", RENEWAL, skip, long)),
        )
        steps.append(random.choice(random.choice((whole, within))))
    return steps


def _returns(random: Random) -> list[Step]:
    """Workers sleep on the reply to a claim. When they wake, others have had those jobs for a while."""
    names = _names("w", 2)
    steps = [Step(random.uniform(0, 1), "start_worker", (name,)) for name in names]
    for _ in range(random.randint(3, 6)):
        outcomes = random.choice((["ok"], ["fails", "ok"]))
        seconds, times = random.choice((0.2, 6.0, 14.0)), random.choice((2, 4))
        steps.append(_client(random.uniform(1, 10), times, seconds, outcomes))
    for name in names[: random.choice((1, 1, 2))]:
        at, long, skip = random.uniform(1, 10), random.uniform(*LONG), random.randrange(2)
        act = random.choice(("stop_at", "suspend_at"))
        steps.append(Step(at, act, (f"{name}.1/x", REPLY, skip, long)))
    return steps


def _replies(random: Random) -> list[Step]:
    """Connections break at the worst moment, above all while they commit."""
    names = _names("w", 2)
    steps = [Step(random.uniform(0, 1), "start_worker", (name,)) for name in names]
    for _ in range(random.randint(4, 8)):
        outcomes = random.choice(OUTCOMES[:6])
        steps.append(_client(random.uniform(0, 30), random.choice((1, 4)), 0.3, outcomes))
    for _ in range(random.randint(3, 8)):
        at, name = random.uniform(2, 40), random.choice(names)
        part = random.choice((".", ".1/x", ".1/x"))
        matching = random.choice((REPLY, REPLY, "COMMIT", CLAIM, ENDS))
        blow = random.choice(("cut_at", "cut_at", "cut_at", "kill_at"))
        steps.append(Step(at, blow, (f"{name}{part}", matching, random.randrange(3))))
    return steps


def _operators(random: Random) -> list[Step]:
    """Operators and clients with keys reach for jobs while workers are at them."""
    names = _names("w", 2)
    steps = [Step(random.uniform(0, 1), "start_worker", (name,)) for name in names]
    steps += [Step(random.uniform(0, 20), "forget_task", (random.choice(names), NEW_WORK))]
    for _ in range(random.randint(6, 12)):
        key = random.choice((None, "a", "b"))
        options = {
            "key": key,
            "key_until": random.choice(("finish", "finish", "start")),
            "queue": random.choice(("default", "default", "slow")),
            "delay": random.choice((0.0, 0.0, 3.0)),
        }
        task = random.choice((WORK, WORK, NEW_WORK))
        outcomes = random.choice(OUTCOMES[:6])
        seconds = random.choice((0.1, 2.0, 6.0))
        at, times = random.uniform(0, 40), random.choice((1, 1, 4))
        steps.append(Step(at, "enqueue", (task, times, seconds, outcomes, options)))
    acts = ("cancel", "retry", "retry", "run_now", "edit", "delete", "pause_queue", "resume_queue")
    for _ in range(random.randint(8, 20)):
        act = random.choice(acts)
        steps.append(Step(random.uniform(2, 55), "operate", (act, random.randrange(1000))))
    return steps + [_fault(random, names) for _ in range(random.randint(0, 2))]


def _clocks(random: Random) -> list[Step]:
    """The database's clock is set forward and back."""
    steps = _workers(random)
    for _ in range(random.randint(1, 3)):
        seconds = random.choice((-40.0, -1.5, 1.5, 25.0, 200.0))
        steps.append(Step(random.uniform(2, 50), "move_clock", (seconds,)))
    return steps


def _gates(random: Random) -> list[Step]:
    """Schedules whose occurrences must not overlap, or come late; daemons and workers that die."""
    names = _names("w", 2)
    steps = [Step(random.uniform(0, 1), "start_worker", (name,)) for name in names]
    files = tuple(_declared(random, name) for name in ("s1", "s2", "s3", "free1"))
    daemons = _names("d", random.choice((1, 1, 2)))
    steps += [Step(random.uniform(0, 1), "start_daemon", (name, files)) for name in daemons]
    steps += [_fault(random, names) for _ in range(random.randint(0, 3))]
    return steps + [_fault(random, daemons) for _ in range(random.randint(0, 2))]


def _plans(random: Random) -> list[Step]:
    """Files change, daemons with other files come, operators decide; daemons die at every statement."""
    names, steps = _names("d", 2), [Step(0.5, "start_worker", ("w1",))]
    files = tuple(_declared(random, name) for name in ("s1", "s2", "free1"))
    steps += [Step(random.uniform(0, 5), "start_daemon", (name, files)) for name in names]
    for _ in range(random.randint(2, 5)):
        files = _edited(random, files)
        chosen = random.choice((names, names, [random.choice(names)]))
        at = random.uniform(8, 50)
        steps += [Step(at, "edit_files", (name, files)) for name in chosen]
    acts = ("pause", "resume", "skip", "move", "backfill", "run_now", "cancel", "retry")
    for _ in range(random.randint(2, 8)):
        act = random.choice(acts)
        steps.append(Step(random.uniform(6, 55), "operate", (act, random.randrange(1000))))
    for _ in range(random.randint(1, 4)):
        at, name = random.uniform(1, 50), random.choice(names)
        matching = random.choice(("", "COMMIT", REPLY, "INSERT", "UPDATE", "sched_jobs"))
        blow = random.choice(("kill_at", "kill_at", "cut_at"))
        steps.append(Step(at, blow, (f"{name}.", matching, random.randrange(25))))
    return steps


KINDS: dict[str, Callable[[Random], list[Step]]] = {
    "workers": _workers,
    "leases": _leases,
    "returns": _returns,
    "replies": _replies,
    "operators": _operators,
    "clocks": _clocks,
    "gates": _gates,
    "plans": _plans,
}


def _names(letter: str, number: int) -> list[str]:
    return [f"{letter}{each}" for each in range(1, number + 1)]


def _client(at: float, times: int, seconds: float, outcomes: list[str], **options: Any) -> Step:
    return Step(at, "enqueue", (WORK, times, seconds, outcomes, options))


def _enqueue(random: Random) -> Step:
    delay = random.choice((0.0, 0.0, 0.0, random.uniform(0.5, 20)))
    options = {
        "priority": random.choice((0, 0, 0, 5, -5)),
        "delay": delay,
        "max_attempts": random.choice((None, None, 1, 2)),
        "expires": random.choice((None, None, None, delay + random.uniform(1, 10))),
    }
    seconds, times = random.choice((0.05, 0.05, 0.3, 2.0)), random.choice((1, 1, 3, 8))
    outcomes = random.choice(OUTCOMES)
    if random.random() < 0.15:  # longer than a lease; few of them, so that the rest gets its turn
        seconds, times, outcomes = LEASE * 1.5, 1, random.choice((["ok"], ["dies", "ok"]))
    return _client(random.uniform(0, LENGTH * 0.7), times, seconds, outcomes, **options)


def _declared(random: Random, name: str) -> Declared:
    drawn = Declared(
        name,
        random.choice((5, 8, 13, 21)),
        "allow" if name.startswith("free") else random.choice(("skip", "queue_one", "queue_all")),
        random.choice(("latest", "all", "none")),
        random.choice((0.1, 1.0, 4.0)),
        random.choice((["ok"], ["ok"], ["fails", "ok"], ["snoozes", "ok"])),
        random.choice((None, None, 20.0)),
    )
    # What comes faster than it can be done has more waiting at the end than at the beginning of the calm.
    is_too_much = drawn.seconds * len(drawn.outcomes) >= drawn.every
    return replace(drawn, seconds=1.0) if is_too_much else drawn


def _edited(random: Random, files: tuple[Declared, ...]) -> tuple[Declared, ...]:
    """The files after somebody has been at them."""
    changed = list(files)
    index = random.randrange(len(changed)) if changed else 0
    match random.randrange(4):
        case 0 if changed:
            del changed[index]
        case 1:
            free = [
                name for name in ("s1", "s2", "s3") if name not in {each.name for each in files}
            ]
            if free:
                changed.append(_declared(random, random.choice(free)))
        case 2 if changed:
            changed[index] = replace(changed[index], priority=random.randrange(1, 9))
        case _ if changed:
            changed[index] = _declared(random, changed[index].name)
    return tuple(changed)


def _fault(random: Random, names: list[str]) -> Step:
    """What befalls a service, or one of its processes."""
    at, name = random.uniform(2, LENGTH * 0.8), random.choice(names)
    long = random.uniform(*random.choice((SHORT, LONG)))
    matching = random.choice(("", "", "COMMIT", ENDS, REPLY, "INSERT"))
    skip = random.randrange(12)
    return random.choice(
        (
            Step(at, "kill", (name, random.choice(("", "/x", "all")))),
            Step(at, "kill_at", (f"{name}.", matching, skip)),
            Step(at, "stop", (name, random.choice(("", "/x", "all")), long)),
            Step(at, "stop_at", (f"{name}.", matching, skip, long)),
            Step(at, "cut", (name, long)),
            Step(at, "cut_at", (f"{name}.", matching, skip)),
            Step(at, "suspend", (name, long)),
            Step(at, "terminate", (name,)),
            Step(at, "outage", (long,)),
        )
    )
