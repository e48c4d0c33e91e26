"""Everything works behind PgBouncer in transaction mode: nothing of ours outlives its transaction."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cronqueue import schema
from job_rows import query
from pgbouncer import find_pgbouncer, pgbouncer
from services import Stage, stage_in

EVERY_SECOND = """
from cronsched import every
from schedules.tasks import note


@every("1s", overlap="skip", catch_up="latest")
def tick() -> None:
    note("tick")
"""


@pytest.fixture
def stage(empty_postgres_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose programs, and the test itself, reach PostgreSQL through PgBouncer alone."""
    program = find_pgbouncer()
    if program is None:
        pytest.skip("pgbouncer is not installed (Debian, Ubuntu: apt install pgbouncer)")
    with (
        pgbouncer(program, empty_postgres_url, tmp_path) as url,
        stage_in(tmp_path, url) as stage,
    ):
        schema.upgrade(stage.database)
        yield stage


def test_jobs_are_run_retried_and_taken_over_from_the_dead(stage: Stage) -> None:
    first = stage.worker("--lease", "2s", "--concurrency", "4", SCHED_BACKOFF="0.1s")
    quick = stage.enqueue_quick(500)
    failing = stage.enqueue("fail", max_attempts=2)
    held = [stage.enqueue("hold_first_time", "never") for _ in range(3)]
    stage.wait_for_notes("began", 3)
    for each in quick:
        stage.wait_for(each)
    assert stage.wait_for(failing, "failed").attempts == 2
    second = stage.worker("--lease", "2s")
    second.executors()

    first.send_all(signal.SIGKILL)

    for each in held:
        assert stage.wait_for(each).attempts == 2
    assert len(stage.notes("ran")) == 502
    assert second.stop() == 0
    # What we would set for ourselves would be there for whoever gets the session next.
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        assert query(stage.database, f"SHOW {name}") == [("0",)]
    for service in (first, second):
        assert not service.said("away|prepared statement|no notification|a turn failed")


def test_schedules_are_written_admitted_and_audited(stage: Stage) -> None:
    (stage.schedules / "ticking.py").write_text(EVERY_SECOND)
    services = [stage.daemon(), stage.worker()]
    stage.wait_for_notes("tick", 3)

    assert stage.run("audit").returncode == 0
    for service in services:
        assert service.stop() == 0
        assert not service.said("ERROR|WARNING")
