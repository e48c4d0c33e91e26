"""What must hold, whatever has happened: each function reads a history and names what contradicts it."""

from __future__ import annotations

from datetime import datetime, timedelta

from simulation import job_invariants, schedule_invariants, worker_invariants
from simulation.history import History, JobRow, moment_of
from simulation.replay import Invariant, Rules, Violation

# In the calm what is due ends within this time, whatever waits before it.
STUCK_AFTER = 40.0

INVARIANTS: tuple[Invariant, ...] = (
    job_invariants.only_drawn_changes,
    job_invariants.claims_are_right,
    job_invariants.only_holders_write,
    job_invariants.ends_follow_bodies,
    job_invariants.attempts_are_bounded,
    job_invariants.the_best_is_first,
    job_invariants.paused_queues_rest,
    job_invariants.nothing_is_lost,
    job_invariants.keys_are_unique,
    worker_invariants.bodies_run_under_their_lease,
    worker_invariants.last_attempts_are_not_read_ahead,
    worker_invariants.the_dead_are_relieved,
    worker_invariants.living_workers_keep_their_jobs,
    worker_invariants.who_lost_a_job_is_told,
    schedule_invariants.guards_never_overlap,
    schedule_invariants.occurrences_are_written_once,
)


def check(history: History, rules: Rules) -> list[tuple[str, Violation]]:
    """Everything that contradicts an invariant, with its name."""
    return [(each.__name__, found) for each in INVARIANTS for found in each(history, rules)]


def is_stuck(row: JobRow, now: datetime, patience: float = STUCK_AFTER) -> bool:
    """Whether an unfinished job should have ended long ago."""
    since = now - timedelta(seconds=patience)
    return row.held_reason != "paused" and moment_of(row.run_at) < since
