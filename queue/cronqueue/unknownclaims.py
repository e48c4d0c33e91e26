"""Claims of unknown outcome: their jobs never run, and go back when they turn up.

The connection broke while such a claim committed, and it may still arrive for as long as a lease lasts.
Bookkeeping only: no clock, no database. `now` is monotonic seconds.
"""

from __future__ import annotations

# They are looked for this often.
RETRY = 1.0


class UnknownClaims:
    """The tokens of such claims, and when they are looked for."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._look_at = float("-inf")

    @property
    def look_at(self) -> float:
        """When to look for them; infinity while there are none."""
        return self._look_at if self._until else float("inf")

    def add(self, lock_token: str, until: float) -> None:
        """This claim may have happened; until then it may arrive."""
        self._until[lock_token] = until

    def due(self, now: float) -> list[str]:
        """What is to be looked for now."""
        if now < self.look_at:
            return []
        self._look_at = now + RETRY
        return list(self._until)

    def looked(self, lock_token: str, now: float) -> None:
        """What was there has gone back."""
        if now > self._until[lock_token]:
            del self._until[lock_token]
