"""What an executor knows of the gate: whether a job has come to it, and whose guards its own have freed.

Bookkeeping only: no clock, no database. `now` is monotonic seconds.
"""

from __future__ import annotations

from cronqueue.admission import Admission

# A freed guard at which somebody else is, is looked at again so soon.
BUSY_GUARD_PAUSE = 0.01
# What is due is looked at again so soon where somebody else was at all of it: they may leave some to us.
CROWDED_GATE_PAUSE = 0.05
# After a failure at the gate what needs none goes on.
FAILURE_PAUSE = 5.0


class GateWatch:
    """When to admit, and what to look at."""

    def __init__(self) -> None:
        #: Guards of jobs that have ended and are not handed in yet.
        self.ended: set[str] = set()
        #: Guards that are free now, and others wait for.
        self.freed: set[str] = set()
        self._is_due = False
        self._has_admitted = False
        self._admit_at = float("-inf")

    @property
    def has_work(self) -> bool:
        """Whether what has ended may let others in."""
        return bool(self.ended or self.freed)

    @property
    def admit_at(self) -> float:
        """When jobs are to be admitted; infinity while none have come."""
        return self._admit_at if self._is_due or self.freed else float("inf")

    def may_look(self, now: float) -> bool:
        """Whether a claim is to stop where a job has come to the gate: not right after it was opened."""
        return not self._has_admitted and now >= self._admit_at

    def take_ended(self) -> frozenset[str]:
        """The guards of what is handed in now."""
        taken = frozenset(self.ended)
        self.ended.clear()
        return taken

    def handed_in(self, freed: frozenset[str]) -> None:
        """The ends are written; others wait for these of their guards."""
        self.freed |= freed

    def looked(self, is_due: bool) -> None:
        """A claim has said whether a job has come to the gate."""
        self._has_admitted, self._is_due = False, is_due

    def take_freed(self) -> frozenset[str]:
        """The guards that are looked at now. They may be freed again meanwhile."""
        taken = frozenset(self.freed)
        self.freed.clear()
        return taken

    def admitted(self, done: Admission, now: float) -> None:
        """Guards at which somebody else was are tried again: nobody may have seen that they are free."""
        self.freed |= done.busy
        pause = BUSY_GUARD_PAUSE if done.busy else 0.0
        if done.crowded and not done.more:
            pause = pause or CROWDED_GATE_PAUSE
        self._admit_at = now + pause
        self._is_due = done.more or done.crowded
        self._has_admitted = not self._is_due

    def failed(self, freed: frozenset[str], now: float) -> None:
        """Nobody was let through."""
        self.freed |= freed
        self._admit_at = now + FAILURE_PAUSE
