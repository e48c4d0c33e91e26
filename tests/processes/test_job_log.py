"""The log of a job that a real worker runs."""

from __future__ import annotations

from cronqueue.loglines import read_lines
from services import Stage, eventually


def test_lines_are_there_while_the_job_runs_and_all_of_them_when_it_has_ended(stage: Stage) -> None:
    stage.worker()
    job = stage.enqueue("say", "end")

    def messages() -> list[str]:
        return [line.message for line in read_lines(stage.database, job)]

    eventually(messages, "a line of a job that runs")
    assert (stage.job(job).state, messages()) == ("running", ["waits for end"])

    stage.cue("end")
    stage.wait_for(job)
    assert messages() == ["waits for end", "goes on"]


def test_what_was_said_before_the_process_died_stays(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker()
    job = sqlite_stage.enqueue("say", "end", max_attempts=1)
    eventually(lambda: read_lines(sqlite_stage.database, job), "a line of a job that runs")
    worker.destroy()
    assert [line.message for line in read_lines(sqlite_stage.database, job)] == ["waits for end"]
