"""`after`: what it says, and what it cannot be joined with."""

from datetime import UTC, datetime, timedelta

import pytest

from cronqueue.registry import job
from cronsched import after, daily, schedule, union
from cronsched.collecting import collecting
from cronsched.definition import Definition, DefinitionFaults
from cronsched.lints import lint
from cronsched.planner import follow, upcoming
from cronsched.triggers import After, trigger_from_spec

NOW = datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)
CHAIN = Definition("s", "t", After(300))
LATER = datetime(2026, 1, 2, 3, 9, 6, tzinfo=UTC)


def test_it_is_declared_like_any_other_times() -> None:
    with collecting() as found:

        @after("1h30m", priority=3)
        def sync() -> None: ...

    (made,) = found.definitions.values()
    assert found.faults == []
    assert (made.trigger, made.priority) == (After(5400), 3)
    assert made.trigger.describe() == "1h 30m after the run before has ended"
    assert trigger_from_spec(made.trigger.spec()) == made.trigger
    assert Definition.from_json(made.to_json()) == made


def test_nothing_is_promised_ahead_and_that_is_not_odd() -> None:
    assert upcoming(CHAIN, NOW, 3) == ()
    assert lint([CHAIN], NOW) == []


def test_the_next_one_is_planned_for_a_whole_second_no_earlier_than_the_delay() -> None:
    planned = follow(CHAIN, NOW, None)
    assert planned is not None
    assert (planned.planned_for, planned.run_at) == (LATER, LATER)


def test_no_two_are_planned_for_the_same_second_whatever_the_clocks_did() -> None:
    planned = follow(CHAIN, NOW - timedelta(hours=1), LATER)
    assert planned is not None
    assert planned.planned_for == LATER + timedelta(seconds=1)


@pytest.mark.parametrize("delay", [0, "0s", "500ms", "1.5s", -5, "soon"])
def test_a_delay_that_is_not_in_whole_seconds_is_refused(delay: object) -> None:
    @job
    def work() -> None: ...

    with pytest.raises(DefinitionFaults, match="after"):
        schedule(work, after(delay))  # type: ignore[arg-type]


def test_what_has_no_times_ahead_is_neither_joined_nor_kept_clear_of_any() -> None:
    @job
    def work() -> None: ...

    with pytest.raises(DefinitionFaults, match="no part of a union"):
        schedule(work, union(daily(), after("5m")))
    with pytest.raises(DefinitionFaults, match="exclude= has no meaning with after"):
        schedule(work, after("5m", exclude="sat"))
