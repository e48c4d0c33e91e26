"""What becomes of the jobs of one guard: catch-up and overlap together."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronqueue.admission import Contender, Ended, Ruling
from cronsched.catchup import SPREAD_GAP, Policy
from cronsched.options import CatchUp, Overlap
from cronsched.overlap import judge

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def minutes_ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def due(job_id: int, ago: float = 0.0, **values: Any) -> Contender:
    """A job that has come to the gate for the first time."""
    made = Contender(
        id=job_id,
        guard="g",
        schedule="s",
        planned_for=minutes_ago(ago),
        run_at=minutes_ago(ago),
        priority=0,
        state="queued",
        held_reason=None,
        has_slot=False,
        started_at=None,
        by_hand=False,
        is_due=True,
        is_ours=True,
    )
    return made._replace(**values)


def retry(job_id: int, ago: float = 0.0, **values: Any) -> Contender:
    return due(job_id, ago, started_at=minutes_ago(ago), **values)


def waiting(job_id: int, ago: float = 0.0, **values: Any) -> Contender:
    held = {"state": "held", "held_reason": "overlap", "is_due": False}
    return due(job_id, ago, **{**held, **values})


def running(job_id: int, ago: float = 0.0, started: float = 5.0, **values: Any) -> Contender:
    runs = {"state": "running", "has_slot": True, "is_due": False, "is_ours": False}
    return due(job_id, ago, started_at=minutes_ago(started), **{**runs, **values})


def admitted(job_id: int, ago: float = 0.0, **values: Any) -> Contender:
    return due(job_id, ago, **{"has_slot": True, "is_due": False, **values})


def rule(overlap: Overlap, catch_up: CatchUp, *jobs: Contender, **policy: Any) -> Ruling:
    return judge(jobs, {"s": Policy(overlap, catch_up, **policy)}, NOW)


def skipped(job_id: int, reason: str) -> Ended:
    return Ended(job_id, "skipped", reason)


def superseded(job_id: int, by: int) -> Ended:
    return Ended(job_id, "cancelled", f"superseded:{by}")


# Nothing of the guard runs.


@pytest.mark.parametrize("overlap", ["skip", "queue_one", "queue_all", "cancel_running"])
@pytest.mark.parametrize("catch_up", ["latest", "none"])
def test_the_newest_is_admitted_and_older_ones_end_as_coalesced(
    overlap: Overlap, catch_up: CatchUp
) -> None:
    found = rule(overlap, catch_up, due(1, 3), due(2, 2), due(3, 1), misfire_after=DAY)
    assert found == Ruling(
        ended=(skipped(1, "coalesced:3"), skipped(2, "coalesced:3")), admitted=(3,)
    )


@pytest.mark.parametrize("overlap", ["skip", "queue_one", "queue_all", "cancel_running"])
def test_all_admits_the_oldest_and_the_others_wait(overlap: Overlap) -> None:
    assert rule(overlap, "all", due(1, 3), due(2, 2), due(3, 1)) == Ruling(
        admitted=(1,), waiting=(2, 3)
    )


def test_all_admits_a_retry_before_a_new_one() -> None:
    assert rule("skip", "all", due(1, 9), retry(2, 3)) == Ruling(admitted=(2,), waiting=(1,))


def test_all_leaves_out_what_is_too_old_and_what_is_too_many() -> None:
    late = [due(job_id, 100 - job_id) for job_id in range(1, 6)]
    found = rule(
        "queue_all", "all", *late, catch_up_window=timedelta(minutes=98.5), catch_up_limit=2
    )
    assert found == Ruling(
        ended=(
            skipped(1, "missed:window"),
            skipped(2, "missed:limit"),
            skipped(3, "missed:limit"),
        ),
        admitted=(4,),
        waiting=(5,),
    )


def test_none_misses_what_comes_too_late_and_takes_the_newest_of_the_rest() -> None:
    found = rule("skip", "none", due(1, 5), due(2, 0.9), due(3, 0.5))
    assert found == Ruling(
        ended=(skipped(1, "missed:late"), skipped(2, "coalesced:3")), admitted=(3,)
    )
    assert rule("skip", "none", due(1, 5)) == Ruling(ended=(skipped(1, "missed:late"),))


def test_lateness_counts_from_run_at_with_its_jitter() -> None:
    assert rule("skip", "none", due(1, 5, run_at=minutes_ago(0.5))).admitted == (1,)


def test_one_that_no_worker_has_started_yet_gives_way_to_a_newer_one() -> None:
    assert rule("skip", "latest", admitted(1, 2), due(2)) == Ruling(
        ended=(skipped(1, "coalesced:2"),), admitted=(2,)
    )


def test_an_admitted_one_that_somebody_is_just_claiming_does_not() -> None:
    assert rule("skip", "latest", admitted(1, 2, is_ours=False), due(2)) == Ruling(
        ended=(skipped(2, "skipped:overlap:1"),)
    )


def test_under_all_an_admitted_one_keeps_its_place() -> None:
    assert rule("skip", "all", admitted(1, 2), due(2)) == Ruling(waiting=(2,))


@pytest.mark.parametrize(
    "older",
    [
        retry(1, 9),
        retry(1, 9, is_due=False, run_at=minutes_ago(-60)),  # waits in its back-off
        waiting(1, 9, started_at=minutes_ago(8)),
        admitted(1, 9, started_at=minutes_ago(8)),
        retry(1, 9, is_due=False, state="held", held_reason="unknown_task"),
    ],
)
def test_latest_ends_an_older_one_that_was_tried(older: Contender) -> None:
    assert rule("skip", "latest", older, due(2)) == Ruling(
        ended=(superseded(1, by=2),), admitted=(2,)
    )


def test_latest_ends_an_older_one_whose_task_nobody_knew() -> None:
    unknown = due(1, 9, state="held", held_reason="unknown_task", is_due=False)
    assert rule("skip", "latest", unknown, due(2)).ended == (skipped(1, "coalesced:2"),)


@pytest.mark.parametrize("reason", ["paused", "limit", "dependency"])
def test_what_is_held_by_an_operator_stays(reason: str) -> None:
    held = due(1, 9, state="held", held_reason=reason, is_due=False)
    assert rule("skip", "latest", held, due(2)) == Ruling(admitted=(2,))


# Something runs.


def test_skip_ends_it_with_the_id_of_what_runs() -> None:
    assert rule("skip", "latest", running(1, 9), due(2, 2), due(3, 1)) == Ruling(
        ended=(skipped(3, "skipped:overlap:1"), skipped(2, "skipped:overlap:1"))
    )


@pytest.mark.parametrize("catch_up", ["latest", "none"])
def test_queue_one_lets_the_newest_wait_in_the_place_of_the_earlier(catch_up: CatchUp) -> None:
    jobs = (running(1, 9), waiting(2, 3), due(3, 2), due(4, 1))
    assert rule("queue_one", catch_up, *jobs, misfire_after=DAY) == Ruling(
        ended=(skipped(2, "coalesced:4"), skipped(3, "coalesced:4")), waiting=(4,)
    )


def test_queue_all_coalesces_none_of_those_that_wait() -> None:
    jobs = (running(1, 9), waiting(2, 3), due(3, 2), due(4, 1))
    assert rule("queue_all", "latest", *jobs) == Ruling(
        ended=(skipped(3, "coalesced:4"),), waiting=(4,)
    )
    assert rule("queue_all", "all", *jobs) == Ruling(waiting=(3, 4))


def test_those_that_wait_run_oldest_first_once_the_guard_is_free() -> None:
    jobs = (waiting(2, 3), waiting(3, 2), due(4, 1))
    assert rule("queue_all", "latest", *jobs) == Ruling(admitted=(2,), waiting=(4,))


def test_cancel_running_asks_the_running_one_to_stop_and_waits() -> None:
    assert rule("cancel_running", "latest", running(1, 9), due(2, 1)) == Ruling(
        waiting=(2,), stopping=(1,)
    )


def test_under_all_what_was_due_before_the_running_one_started_waits_for_its_turn() -> None:
    jobs = (running(1, 9, started=5), due(2, 6), due(3, 5), due(4, 1))
    assert rule("skip", "all", *jobs) == Ruling(
        ended=(skipped(4, "skipped:overlap:1"),), waiting=(2, 3)
    )


def test_under_all_queue_one_replaces_only_what_came_since_the_running_one_started() -> None:
    jobs = (running(1, 9, started=5), waiting(2, 6), waiting(3, 3), due(4, 2), due(5, 1))
    assert rule("queue_one", "all", *jobs) == Ruling(
        ended=(skipped(3, "coalesced:4"), skipped(4, "coalesced:5")), waiting=(5,)
    )


@pytest.mark.parametrize("overlap", ["skip", "queue_one", "queue_all", "cancel_running"])
@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_a_due_retry_is_never_skipped(overlap: Overlap, catch_up: CatchUp) -> None:
    assert rule(overlap, catch_up, running(1, 9), retry(2, 3)) == Ruling(waiting=(2,))


def test_a_retry_outlives_a_newer_one_that_is_skipped_itself() -> None:
    other = running(1, 9, schedule="other")
    assert rule("skip", "latest", other, retry(2, 3), due(3)) == Ruling(
        ended=(skipped(3, "skipped:overlap:1"),), waiting=(2,)
    )


# By hand, freely, together.


@pytest.mark.parametrize("overlap", ["skip", "queue_one", "queue_all", "cancel_running"])
@pytest.mark.parametrize("catch_up", ["latest", "all", "none"])
def test_what_was_made_due_by_hand_waits_and_neither_coalesces_nor_is_coalesced(
    overlap: Overlap, catch_up: CatchUp
) -> None:
    by_hand = due(2, 500, by_hand=True)
    assert rule(overlap, catch_up, running(1, 9), by_hand) == Ruling(waiting=(2,))
    assert rule(overlap, catch_up, by_hand) == Ruling(admitted=(2,))
    assert all(each.id != 2 for each in rule(overlap, catch_up, by_hand, due(3)).ended)


def test_a_schedule_that_may_overlap_is_let_through_without_a_guard() -> None:
    jobs = (due(1, 3), due(2, 2), retry(3, 9))
    assert rule("allow", "latest", *jobs) == Ruling(
        ended=(skipped(1, "coalesced:2"), superseded(3, by=2)), passed=(2,)
    )
    assert rule("allow", "all", *jobs) == Ruling(passed=(3, 1, 2))
    assert rule("allow", "none", due(1, 3)) == Ruling(ended=(skipped(1, "missed:late"),))


def test_schedules_that_share_a_guard_go_by_priority_and_each_by_its_own_rule() -> None:
    policies: dict[str | None, Policy] = {
        "a": Policy("skip", "latest"),
        "b": Policy("queue_one", "latest"),
    }
    a, b = due(1, 1, schedule="a", priority=5), due(2, 9, schedule="b")
    assert judge([a, b], policies, NOW) == Ruling(admitted=(1,), waiting=(2,))
    a, b = due(1, 1, schedule="a"), due(2, 9, schedule="b", priority=5)
    assert judge([a, b], policies, NOW) == Ruling(
        ended=(skipped(1, "skipped:overlap:2"),), admitted=(2,)
    )


def test_guards_are_judged_each_by_itself() -> None:
    jobs = [due(1), due(2, guard="h", schedule="t"), running(3, guard="h", schedule="t")]
    policies: dict[str | None, Policy] = dict.fromkeys("st", Policy("skip", "latest"))
    assert judge(jobs, policies, NOW) == (
        Ruling(ended=(skipped(2, "skipped:overlap:3"),), admitted=(1,))
    )


def test_jobs_of_a_schedule_that_is_not_known_run_one_by_one() -> None:
    assert judge([due(1, 9), due(2, 1)], {}, NOW) == Ruling(admitted=(1,), waiting=(2,))


kinds = st.sampled_from([due, retry, waiting, running, admitted])
overlaps = st.sampled_from(["skip", "queue_one", "queue_all", "cancel_running"])
catch_ups = st.sampled_from(["latest", "all", "none"])


@given(
    st.lists(st.tuples(kinds, st.integers(0, 9), st.booleans()), max_size=8), overlaps, catch_ups
)
def test_every_job_at_the_gate_gets_one_answer_and_a_guard_one_holder(
    drawn: list[tuple[Any, int, bool]], overlap: Overlap, catch_up: CatchUp
) -> None:
    jobs: list[Contender] = []
    for job_id, (kind, ago, by_hand) in enumerate(drawn, start=1):
        if kind in (running, admitted) and any(each.has_slot for each in jobs):
            continue
        jobs.append(kind(job_id, ago, by_hand=by_hand))
    found = rule(overlap, catch_up, *jobs)
    ended = [each.id for each in found.ended]
    answers = [*ended, *found.admitted, *found.waiting, *found.passed]
    assert len(answers) == len(set(answers))
    assert {each.id for each in jobs if each.is_due} <= set(answers)
    holders = [each.id for each in jobs if each.has_slot and each.id not in ended]
    assert len(holders) + len(found.admitted) <= 1
    if jobs:
        assert holders or found.admitted or set(ended) == {each.id for each in jobs}
    assert not {each.id for each in jobs if each.state == "running"}.intersection(answers)
    chosen = {each.id: each for each in jobs}
    assert not any(chosen[job_id].by_hand for job_id in ended)


def across(*jobs: Contender, catch_up: CatchUp = "latest") -> Ruling:
    """The jobs of as many guards, each of a schedule of its own."""
    apart = [each._replace(guard=str(each.id), schedule=str(each.id)) for each in jobs]
    return judge(apart, {str(each.id): Policy("skip", catch_up) for each in jobs}, NOW)


def test_what_is_caught_up_with_after_an_outage_is_spread_in_its_order() -> None:
    found = across(due(1, 50), due(2, 60), due(3, 0), due(4, 55, priority=9))
    assert set(found.admitted) == {1, 2, 3, 4}
    assert found.spread == tuple(
        (job_id, NOW + number * SPREAD_GAP) for number, job_id in enumerate((4, 2, 1))
    )


def test_it_is_spread_over_a_tenth_of_the_outage_at_most() -> None:
    found = across(*(due(number, 10) for number in range(1, 1_001)))
    assert len(found.spread) == 1_000
    times = [run_at for _, run_at in found.spread]
    assert times == sorted(times)
    assert NOW + timedelta(seconds=59) < times[-1] < NOW + timedelta(minutes=1)


@pytest.mark.parametrize(
    "jobs",
    [
        (due(1, 60),),
        (due(1, 4), due(2, 4)),
        (retry(1, 60), retry(2, 60)),
        (due(1, 60, by_hand=True), due(2, 60, by_hand=True)),
    ],
    ids=["one", "hardly late", "retries", "by hand"],
)
def test_what_is_alone_hardly_late_or_asked_for_keeps_its_time(jobs: tuple[Contender, ...]) -> None:
    found = across(*jobs)
    assert len(found.admitted) == len(jobs)
    assert found.spread == ()
