"""Whose schedule files win: the rule, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cronsched.deploys import (
    IN_TOUCH_FOR,
    LONGEST_PAUSE,
    Brought,
    Contact,
    Holder,
    Known,
    Situation,
    decide,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
LONG = 15 * MINUTE
# Applied an hour ago, and from then on held by somebody who is there.
IN_FORCE = Known("new", None, NOW - 60 * MINUTE, True, NOW - 60 * MINUTE, "host:new")
OLD = Known("old", None, NOW - 120 * MINUTE)
HOLDER = Holder("n", "new", NOW - SECOND)
# What a daemon holds that was left behind; it has been in touch for long.
MINE = Brought("o", "host:old", "old", contact=Contact(NOW - LONG, NOW - 5 * SECOND))


def situation(*known: Known, holders: tuple[Holder, ...] = (HOLDER,)) -> Situation:
    return Situation(known or (IN_FORCE, OLD), holders, NOW)


def reason(brought: Brought, found: Situation) -> str | None:
    """Why it applies; None if it follows."""
    decision = decide(brought, found, LONG)
    return decision.reason if decision.applies else None


def silent(since: timedelta, held: timedelta = 60 * MINUTE) -> Situation:
    """Who holds what is in force was last heard of so long ago."""
    in_force = replace(IN_FORCE, held_at=NOW - held)
    return situation(in_force, OLD, holders=(Holder("n", "new", NOW - since),))


def test_the_first_files_of_all_are_applied() -> None:
    assert reason(MINE, Situation((), (), NOW)) == "nothing was in force"


def test_what_is_in_force_may_be_applied_again() -> None:
    assert reason(replace(MINE, hash="new"), situation()) == "these files are in force"


def test_files_that_nobody_has_brought_before_win_at_once() -> None:
    assert reason(replace(MINE, hash="x"), situation()) == "nobody has brought these files before"


def test_files_that_were_seen_before_follow() -> None:
    decision = decide(MINE, situation(), LONG)
    assert (decision.applies, decision.reason) == (
        False,
        "other schedule files are in force, from host:new",
    )
    assert decision.in_force == "new"


# Release of what is in force, release that is brought, whether the files are known, who wins.
RELEASES = [
    (None, None, False, True),
    (None, None, True, False),
    (None, 0, True, True),
    (7, None, False, False),
    (7, 6, False, False),
    (7, 6, True, False),
    (7, 7, False, True),
    (7, 7, True, False),
    (7, 8, False, True),
    (7, 8, True, True),
]


@pytest.mark.parametrize(("theirs", "ours", "is_known", "wins"), RELEASES)
def test_a_higher_release_wins_and_a_lower_one_never_does_by_being_new(
    theirs: int | None, ours: int | None, is_known: bool, wins: bool
) -> None:
    known = (replace(IN_FORCE, release=theirs), *([OLD] if is_known else []))
    decision = decide(replace(MINE, release=ours), situation(*known), LONG)
    assert decision.applies is wins


def test_who_is_behind_by_his_release_hears_both_numbers() -> None:
    known = replace(IN_FORCE, release=7)
    decision = decide(replace(MINE, release=6), situation(known, OLD), LONG)
    assert decision.reason == "schedule files of release 7 are in force, and these are of release 6"


# Silence.


def test_files_are_taken_over_from_when_nobody_who_holds_them_has_been_heard_of() -> None:
    assert (
        reason(MINE, silent(LONG)) == "no daemon with the files in force has been heard of for 15m"
    )
    assert reason(MINE, silent(LONG - SECOND)) is None


def test_a_daemon_that_signed_off_is_silent_from_then_on() -> None:
    in_force = replace(IN_FORCE, held_at=NOW - LONG + SECOND)
    assert reason(MINE, situation(in_force, OLD, holders=())) is None
    in_force = replace(IN_FORCE, held_at=NOW - LONG)
    assert reason(MINE, situation(in_force, OLD, holders=())) is not None


def test_one_holder_who_is_heard_of_is_enough() -> None:
    found = silent(LONG)
    found = replace(found, holders=(*found.holders, Holder("m", "new", NOW - MINUTE)))
    assert reason(MINE, found) is None


@pytest.mark.parametrize(
    "contact",
    [
        None,
        Contact(NOW - IN_TOUCH_FOR + SECOND, NOW - SECOND),
        Contact(NOW - LONG, NOW - LONGEST_PAUSE - SECOND),
        Contact(NOW - LONG, NOW + SECOND),
    ],
    ids=["just started", "not for long", "was cut off", "the clock went back"],
)
def test_who_has_not_been_in_touch_himself_takes_nothing_over(contact: Contact | None) -> None:
    assert reason(replace(MINE, contact=contact), silent(LONG)) is None


def test_contact_begins_anew_after_a_pause() -> None:
    contact = Contact(NOW, NOW).at(NOW + LONGEST_PAUSE)
    assert contact == Contact(NOW, NOW + LONGEST_PAUSE)
    late = contact.last + LONGEST_PAUSE + SECOND
    assert contact.at(late) == Contact(late, late)


@pytest.mark.parametrize(
    ("other", "taken"),
    [
        (Known("older", None, NOW - 180 * MINUTE), True),
        (Known("newer", None, NOW - 90 * MINUTE), False),
        (Known("higher", 3, NOW - 180 * MINUTE), False),
    ],
    ids=lambda value: getattr(value, "hash", None),
)
def test_of_several_who_could_take_over_the_newest_does(other: Known, taken: bool) -> None:
    found = silent(LONG)
    found = replace(
        found,
        known=(*found.known, other),
        holders=(*found.holders, Holder("p", other.hash, NOW - SECOND)),
    )
    assert (reason(MINE, found) is not None) is taken
    gone = replace(found, holders=(*found.holders[:1], Holder("p", other.hash, NOW - MINUTE)))
    assert reason(MINE, gone) is not None


# Editing, and undoing.

UNDONE = replace(MINE, place="host:new", loaded_under="new")


def test_who_brought_it_may_load_something_else() -> None:
    expected = "what was in force came from here, and no other daemon holds it"
    own = (Holder("o", "new", NOW), Holder("p", "old", NOW))
    assert reason(UNDONE, situation(holders=own)) == expected
    newer = replace(IN_FORCE, release=7)
    lower = replace(UNDONE, release=6)
    assert reason(lower, situation(newer, OLD, holders=own)) == expected


def test_but_not_while_another_living_daemon_holds_it() -> None:
    assert reason(UNDONE, situation(holders=(HOLDER,))) is None
    assert reason(UNDONE, situation(holders=(replace(HOLDER, heartbeat_at=NOW - MINUTE),)))


def test_nor_from_another_place_nor_with_files_loaded_before_it_came_in_force() -> None:
    just_left = situation(replace(IN_FORCE, held_at=NOW - SECOND), OLD, holders=())
    assert reason(UNDONE, just_left) is not None
    assert reason(replace(UNDONE, place="host:old"), just_left) is None
    assert reason(replace(UNDONE, loaded_under="old"), just_left) is None


# Files with a fault.

FAULTY = replace(MINE, hash="part", is_complete=False)


def test_good_files_beside_a_faulty_one_are_applied() -> None:
    assert reason(FAULTY, situation()) == "the files without a fault add and change"


def test_a_faulty_file_makes_no_follower_win() -> None:
    assert reason(replace(FAULTY, was_following=True), situation()) is None
    in_force = replace(IN_FORCE, release=7)
    assert reason(replace(FAULTY, release=6), situation(in_force)) is None
    assert reason(replace(FAULTY, release=8, was_following=True), situation(in_force))
