"""How long we wait for an answer of PostgreSQL, whatever the network does.

A line that is cut is noticed by the kernel. One that stands still while its other end lives, behind a
pooler, a proxy or a firewall that hangs, is not: whoever waits there would wait for ever.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

# Seconds. The server itself gives up after 30, the session's statement_timeout.
USUAL = 35.0
# For what keeps leases and moves jobs: three of these fit into a lease of 30 s. The server gives up
# waiting for a lock after 5.
SHORT = 10.0

patience: ContextVar[float | None] = ContextVar("patience", default=USUAL)


@contextmanager
def answers_within(seconds: float | None) -> Iterator[None]:
    """Here each statement must have its answer in time, else its connection is closed; None: no limit."""
    token = patience.set(seconds)
    try:
        yield
    finally:
        patience.reset(token)


def wait_for_ever() -> None:
    """From here on, in this context, there is no limit."""
    patience.set(None)


class NoAnswer(Exception):
    """The time is over."""


def limited(gen: Generator[Any, Any, T], deadline: float) -> Generator[Any, Any, T]:
    """The same, up to the deadline. Whoever waits for a line comes back to it several times a second."""
    try:
        awaited = next(gen)
        while True:
            ready = yield awaited
            if not ready and monotonic() > deadline:
                raise NoAnswer
            awaited = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result
