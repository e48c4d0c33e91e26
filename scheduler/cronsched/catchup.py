"""Catch-up: which of the occurrences that have come due are still to run. Pure.

    latest   the newest; the others end as coalesced into it
    all      each, oldest first, as far as they lie within a window and are not too many
    none     as latest, without those that come to the gate too late

What was made due by hand, and what has begun already, is no occurrence to be caught up with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronqueue.admission import Contender, Ended
from cronsched.options import CatchUp, Overlap

# What is let through later than this is being caught up with.
OUTAGE = timedelta(minutes=5)
# Jobs of one admission are spread at so many a second, or over a tenth of the outage if that is shorter.
SPREAD_GAP = timedelta(milliseconds=100)
SPREAD_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Policy:
    """A schedule's rules at the gate; None is no limit.

    The default is for jobs whose schedule is not known: each runs, one at a time.
    """

    overlap: Overlap = "queue_all"
    catch_up: CatchUp = "all"
    catch_up_window: timedelta | None = None
    catch_up_limit: int | None = None
    misfire_after: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A job that wants its guard, and the older ones that share its fate.

    `followers` have never started: they end as it does, or as coalesced into it. `retired` have: they
    end when it runs or waits in their place.
    """

    job: Contender
    policy: Policy
    followers: tuple[Contender, ...] = ()
    retired: tuple[Contender, ...] = ()


def catch_up(
    jobs: Sequence[Contender], policy: Policy, now: datetime
) -> tuple[list[Candidate], list[Ended]]:
    """The candidates of one schedule, and those that come too late."""
    fresh = sorted(filter(_is_fresh, jobs), key=_by_instant)
    missed = _missed(fresh, policy, now)
    late = {each.id for each in missed}
    fresh = [each for each in fresh if each.id not in late]
    others = [each for each in jobs if not _is_fresh(each) and (each.is_due or each.is_waiting)]
    others = [each for each in others if each.is_ours]
    # Without a new one, the newest that waits has still to end older ones that were tried since.
    waiting = [each for each in others if not (each.has_started or each.by_hand)]
    if policy.catch_up == "all" or not (fresh or waiting):
        return [Candidate(each, policy) for each in (*others, *fresh)], missed
    newest = fresh[-1] if fresh else max(waiting, key=_by_instant)
    older = [each for each in jobs if each.id not in late and _gives_way(each, newest, policy)]
    followers = tuple(each for each in older if fresh and not each.has_started)
    retired = tuple(each for each in older if each.has_started)
    gone = {each.id for each in (newest, *followers, *retired)}
    left = [Candidate(each, policy) for each in others if each.id not in gone]
    return [*left, Candidate(newest, policy, followers, retired)], missed


def spread(
    jobs: Iterable[Contender], let_through: Collection[int], now: datetime
) -> tuple[tuple[int, datetime], ...]:
    """When those become due that are let through together after an outage.

    By their own times all of them would run before anything that is due now: jobs that are made meanwhile
    would wait until the last one has started.
    """
    late = [
        each
        for each in jobs
        if now - each.run_at > OUTAGE and each.id in let_through and _is_fresh(each)
    ]
    if len(late) < 2:
        return ()
    late.sort(key=lambda each: (-each.priority, each.run_at, each.id))
    longest = (now - min(each.run_at for each in late)) * SPREAD_SHARE
    gap = min(SPREAD_GAP, longest / len(late))
    return tuple((each.id, now + number * gap) for number, each in enumerate(late))


def _is_fresh(job: Contender) -> bool:
    """Whether it has come to the gate for the first time, by its schedule."""
    return job.is_due and job.is_ours and not (job.has_started or job.by_hand or job.is_waiting)


def _by_instant(job: Contender) -> tuple[datetime, int]:
    return (job.planned_for or job.run_at, job.id)


def _missed(fresh: Sequence[Contender], policy: Policy, now: datetime) -> list[Ended]:
    """What is too late: by `run_at` as it was first written, jitter included."""
    if policy.catch_up == "latest":
        return []
    if policy.catch_up == "none":
        late = [each for each in fresh if now - each.run_at > policy.misfire_after]
        return [Ended(each.id, "skipped", "missed:late") for each in late]
    window, limit = policy.catch_up_window, policy.catch_up_limit
    old = [each for each in fresh if window is not None and now - each.run_at > window]
    rest = fresh[len(old) :]
    surplus = rest[:-limit] if limit is not None else []
    return [Ended(each.id, "skipped", "missed:window") for each in old] + [
        Ended(each.id, "skipped", "missed:limit") for each in surplus
    ]


def _gives_way(job: Contender, newest: Contender, policy: Policy) -> bool:
    """Whether an unfinished job of the schedule is superseded by its newest due occurrence."""
    if not job.is_ours or job.by_hand or job.state == "running" or job.id == newest.id:
        return False
    if (
        job.planned_for is None
        or newest.planned_for is None
        or job.planned_for > newest.planned_for
    ):
        return False
    if job.held_reason not in (None, "unknown_task", "overlap"):
        return False  # an operator holds it
    # Those that wait by queue_all all run.
    return not (job.is_waiting and not job.has_started and policy.overlap == "queue_all")
