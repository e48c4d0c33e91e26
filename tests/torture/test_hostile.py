"""Cases that a hostile review thought of, staged with real processes. They take too long for every run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from cronqueue import Job, enqueue, schema
from cronqueue.database import Database
from cronqueue.errors import DatabaseUnreachable
from cronsched.cli.exits import NO_DATABASE
from job_rows import all_jobs, configured, query
from postgres_server import PostgresServer
from services import NO_ARGUMENTS, Stage, eventually, few_connections, stage_in
from torture import history
from torture.test_storm import QUICK

VICTIMS = Path(__file__).parent / "victims.py"


@pytest.fixture
def stage(database_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage on each kind of database."""
    with stage_in(tmp_path, database_url) as stage:
        yield stage


@pytest.fixture
def postgres_stage(postgres_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage on PostgreSQL."""
    with stage_in(tmp_path, postgres_url) as stage:
        yield stage


@pytest.mark.timeout(600)
def test_no_living_worker_loses_its_job_while_the_database_is_away_for_three_leases(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    lease, workers = 5.0, 20
    url = own_postgres_server.url()
    database = Database(url)
    schema.upgrade(database)
    database.dispose()
    with stage_in(tmp_path, url) as stage:
        services = [
            stage.worker("--lease", f"{lease:g}s", "--concurrency", "1") for _ in range(workers)
        ]
        jobs = [stage.enqueue("hold", "end") for _ in range(workers)]
        eventually(lambda: len(stage.notes("began")) == workers, "start of all", within=180)

        own_postgres_server.stop("immediate")
        time.sleep(3 * lease)
        stage.database.dispose()
        own_postgres_server.start()
        for service in services:
            service.wait_for_line("the database is back")
        # All are in touch again, and whoever would take the others' jobs has had the time to.
        time.sleep(2 * lease)
        stage.cue("end")

        assert {stage.wait_for(job).attempts for job in jobs} == {1}
        assert len(stage.notes("began")) == workers


@pytest.mark.timeout(600)
def test_more_workers_than_the_server_has_connections_for_do_their_jobs(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with few_connections(own_postgres_server, tmp_path, limit=8) as stage:
        jobs = stage.enqueue_quick(500)
        services = [stage.worker("--lease", "5s") for _ in range(12)]

        def is_through() -> bool:
            for index, each in enumerate(services):
                # As a service manager does: what finds no connection at its start ends, and is started again.
                if (code := each.process.poll()) is not None:
                    assert code == NO_DATABASE, each.lines()
                    services[index] = stage.worker("--lease", "5s")
            was_refused = any(each.said(REFUSED) for each in stage.services)
            return was_refused and _unended(stage) == 0

        for _ in range(3):
            eventually(is_through, "the end of all", within=300)
            jobs += stage.enqueue_quick(500)
        eventually(is_through, "the end of all", within=300)
        assert {note.job_id for note in stage.notes("ran")} == set(jobs)
        assert {job.state for job in all_jobs(stage.database)} == {"succeeded"}


@pytest.mark.timeout(300)
def test_a_thousand_jobs_behind_one_that_crashes_are_done(stage: Stage) -> None:
    shutil.copy(VICTIMS, stage.schedules)
    places = 8
    (stage.schedules / "deep.py").write_text(DEEP_BUFFER)
    # Short jobs first, until the buffer is as large as it may be; then all that is here is claimed at once.
    stage.enqueue_quick(6000)
    stage.worker("--lease", "10m", SCHED_READ_AHEAD="3000", **QUICK)
    eventually(lambda: _unended(stage) == 0, "the end of the first", within=200)
    kinds = [("victims.crash", 1, 3), *[("tasks.quick", 0, 25)] * 1000]
    rows = [
        {"task": task, "args_json": NO_ARGUMENTS, "priority": priority, "max_attempts": attempts}
        for task, priority, attempts in kinds
    ]
    with stage.database.begin() as connection:
        crash, *behind = sorted(connection.execute(insert(Job).returning(Job.id), rows).scalars())

    eventually(lambda: _unended(stage) == 0, "the end of all", within=200)

    done = {job.id: job for job in all_jobs(stage.database)}
    assert (done[crash].state, done[crash].attempts) == ("failed", 3)
    assert {done[each].state for each in behind} == {"succeeded"}
    # Each attempt is a run, but for those that had a place and had not yet come to note it.
    runs = Counter(note.job_id for note in stage.notes("ran"))
    assert 0 <= sum(done[each].attempts - runs[each] for each in behind) < places
    assert sum(done[each].claims > 1 for each in behind) > 950


@pytest.mark.timeout(300)
def test_supervisor_and_executor_killed_together_again_and_again(stage: Stage) -> None:
    shutil.copy(VICTIMS, stage.schedules)
    history.record(stage.database)
    history.make_effects(stage.database)
    for _ in range(40):
        _enqueue(stage, "work", 0.3)

    for _ in range(8):
        worker = stage.worker("--lease", "1s", "--concurrency", "4", **QUICK)
        known = len(history.journal(stage.folder / "journal"))
        eventually(lambda: len(history.journal(stage.folder / "journal")) > known, "work")  # noqa: B023
        processes = [worker.pid, *worker.others()]
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
    last = stage.worker("--lease", "1s", "--concurrency", "4", **QUICK)
    eventually(lambda: _unended(stage) == 0, "the end of all", within=200)

    assert last.stop() == 0
    rows = history.rows(stage.database)
    assert Counter(row.state for row in rows) == {"succeeded": 40}
    assert list(history.wrong_changes(history.changes(stage.database))) == []
    assert list(history.wrong_runs(rows, history.journal(stage.folder / "journal"))) == []


@pytest.mark.timeout(300)
def test_renewals_and_finishes_under_load_never_deadlock(postgres_stage: Stage) -> None:
    stage = postgres_stage
    shutil.copy(VICTIMS, stage.schedules)
    for _ in range(400):
        _enqueue(stage, "work", 0.25)
    stage.enqueue_quick(10_000)
    for _ in range(3):
        stage.worker("--lease", "1s", "--concurrency", "8", **QUICK)

    eventually(lambda: _unended(stage) == 0, "the end of all", within=200)

    assert query(stage.database, DEADLOCKS) == [(0,)]
    assert {job.attempts for job in all_jobs(stage.database)} == {1}


# A buffer otherwise holds what is done in a tenth of a second: hundreds of jobs on a good machine.
DEEP_BUFFER = "from cronqueue import holdings\n\nholdings.SHORT_BUFFER = 60.0\n"


@pytest.mark.timeout(300)
def test_what_ends_while_the_disk_is_full_is_handed_in_once_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    url = f"sqlite:///{small_disk}/sched.db"
    database = Database(url)
    schema.upgrade(database)
    database.dispose()
    with stage_in(tmp_path, url) as stage:
        worker = stage.worker("--lease", "10m")
        job = stage.enqueue("hold", "end")
        stage.wait_for_notes("began")
        filler = small_disk / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
        with pytest.raises(DatabaseUnreachable, match="full"):
            _enqueue_without_end(stage)
        stage.cue("end")
        # Mostly there is no room for the end of the job; now and then the log begins anew, and there is.
        eventually(
            lambda: worker.said("is away.*full") or stage.job(job).state == "succeeded", "its end"
        )
        filler.unlink()

        assert stage.wait_for(job).attempts == 1
        eventually(lambda: _unended(stage) == 0, "the end of all that was accepted", within=200)
        assert query(stage.database, "PRAGMA integrity_check") == [("ok",)]
        assert worker.stop() == 0


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk of two megabytes, in memory."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a disk to fill cannot be mounted here: that takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


REFUSED = "too many connections"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


def _enqueue_without_end(stage: Stage) -> None:
    while True:
        stage.enqueue("quick")


def _unended(stage: Stage) -> int:
    statement = "SELECT COUNT(*) FROM sched_jobs WHERE state IN ('queued', 'held', 'running')"
    ((number,),) = query(stage.database, statement)
    return int(number)


def _enqueue(stage: Stage, victim: str, *args: float, **options: Any) -> int:
    with configured(stage.database):
        return enqueue(f"victims.{victim}", args, **options).id
