"""What a worker says on stdout: `first 1764.25 0.7`, the time and its CPU in seconds; then `last`."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable


def told(count: int) -> Callable[[], None]:
    """A body that does nothing, but that the first and the last of so many are told of."""
    number = itertools.count(1)  # whose next() no two threads share

    def body() -> None:
        reached = next(number)
        if reached == 1:
            _say("first")
        if reached == count:
            _say("last")

    return body


def _say(what: str) -> None:
    sys.stdout.write(f"{what} {time.time():.6f} {time.process_time():.6f}\n")
    sys.stdout.flush()
