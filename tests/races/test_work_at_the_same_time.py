"""Claim, finish, renewal, rescue and upkeep at the same time: nobody stands in another's way for good."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import insert

from cronqueue.claim import Band, Claimant, Claimed, claim, find_lanes, new_token
from cronqueue.database import Database
from cronqueue.finish import Finished, finish, release
from cronqueue.lease import look, renew
from cronqueue.models import Job
from cronqueue.prune import expire, prune
from cronqueue.rescue import Death, rescue, return_jobs
from cronqueue.retry import Verdict
from job_rows import now, query

JOBS = 2_000
LEASE = timedelta(milliseconds=40)
SECONDS = 2.0
# Most are tried again, so that there is work until the end.
VERDICTS = [
    Verdict("succeeded"),
    Verdict("succeeded", result_json="1"),
    *[Verdict("queued", delay=0.0, error="again", attempt_outcome="failed")] * 18,
]


class Worker:
    """Does the work of an executor and of its supervisor, each in a thread."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.claimant = Claimant(name, name, LEASE)
        self.held: dict[str, list[Claimed]] = {}
        self.finished: list[int] = []

    def execute(self) -> None:
        """Hand in what runs and claim the next, in one transaction, as an exchange does."""
        token = new_token()
        batch = [job for jobs in self.held.values() for job in jobs]
        random.shuffle(
            batch
        )  # in no common order: whoever locks in the order of ids would hide a deadlock
        ended = [
            Finished(job.id, job.lock_token, job.attempt, random.choice(VERDICTS)) for job in batch
        ]
        with self.database.begin() as connection:
            ours = finish(self.database, connection, ended)
            lanes = find_lanes(self.database, connection, Band())
            jobs = claim(self.database, connection, lanes, 20, self.claimant, token)
            release(self.database, connection, token, [job.id for job in jobs[15:]])
        self.finished += [
            each.job_id
            for each in ended
            if each.verdict.state == "succeeded" and each.job_id in ours
        ]
        self.held = {token: jobs[:15]} if jobs else {}

    def keep_up(self) -> None:
        """Renew, look, rescue and keep house."""
        tokens = list(self.held)
        renew(self.database, tokens, LEASE)
        look(self.database, tokens)
        rescue(self.database)
        return_jobs(self.database, self.claimant.worker_id, Death("it seems dead", frozenset()))
        expire(self.database)
        prune(self.database, timedelta(hours=1), keep_count=JOBS)


def test_work_at_the_same_time_neither_deadlocks_nor_ends_a_job_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cronqueue.database.WRITE_TRIES", 1
    )  # a repeated write would hide a deadlock
    databases = [Database(database_url) for _ in range(3)]
    workers = [Worker(database, f"worker-{n}") for n, database in enumerate(databases)]
    job = {"task": "demo.add", "max_attempts": 1_000_000, "run_at": now() - timedelta(minutes=1)}
    with databases[0].begin() as connection:
        connection.execute(insert(Job), [job] * JOBS)
    errors: list[Exception] = []
    threads = [
        threading.Thread(target=_repeat, args=(work, errors))
        for worker in workers
        for work in (worker.execute, worker.keep_up)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    finished = [job_id for worker in workers for job_id in worker.finished]
    assert len(finished) == len(set(finished)) > 0
    succeeded = query(databases[0], "SELECT id FROM sched_jobs WHERE state = 'succeeded'")
    assert {job_id for (job_id,) in succeeded} == set(finished)
    for database in databases:
        database.dispose()


def _repeat(work: Callable[[], None], errors: list[Exception]) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and not errors:
        try:
            work()
        except Exception as error:
            errors.append(error)
