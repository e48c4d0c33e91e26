"""The database goes away and comes back while jobs run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import make_url

from cronqueue import enqueue, schema
from cronqueue.database import Database
from cronqueue.errors import OutcomeUnknown
from job_rows import all_jobs, configured, execute, query
from postgres_server import PostgresServer
from services import Stage, behind_proxy, eventually

# What a server says after an INSERT of one row.
INSERTED = b"C\x00\x00\x00\x0fINSERT 0 1\x00"


def test_a_worker_goes_on_by_itself_after_the_database_restarted(
    own_postgres_server: PostgresServer, stage_on_own_server: Stage
) -> None:
    stage = stage_on_own_server
    worker = stage.worker("--lease", "10s")
    ended, running = stage.enqueue("hold", "first"), stage.enqueue("hold", "second")
    stage.wait_for_notes("began", 2)

    own_postgres_server.stop("immediate")
    stage.cue("first")
    stage.wait_for_notes("ended", 1)
    worker.wait_for_line("the database is away")
    stage.database.dispose()
    own_postgres_server.start()

    assert stage.wait_for(ended).attempts == 1
    stage.cue("second")
    assert stage.wait_for(running).attempts == 1
    assert len(stage.notes("began")) == 2
    later = stage.enqueue("quick")
    assert stage.wait_for(later).attempts == 1
    assert worker.stop() == 0


def test_a_claim_whose_commit_is_not_heard_of_is_given_back_long_before_its_lease_ends(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with behind_proxy(own_postgres_server, tmp_path) as (stage, proxy):
        worker = stage.worker("--lease", "10m", "--concurrency", "2")
        worker.executors()

        with proxy.losing_commits(1.0):
            jobs = stage.enqueue_quick(20)
            eventually(lambda: proxy.lost >= 5, "replies that were lost")

        for each in jobs:
            assert stage.wait_for(each).attempts == 1
        assert Counter(note.job_id for note in stage.notes("ran")) == Counter(jobs)


def test_a_worker_leaves_lines_that_stand_still_and_keeps_its_job(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with behind_proxy(own_postgres_server, tmp_path) as (stage, proxy):
        worker = stage.worker("--lease", "30s")
        stage.worker("--lease", "30s", "--queues", "none")  # it would rescue the job
        job = stage.enqueue("hold", "end")
        stage.wait_for_notes("began")

        proxy.silence()

        worker.wait_for_line("is away.*no answer from the server within 10 s")
        worker.wait_for_line("the database is back")
        stage.cue("end")
        assert stage.wait_for(job).attempts == 1
        assert stage.wait_for(stage.enqueue("quick")).attempts == 1
        assert worker.stop() == 0


def test_a_worker_leaves_a_server_on_which_it_may_only_read(postgres_stage: Stage) -> None:
    stage = postgres_stage
    worker = stage.worker()
    job = stage.enqueue("hold", "end")
    stage.wait_for_notes("began")

    # As on a former primary: whoever connects anew afterwards may write again.
    name = make_url(stage.url).database
    execute(stage.database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    query(stage.database, OTHERS_ENDED)
    stage.cue("end")
    worker.wait_for_line("is away.* read-only transaction", times=2)
    stage.database.dispose()
    execute(stage.database, f"SET TRANSACTION READ WRITE; ALTER DATABASE {name} RESET ALL")
    stage.database.dispose()

    assert stage.wait_for(job).attempts == 1
    assert stage.wait_for(stage.enqueue("quick")).attempts == 1
    assert worker.stop() == 0


OTHERS_ENDED = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def test_a_worker_goes_over_to_the_file_that_replaces_its_own(sqlite_stage: Stage) -> None:
    stage, path = sqlite_stage, Path(str(make_url(sqlite_stage.url).database))
    worker = stage.worker()
    stage.wait_for(stage.enqueue("quick"))

    other = Database(f"sqlite:///{path.with_name('other.db')}")
    schema.upgrade(other)
    other.dispose()
    for each in path.parent.glob(f"{path.name}*"):  # its log belongs to it
        each.unlink()
    path.with_name("other.db").rename(path)

    assert stage.wait_for(stage.enqueue("quick")).locked_by == worker.name
    assert worker.said("was replaced by another file")
    assert worker.stop() == 0


def test_an_enqueue_whose_answer_was_lost_is_one_job_when_it_is_sent_again(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with behind_proxy(own_postgres_server, tmp_path) as (stage, proxy):
        client = Database(stage.url)
        with configured(client):
            with proxy.losing_commits(1.0, INSERTED), pytest.raises(OutcomeUnknown):
                enqueue("tasks.quick", key="once")
            again = enqueue("tasks.quick", key="once")
        client.dispose()

        assert proxy.lost == 1
        assert not again.created
        assert [job.id for job in all_jobs(stage.database)] == [again.id]
