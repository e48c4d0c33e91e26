"""The courier: an errand is done in its thread, and what it brought is taken in by the executor."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from cronqueue.courier import Courier, Errand
from cronqueue.patience import SHORT, patience

PATIENCE = 20.0


def test_what_it_brings_is_taken_in_by_whoever_calls_it_and_then_it_is_free() -> None:
    inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    courier, answers = Courier(inbox.put), list[object]()
    for _ in range(2):
        courier.send(Errand(threading.current_thread, answers.append, answers.append), now=1.0)
        take_in = inbox.get(timeout=PATIENCE)
        assert courier.is_away  # until somebody has taken it in
        take_in()
        assert not courier.is_away
    assert answers[0] is answers[1]
    assert answers[0] is not threading.current_thread()


def test_an_error_is_brought_as_well_and_the_next_errand_is_done() -> None:
    inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    courier, answers, errors = Courier(inbox.put), list[float](), list[Exception]()
    courier.send(Errand(lambda: 1 / 0, answers.append, errors.append), now=1.0)
    inbox.get(timeout=PATIENCE)()
    courier.send(Errand(lambda: 2.0, answers.append, errors.append), now=1.0)
    inbox.get(timeout=PATIENCE)()
    assert answers == [2.0]
    assert isinstance(errors[0], ZeroDivisionError)


def test_it_does_not_wait_long_for_an_answer() -> None:
    inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    waits: list[float | None] = []
    Courier(inbox.put).send(Errand(patience.get, waits.append, lambda error: None), now=1.0)
    inbox.get(timeout=PATIENCE)()
    assert waits == [SHORT]
