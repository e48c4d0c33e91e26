"""Machines whose clocks are hours wrong: what is due is for the database's clock to say."""

from __future__ import annotations

from services import CLOCKS, Stage, eventually

HOURS = 3600


def test_workers_whose_clocks_are_hours_wrong_keep_their_leases_and_start_nothing_early(
    postgres_stage: Stage,
) -> None:
    stage = postgres_stage
    for wrong_by in (-2 * HOURS, 2 * HOURS):
        stage.worker(
            *("--lease", "1s", "--concurrency", "1"),
            PYTHONPATH=str(CLOCKS),
            WRONG_CLOCK=str(wrong_by),
        )
    held = [stage.enqueue("hold", "end") for _ in range(2)]
    stage.wait_for_notes("began", 2)
    seen: set[object] = set()

    def are_renewed_again_and_again() -> bool:
        seen.update(stage.job(each).locked_until for each in held)
        return len(seen) >= 10

    eventually(are_renewed_again_and_again)
    later = [stage.enqueue("quick", delay=1) for _ in range(2)]
    stage.cue("end")

    for each in (*held, *later):
        job = stage.wait_for(each)
        assert job.attempts == 1
        assert job.started_at is not None
        assert job.started_at >= job.run_at
    assert len({stage.job(each).locked_by for each in held}) == 2
