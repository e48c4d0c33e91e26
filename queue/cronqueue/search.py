"""Search: where the next claim looks for jobs, so that it does not pass again what earlier ones took.

While some other transaction stays open for long, PostgreSQL keeps the index entries of all jobs taken
since, and every claim passes them first. A claim that was slow therefore leaves a floor in each lane, the
place of its last job there, and the next ones start from it. What lies below (a job given back, or
committed late) is found by a sweep: a claim without floors, which also reads afresh in which lanes jobs
wait. Pure: `now` and all other times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cronqueue.claim import BOTTOM, Claimed, Floor, Lane

# What waiting jobs of which priorities there are is known for this long; pauses take effect as soon.
SWEEP_PERIOD = 1.0
# A claim that takes this many seconds, and so many for each of its jobs, has passed dead entries. If it was
# merely slow, a floor does little harm.
SLOW, SLOW_PER_JOB = 0.010, 0.000_010
# Walks over dead entries take one part in so many of the time. Those that were hardly slow may take more of
# it: a busy machine makes such ones of quick claims, and new jobs wait meanwhile.
REST = 20
# Who rested for longer was not slow: its process was stopped, or its machine asleep, in the middle of it.
LONGEST_REST = 60.0

NOW, NEVER = float("-inf"), float("inf")


@dataclass(frozen=True, slots=True)
class Found:
    """What a claim brought.

    `short`: fewer jobs than it asked for. `gave_back`: some went back to where they were at once, so they
    must be found again.
    """

    lanes: tuple[Lane, ...]
    jobs: Sequence[Claimed]
    swept: bool
    short: bool
    gave_back: bool
    began: float
    seconds: float

    @property
    def is_slow(self) -> bool:
        return self.seconds > SLOW + SLOW_PER_JOB * len(self.jobs)


@dataclass(frozen=True, slots=True)
class Search:
    """What is known for the next claim.

    It is worth a try from `claim_at` on: NEVER when a sweep has found all lanes empty, until somebody
    wakes us. It is to be a sweep from `sweep_at` on, and may be one from `rested_at` on. `slow_sweeps`: how
    many were slow in a row; one alone may have been kept waiting by something else.
    """

    claim_at: float = NOW
    sweep_at: float = NOW
    rested_at: float = NOW
    is_slow: bool = False
    slow_sweeps: int = 0
    lanes: tuple[Lane, ...] | None = None

    def lanes_at(self, now: float) -> tuple[Lane, ...] | None:
        """The lanes of a claim now; None for a sweep."""
        return None if now >= self.sweep_at else self.lanes

    def woken(self) -> Search:
        """New jobs may be there. They lie above the floors, and without floors a sweep costs nothing.

        After a single slow sweep, too: whoever was held up once by a busy machine would let new jobs wait
        for twenty times as long where none had waited before, since no lane is known then.
        """
        if self.is_slow and self.slow_sweeps > 1:
            return replace(self, claim_at=NOW)
        return Search(slow_sweeps=self.slow_sweeps)

    def returned(self) -> Search:
        """We gave jobs back, to places below the floors."""
        return replace(self, claim_at=NOW, sweep_at=NOW)

    def after(self, found: Found) -> Search:
        """What a claim teaches. Only a sweep can tell that nothing is due, and that floors are needless."""
        is_slow = found.is_slow if found.swept or not self.is_slow else True
        sweep_at, rested_at = self.sweep_at, self.rested_at
        slow_sweeps = self.slow_sweeps
        if found.swept or (is_slow and not self.is_slow):
            slow_sweeps = slow_sweeps + 1 if is_slow else 0
            ended = found.began + found.seconds
            rested_at = ended + rest_after(found.seconds)
            sweep_at = max(rested_at, ended + SWEEP_PERIOD)
        claim_at = NOW
        if found.short and not found.gave_back:
            if found.swept:
                claim_at = NEVER
            elif is_slow:
                claim_at = sweep_at = rested_at
            else:
                return Search()
        lanes = self._raised(found) if is_slow else found.lanes
        return Search(claim_at, sweep_at, rested_at, is_slow, slow_sweeps, lanes)

    def _raised(self, found: Found) -> tuple[Lane, ...]:
        """The lanes, each with the place of the last job that was taken there as its floor."""
        floors = {lane.priority: lane.floor for lane in self.lanes or ()}
        if not found.gave_back:
            floors |= {job.priority: Floor(job.run_at, job.id) for job in found.jobs}
        return tuple(lane._replace(floor=floors.get(lane.priority, BOTTOM)) for lane in found.lanes)


def rest_after(seconds: float) -> float:
    """How long dead entries are to be left alone after a walk over them that took so long."""
    return min(seconds * min(seconds / SLOW, REST), LONGEST_REST)
