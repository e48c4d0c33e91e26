"""`async def` tasks: many at once in one executor, beside plain functions."""

from __future__ import annotations

from services import Stage


def test_async_and_plain_tasks_run_side_by_side_in_one_executor(sqlite_stage: Stage) -> None:
    sqlite_stage.worker("--concurrency", "60")
    plain = [sqlite_stage.enqueue("hold", "end") for _ in range(5)]
    coroutines = [sqlite_stage.enqueue("hold_async", "end") for _ in range(50)]

    began = sqlite_stage.wait_for_notes("began", 55)
    sqlite_stage.cue("end")

    for each in plain + coroutines:
        assert sqlite_stage.wait_for(each).attempts == 1
    assert len({note.pid for note in began}) == 1
