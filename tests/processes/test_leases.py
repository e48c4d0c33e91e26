"""Leases are kept whatever else the supervisor has to do."""

from __future__ import annotations

from sqlalchemy import text

from job_rows import WAITS_HERE, add_occurrence, at
from services import Stage, eventually


def test_leases_are_renewed_while_housekeeping_waits_for_a_lock(postgres_stage: Stage) -> None:
    stage = postgres_stage
    # The next sweep notes down that it was missed.
    add_occurrence(stage.database, expires_at=at(-30))
    with stage.database.begin() as operator:
        # What somebody does by hand, over coffee; the sweep of expired jobs waits for it.
        operator.execute(text("LOCK TABLE sched_occurrences IN ACCESS EXCLUSIVE MODE"))
        stage.worker("--lease", "2s")
        running = stage.enqueue("hold", "cue")
        stage.wait_for_notes("began")
        waits = text(f"SELECT 1 {WAITS_HERE}")
        eventually(lambda: operator.execute(waits).first(), "the sweep waits")
        seen = set()

        def is_renewed_again_and_again() -> bool:
            seen.add(stage.job(running).locked_until)
            return len(seen) >= 5

        eventually(is_renewed_again_and_again)
    stage.cue("cue")
    assert stage.wait_for(running).attempts == 1
