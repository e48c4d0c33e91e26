"""How the processes of a worker hear that the server has no connections left, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest

from cronqueue.board import Board
from cronqueue.crowding import LASTS, Crowding

REFUSALS = [
    "FATAL:  sorry, too many clients already",
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    'FATAL:  too many connections for role "app"',
    'FATAL:  too many connections for database "jobs"',
]


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(1)
    board.forget_file()
    yield board
    board.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as its only entry."""
    moment = [5.0]
    monkeypatch.setattr("cronqueue.crowding.boottime", lambda: moment[0])
    return moment


def fail(crowding: Crowding, words: str) -> None:
    with suppress(ConnectionError), crowding.watched():
        raise ConnectionError(words)


@pytest.mark.parametrize("words", REFUSALS)
def test_who_is_refused_a_connection_keeps_none_for_a_while(words: str, clock: list[float]) -> None:
    crowding = Crowding()
    assert not crowding.is_on()
    fail(crowding, words)
    clock[0] += LASTS - 1
    assert crowding.is_on()
    fail(crowding, words)
    clock[0] += LASTS - 1
    assert crowding.is_on()
    clock[0] += 2
    assert not crowding.is_on()


def test_a_server_that_is_away_has_refused_nothing(clock: list[float]) -> None:
    crowding = Crowding()
    fail(crowding, "connection failed: Connection refused")
    assert not crowding.is_on()


def test_one_line_tells_of_it_however_often_it_happens(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    crowding = Crowding()
    for _ in range(10):
        fail(crowding, REFUSALS[0])
        clock[0] += LASTS / 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize("refused", [0, 1])
def test_either_side_of_a_board_hears_of_a_refusal(
    refused: int, board: Board, clock: list[float]
) -> None:
    sides = [Crowding(), Crowding()]
    for side in sides:
        side.share(board)
    assert not any(side.is_on() for side in sides)
    fail(sides[refused], REFUSALS[0])
    for side in (sides[refused], sides[1 - refused]):
        side.share(board)
    assert all(side.is_on() for side in sides)
