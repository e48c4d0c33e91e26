"""When bodies are interrupted, and why."""

from __future__ import annotations

from typing import Any

from cronqueue.errors import JobInterrupted, JobTimeout
from cronqueue.interrupts import NEVER, Interrupts


class Body:
    """What is interrupted."""

    def __init__(self, soft_deadline: float | None = None) -> None:
        self.soft_deadline = soft_deadline
        self.interruption = self
        self.fired: list[type[BaseException]] = []

    def fire(self, exception: type[BaseException]) -> None:
        self.fired.append(exception)


def test_a_time_limit_ends_the_body_once_and_never_early() -> None:
    body: Any = Body(soft_deadline=10.0)
    interrupts = Interrupts()
    interrupts.limit(body)
    assert interrupts.next_at() == 10.0
    interrupts.fire_due(9.9)
    assert body.fired == []
    interrupts.fire_due(10.0)
    interrupts.fire_due(11.0)
    assert body.fired == [JobTimeout]
    assert interrupts.next_at() == NEVER


def test_a_limit_that_the_body_moves_counts_as_it_stands() -> None:
    body: Any = Body(soft_deadline=10.0)
    interrupts = Interrupts()
    interrupts.limit(body)
    body.soft_deadline = 60.0
    interrupts.fire_due(30.0)
    assert body.fired == []
    assert interrupts.next_at() == 60.0


def test_who_was_asked_to_stop_is_interrupted_when_it_does_not() -> None:
    body: Any = Body()
    interrupts = Interrupts()
    interrupts.ask(body, 5.0)
    interrupts.fire_due(5.0)
    assert body.fired == [JobInterrupted]


def test_a_body_that_has_ended_is_left_alone() -> None:
    body: Any = Body(soft_deadline=10.0)
    interrupts = Interrupts()
    interrupts.limit(body)
    interrupts.ask(body, 5.0)
    interrupts.forget([body])
    interrupts.fire_due(20.0)
    assert body.fired == []
    assert len(interrupts) == 0
