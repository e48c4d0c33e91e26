"""A worker that logs for programs: each of its lines is an object, and tells no argument."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from command import Project

LOUD = """\
import logging

from cronqueue import current_job, job


@job
def loud(secret: str) -> str:
    logging.getLogger("shop").warning("from the body", extra={"shop": 7})
    current_job().log("from the job")
    return secret


@job(max_attempts=1)
def broken(secret: str) -> None:
    raise ValueError("broken")
"""


def test_every_line_of_a_worker_is_an_object(sqlite_project: Project) -> None:
    (sqlite_project.folder / "schedules/loud.py").write_text(LOUD)
    job_id = sqlite_project.enqueue("loud.loud", "--args", '["canary"]')
    failing = sqlite_project.enqueue("loud.broken", "--args", '["canary"]')
    done = subprocess.run(
        [sys.executable, "-m", "cronsched.cli", "worker", "--burst", "-v"],
        env=os.environ | {"SCHED_LOG_FORMAT": "json", "SCHED_DATABASE_URL": sqlite_project.url},
        cwd=sqlite_project.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "canary" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["worker"] for line in lines} == {lines[0]["worker"]}
    of_body = next(line for line in lines if line["logger"] == "shop")
    told = {"job_id": job_id, "task": "loud.loud", "attempt": 1, "shop": 7}
    assert told.items() <= of_body.items()
    assert any(line["message"].endswith("from the job") for line in lines)
    ends = {line["job_id"]: line for line in lines if line["logger"] == "cronqueue.jobs"}
    assert ends[job_id]["seconds"] > 0
    assert (ends[failing]["level"], ends[failing]["queue"]) == ("error", "default")
