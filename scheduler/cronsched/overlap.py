"""Overlap: what becomes of a job whose guard is held. Pure; the table is in docs/schedules.md.

    skip             it ends
    queue_one        it waits, in the place of one that waits already
    queue_all        it waits behind those that wait already
    cancel_running   as queue_one, and the running one is asked to stop
    allow            it runs: such a schedule has no guard to hold

A retry, and what was made due by hand, always waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cronqueue.admission import Contender, Ended, Ruling
from cronsched.catchup import Candidate, Policy, catch_up, spread


def judge(
    contenders: Iterable[Contender], policies: Mapping[str | None, Policy], now: datetime
) -> Ruling:
    """Decide on the jobs of any number of guards, each by itself."""
    by_guard: dict[str, list[Contender]] = {}
    contenders = list(contenders)
    for each in contenders:
        by_guard.setdefault(each.guard, []).append(each)
    bench = _Bench()
    for jobs in by_guard.values():
        _judge_guard(jobs, policies, now, bench)
    return Ruling(
        tuple(bench.ended),
        tuple(bench.admitted),
        tuple(bench.passed),
        tuple(bench.waiting),
        tuple(bench.stopping),
        spread(contenders, {*bench.admitted, *bench.passed}, now),
    )


@dataclass(slots=True)
class _Bench:
    """The decisions as they are made."""

    ended: list[Ended] = field(default_factory=list)
    admitted: list[int] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    stopping: list[int] = field(default_factory=list)

    def skip(self, jobs: Iterable[Contender], reason: str) -> None:
        self.ended += [Ended(each.id, "skipped", reason) for each in jobs]

    def take_places(self, candidate: Candidate) -> None:
        """The older ones of its schedule end: this one runs, or waits, in their place."""
        self.skip(candidate.followers, f"coalesced:{candidate.job.id}")
        self.ended += [
            Ended(each.id, "cancelled", f"superseded:{candidate.job.id}")
            for each in candidate.retired
        ]

    def wait(self, job: Contender) -> None:
        if not job.is_waiting:
            self.waiting.append(job.id)


def _judge_guard(
    jobs: Sequence[Contender],
    policies: Mapping[str | None, Policy],
    now: datetime,
    bench: _Bench,
) -> None:
    candidates = _candidates(jobs, policies, now, bench)
    holder = next((each for each in jobs if each.has_slot), None)
    if holder is not None:
        heir = _heir(holder, candidates)
        if heir is None:
            _apply_overlap(candidates, holder, bench)
            return
        winner = heir
    elif candidates:
        winner = min(candidates, key=_rank)
    else:
        return
    bench.admitted.append(winner.job.id)
    bench.take_places(winner)
    _apply_overlap([each for each in candidates if each is not winner], winner.job, bench)


def _candidates(
    jobs: Sequence[Contender],
    policies: Mapping[str | None, Policy],
    now: datetime,
    bench: _Bench,
) -> list[Candidate]:
    """Who wants the guard. Those that overlap freely are let through, and want none."""
    by_schedule: dict[str | None, list[Contender]] = {}
    for each in jobs:
        by_schedule.setdefault(each.schedule, []).append(each)
    found: list[Candidate] = []
    for schedule, group in by_schedule.items():
        policy = policies.get(schedule, Policy())
        candidates, missed = catch_up(group, policy, now)
        bench.ended += missed
        if policy.overlap == "allow":
            for candidate in candidates:
                bench.passed.append(candidate.job.id)
                bench.take_places(candidate)
        else:
            found += candidates
    return found


def _heir(holder: Contender, candidates: Sequence[Candidate]) -> Candidate | None:
    """Who takes over from a holder that no worker has started: a newer occurrence of its schedule."""
    for candidate in candidates:
        if holder.id in {each.id for each in (*candidate.followers, *candidate.retired)}:
            return candidate
    return None


def _rank(candidate: Candidate) -> tuple[int, bool, bool, bool, datetime, int]:
    """Who is first: by priority; then a retry, one that waited, a new one, one by hand, which can wait."""
    job = candidate.job
    order = (not job.has_started, not job.is_waiting, job.by_hand)
    return (-job.priority, *order, job.run_at, job.id)


def _apply_overlap(candidates: Sequence[Candidate], holder: Contender, bench: _Bench) -> None:
    """The rule of each for a guard that is held."""
    waiting: dict[str | None, Contender] = {}
    for candidate in sorted(candidates, key=_rank):
        job, overlap = candidate.job, candidate.policy.overlap
        if job.is_waiting or job.has_started or job.by_hand or _came_before(candidate, holder):
            bench.take_places(candidate)
            bench.wait(job)
            if job.is_waiting and not (
                job.has_started or job.by_hand or _came_before(candidate, holder)
            ):
                waiting[job.schedule] = job
        elif overlap == "skip":
            bench.skip((job, *candidate.followers), f"skipped:overlap:{holder.id}")
            for each in candidate.retired:
                if each.is_due:
                    bench.wait(each)
        else:
            bench.take_places(candidate)
            if overlap in ("queue_one", "cancel_running"):
                if earlier := waiting.get(job.schedule):
                    _replace(earlier, job, bench)
                if overlap == "cancel_running" and holder.state == "running":
                    bench.stopping.append(holder.id)
            bench.waiting.append(job.id)
            waiting[job.schedule] = job


def _came_before(candidate: Candidate, holder: Contender) -> bool:
    """Under "all", whether it was due before the holder started: then it only has to wait for its turn."""
    if candidate.policy.catch_up != "all":
        return False
    started = holder.started_at if holder.state == "running" else None
    return started is None or candidate.job.run_at <= started


def _replace(earlier: Contender, job: Contender, bench: _Bench) -> None:
    """The one that waits ends as coalesced into the newer one."""
    if earlier.id in bench.waiting:
        bench.waiting.remove(earlier.id)
    bench.skip([earlier], f"coalesced:{job.id}")
