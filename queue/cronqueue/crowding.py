"""When more connections are wanted than the server allows, nobody keeps one that he does not use.

Connections are kept, since making one costs more than most of what is done with it. On a server that has
none left, one that is kept is one that somebody else cannot have: workers whose supervisors hold all there
are would wait for ever for one for their executors. So whoever is refused one keeps none for a while, and
the other processes of his worker hear of it through their boards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cronqueue.clock import boottime

if TYPE_CHECKING:
    from cronqueue.board import Board

log = logging.getLogger("cronqueue")

# Seconds after the last refusal.
LASTS = 30.0
# What the server, or a limit of the role or the database, says at the door; its code does not come through.
_REFUSALS = ("too many clients", "too many connections", "connection slots are reserved")


class Crowding:
    """Whether the server had no connection left, of late."""

    def __init__(self) -> None:
        # Seconds of `clock.boottime`; 0 for never.
        self._refused_at = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Here a connection is made, and may be refused."""
        try:
            yield
        except Exception as error:
            if any(words in str(error) for words in _REFUSALS):
                if not self.is_on():
                    log.warning("the server has no connections left: for a while we keep none")
                self._refused_at = boottime()
            raise

    def share(self, board: Board) -> None:
        """Tell the process at the board's other side, and hear from it."""
        latest = max(self._refused_at, board.refused_at)
        if latest:
            self._refused_at = board.refused_at = latest

    def is_on(self) -> bool:
        """Whether connections are to be given up after use."""
        return self._refused_at > 0 and boottime() - self._refused_at < LASTS
