"""Where the next claim looks: floors while claims are slow, and sweeps that find what lies below them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cronqueue.claim import BOTTOM, Claimed, Floor, Lane
from cronqueue.search import (
    LONGEST_REST,
    NEVER,
    NOW,
    REST,
    SLOW,
    SLOW_PER_JOB,
    SWEEP_PERIOD,
    Found,
    Search,
    rest_after,
)

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUICK, LONG = SLOW / 2, SLOW * 5
HIGH, LOW = Lane(9, None), Lane(0, None)


def job(number: int, priority: int = 0) -> Claimed:
    run_at = START + timedelta(seconds=number)
    scalars = (number, "demo.add", "{}", "default", priority, run_at, 1, 25, 1)
    return Claimed(*scalars, None, None, None, None, None, 0, False, None, START, "token")


def floor(number: int) -> Floor:
    return Floor(START + timedelta(seconds=number), number)


def found(
    *jobs: Claimed,
    lanes: tuple[Lane, ...] = (HIGH, LOW),
    swept: bool = False,
    short: bool = False,
    gave_back: bool = False,
    began: float = 100.0,
    seconds: float = QUICK,
) -> Found:
    return Found(lanes, jobs, swept, short, gave_back, began, seconds)


def slowed(*jobs: Claimed, seconds: float = LONG) -> Search:
    """After a sweep that was slow."""
    return Search().after(found(*jobs, swept=True, seconds=seconds))


def floors(search: Search) -> dict[int, Floor]:
    return {lane.priority: lane.floor for lane in search.lanes or ()}


def test_the_first_claim_is_a_sweep() -> None:
    assert Search().lanes_at(0.0) is None
    assert Search().claim_at == NOW


def test_quick_claims_keep_the_lanes_for_a_while_and_have_no_floors() -> None:
    search = Search().after(found(job(1), swept=True))
    assert search.lanes_at(100.5) == (HIGH, LOW)
    search = search.after(found(job(2), began=100.5))
    assert search.lanes_at(100.9) == (HIGH, LOW)
    assert search.lanes_at(100.0 + SWEEP_PERIOD + QUICK) is None


def test_a_quick_claim_that_is_short_is_followed_by_a_sweep() -> None:
    search = Search().after(found(job(1), swept=True)).after(found(short=True, began=100.1))
    assert search.lanes_at(100.2) is None
    assert search.claim_at == NOW


def test_only_a_sweep_tells_that_nothing_is_due() -> None:
    assert Search().after(found(swept=True, short=True)).claim_at == NEVER
    assert slowed().after(found(short=True)).claim_at < NEVER
    assert slowed().after(found(swept=True, short=True, seconds=LONG)).claim_at == NEVER


def test_after_a_slow_claim_the_next_starts_at_the_last_job_of_each_lane() -> None:
    search = slowed(job(4, priority=9), job(7, priority=9), job(2))
    assert floors(search) == {9: floor(7), 0: floor(2)}


def test_a_claim_is_not_slow_because_it_took_many_jobs() -> None:
    jobs = [job(number) for number in range(500)]
    search = Search().after(found(*jobs, swept=True, seconds=SLOW + 500 * SLOW_PER_JOB * 0.9))
    assert floors(search) == {9: BOTTOM, 0: BOTTOM}


def test_a_lane_that_gave_nothing_keeps_its_floor() -> None:
    search = slowed(job(7, priority=9))
    assert floors(search) == {9: floor(7), 0: BOTTOM}
    search = search.after(found(job(3), lanes=search.lanes or ()))
    assert floors(search) == {9: floor(7), 0: floor(3)}
    search = search.after(found(job(4), swept=True, seconds=LONG))
    assert floors(search) == {9: floor(7), 0: floor(4)}


def test_a_sweep_that_finds_jobs_below_a_floor_lowers_it() -> None:
    search = slowed(job(7)).after(found(job(3), swept=True, seconds=LONG))
    assert floors(search)[0] == floor(3)


def test_claims_from_a_floor_are_quick_and_do_not_take_the_floors_away() -> None:
    search = slowed(job(1))
    search = search.after(found(job(2), lanes=search.lanes or ()))
    assert floors(search)[0] == floor(2)


def test_a_quick_sweep_takes_the_floors_away() -> None:
    search = slowed(job(1)).after(found(job(2), swept=True, began=200.0))
    assert floors(search) == {9: BOTTOM, 0: BOTTOM}


def test_a_sweep_comes_after_a_second_or_twenty_times_its_cost() -> None:
    search = slowed(job(1), seconds=0.02)
    assert search.lanes_at(100.02 + SWEEP_PERIOD - 0.01) is not None
    assert search.lanes_at(100.02 + SWEEP_PERIOD) is None
    search = slowed(job(1), seconds=0.5)
    assert search.lanes_at(100.5 + REST * 0.5 - 0.01) is not None
    assert search.lanes_at(100.5 + REST * 0.5) is None


def test_the_rest_grows_with_what_a_sweep_cost_to_twenty_times_as_long() -> None:
    assert rest_after(SLOW) == SLOW
    assert rest_after(SLOW * 5) == pytest.approx(SLOW * 25)
    assert rest_after(SLOW * REST) == SLOW * REST * REST
    assert rest_after(SLOW * 2 * REST) == SLOW * 2 * REST * REST


def test_who_was_stopped_for_hours_in_the_middle_of_a_claim_does_not_rest_for_days() -> None:
    hours = 3600.0 * 5
    search = slowed(job(1), seconds=hours)
    assert search.lanes_at(100.0 + hours + LONGEST_REST) is None
    assert rest_after(hours) == LONGEST_REST


def test_the_first_slow_claim_counts_as_a_sweep_though_its_lanes_were_known() -> None:
    search = Search().after(found(job(1), swept=True))
    search = search.after(found(job(2), began=100.9, seconds=LONG))
    assert floors(search)[0] == floor(2)
    assert search.lanes_at(100.9 + LONG + SWEEP_PERIOD - 0.01) is not None


def test_when_nothing_is_left_above_the_floors_the_sweep_comes_as_soon_as_it_may() -> None:
    search = slowed(job(1), seconds=0.02).after(found(short=True, began=100.1))
    assert search.claim_at == 100.02 + rest_after(0.02)
    assert search.lanes_at(search.claim_at) is None


def test_who_is_woken_claims_at_once_and_from_the_floors_if_there_are_any() -> None:
    again = found(job(1), swept=True, seconds=LONG)
    resting = slowed(job(1)).after(again).after(found(short=True, began=100.1))
    assert resting.woken().claim_at == NOW
    assert floors(resting.woken())[0] == floor(1)
    assert Search().after(found(swept=True, short=True)).woken() == Search()


def test_who_was_slow_once_and_is_woken_sweeps_at_once_and_rests_if_that_is_slow_again() -> None:
    nothing = found(lanes=(), swept=True, short=True, seconds=LONG)
    once = Search().after(nothing)
    assert once.claim_at == NEVER
    assert once.woken().lanes_at(100.1) is None
    twice = once.woken().after(nothing)
    assert twice.woken().lanes_at(100.0 + LONG + 0.1) == ()
    quick = once.woken().after(found(lanes=(), swept=True, short=True))
    assert quick.woken().after(nothing).woken().lanes_at(100.1) is None


def test_after_a_return_of_jobs_the_next_claim_is_a_sweep() -> None:
    for search in (slowed(job(1)), slowed().after(found(swept=True, short=True, seconds=LONG))):
        assert search.returned().lanes_at(0.0) is None
        assert search.returned().claim_at == NOW


def test_jobs_given_back_by_the_claim_itself_stay_above_the_floor() -> None:
    search = slowed(job(3)).after(found(job(4), job(6), gave_back=True))
    assert floors(search)[0] == floor(3)
    assert search.after(found(short=True, swept=True, gave_back=True)).claim_at == NOW
