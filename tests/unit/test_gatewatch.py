"""What an executor knows of the gate."""

from __future__ import annotations

from cronqueue.admission import Admission
from cronqueue.gatewatch import BUSY_GUARD_PAUSE, CROWDED_GATE_PAUSE, FAILURE_PAUSE, GateWatch

NOW = 100.0
NEVER = float("inf")


def test_after_a_full_batch_the_next_one_follows_at_once() -> None:
    assert _after(Admission(more=True)).admit_at == NOW
    assert _after(Admission(more=True, crowded=True)).admit_at == NOW


def test_after_the_last_batch_nothing_is_admitted_until_something_is_due() -> None:
    gate = _after(Admission())
    assert gate.admit_at == NEVER
    gate.looked(is_due=True)
    assert gate.admit_at == NOW


def test_due_jobs_at_which_somebody_else_was_are_looked_at_again_soon() -> None:
    assert _after(Admission(crowded=True)).admit_at == NOW + CROWDED_GATE_PAUSE


def test_a_freed_guard_at_which_somebody_else_was_is_looked_at_again_sooner() -> None:
    gate = _after(Admission(busy=frozenset({"g"}), crowded=True))
    assert gate.admit_at == NOW + BUSY_GUARD_PAUSE
    assert gate.freed == {"g"}


def test_claims_do_not_stop_at_the_gate_while_somebody_else_is_at_it() -> None:
    gate = _after(Admission(crowded=True))
    assert not gate.may_look(NOW)
    assert gate.may_look(NOW + CROWDED_GATE_PAUSE)


def test_a_guard_that_is_freed_during_an_admission_is_looked_at_by_the_next_one() -> None:
    gate = GateWatch()
    gate.handed_in(frozenset({"a"}))
    assert gate.take_freed() == {"a"}
    gate.handed_in(frozenset({"a", "b"}))  # the one that is under way may have looked before
    gate.admitted(Admission(), NOW)
    assert gate.freed == {"a", "b"}
    assert gate.admit_at == NOW


def test_after_a_failed_admission_its_guards_are_looked_at_again() -> None:
    gate = GateWatch()
    gate.handed_in(frozenset({"a"}))
    gate.failed(gate.take_freed(), NOW)
    assert gate.freed == {"a"}
    assert gate.admit_at == NOW + FAILURE_PAUSE


def test_the_guard_of_what_ends_while_another_of_it_is_handed_in_is_not_forgotten() -> None:
    gate = GateWatch()
    gate.ended.add("a")
    assert gate.take_ended() == {"a"}
    gate.ended.add("a")
    gate.handed_in(frozenset({"a"}))
    assert gate.take_ended() == {"a"}


def _after(done: Admission) -> GateWatch:
    gate = GateWatch()
    gate.looked(is_due=True)
    gate.admitted(done, NOW)
    return gate
