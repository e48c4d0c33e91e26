"""The watch on the database's clock: what counts as a leap, and when it is believed all the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cronqueue.clockwatch import LIMIT, PASS_SECONDS, PASSES, ClockWatch

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Watched:
    """A watch that looks after some seconds of ours; the database's clock is wrong by so much then."""

    def __init__(self) -> None:
        self.watch = ClockWatch()
        self.at = 100.0

    def after(
        self, seconds: float, wrong: timedelta = timedelta(0), slow: float = 0.0
    ) -> timedelta | None:
        self.at += seconds
        now = START + timedelta(seconds=self.at) + wrong
        return self.watch.doubt(now, self.at - slow, self.at + slow)


def test_a_clock_that_goes_as_ours_is_believed_however_long_nobody_looked() -> None:
    watched = Watched()
    assert [watched.after(seconds) for seconds in (0, 1, 3_600, 86_400 * 30)] == [None] * 4


def test_a_leap_is_believed_after_three_more_answers_that_agree() -> None:
    watched = Watched()
    watched.after(0)
    assert watched.after(1, DAY) == DAY
    answers = [watched.after(PASS_SECONDS, DAY) for _ in range(PASSES)]
    assert answers == [DAY] * (PASSES - 1) + [None]


def test_answers_in_quick_succession_count_as_one() -> None:
    watched = Watched()
    watched.after(0)
    assert [watched.after(0.1, DAY) for _ in range(20)] == [DAY] * 20


def test_a_clock_that_is_right_again_is_believed_at_once() -> None:
    watched = Watched()
    watched.after(0)
    assert watched.after(1, DAY) == DAY
    assert watched.after(1) is None
    assert watched.after(1) is None


def test_a_second_leap_begins_the_count_anew() -> None:
    watched = Watched()
    watched.after(0)
    watched.after(1, DAY)
    for _ in range(PASSES - 1):
        watched.after(PASS_SECONDS, DAY)
    assert watched.after(PASS_SECONDS, 2 * DAY) == DAY
    assert watched.after(PASS_SECONDS, 2 * DAY) == DAY


def test_a_slow_answer_is_no_leap() -> None:
    watched = Watched()
    assert [watched.after(1_000, slow=slow) for slow in (400, 0, 400, 400, 0)] == [None] * 5


@pytest.mark.parametrize("wrong", [-DAY, LIMIT])
def test_a_step_back_and_a_small_one_ahead_are_no_leap(wrong: timedelta) -> None:
    watched = Watched()
    watched.after(0)
    assert watched.after(1, wrong) is None
    assert watched.after(1, wrong) is None
