"""The pipe between a supervisor and an executor, into which a job may write whatever it likes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from cronqueue.pipes import ExecutorEnd, Garbled, SupervisorEnd

Ends = tuple[SupervisorEnd, Connection]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The supervisor's end, and the executor's side of the connection."""
    ours, theirs = Pipe()
    supervisor = SupervisorEnd(ours)
    yield supervisor, theirs
    supervisor.close()
    theirs.close()


def test_what_is_said_is_heard_in_its_order(ends: Ends) -> None:
    supervisor, theirs = ends
    executor = ExecutorEnd(theirs)

    executor.send(("ready", ("a", "ü", "\udcff"), ()))
    executor.send(("claims", ["t" * 32] * 1000, [], True, 3))

    first, second = supervisor.receive()
    assert first == ("ready", ["a", "ü", "\udcff"], [])
    assert second == ("claims", ["t" * 32] * 1000, [], True, 3)
    assert supervisor.receive() == []


def test_the_rest_of_a_message_is_not_waited_for(ends: Ends) -> None:
    supervisor, theirs = ends

    os.write(theirs.fileno(), b'["done"')
    assert supervisor.receive() == []
    os.write(theirs.fileno(), b", 7]\n[")
    assert supervisor.receive() == [("done", 7)]


@pytest.mark.parametrize(
    "rubbish",
    [b"\xff\xff\xff\xff\n", b"7\n", b"{}\n", b"\n", b'x["done", 1]\n', b"[" * 10**4 + b"\n"],
)
def test_rubbish_is_told_from_a_message(ends: Ends, rubbish: bytes) -> None:
    supervisor, theirs = ends

    os.write(theirs.fileno(), rubbish)

    with pytest.raises(Garbled):
        supervisor.receive()


def test_last_words_are_heard_before_the_end(ends: Ends) -> None:
    supervisor, theirs = ends

    ExecutorEnd(theirs).send(("done", 1))
    theirs.close()

    assert supervisor.receive() == [("done", 1)]
    with pytest.raises(EOFError):
        supervisor.receive()
