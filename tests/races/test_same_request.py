"""One request that arrives twice at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from cronqueue import job
from cronqueue.database import Database
from cronqueue.requests import enqueue_once
from job_rows import all_jobs


def test_of_requests_with_one_key_at_the_same_time_one_enqueues(database: Database) -> None:
    @job(name="public")
    def public() -> None: ...

    together = threading.Barrier(8)

    def send(number: int) -> tuple[int, str, bool]:
        together.wait(30)
        return enqueue_once(database, "k", {}, public.call(), "ann")

    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(send, range(8)))
    (stored,) = all_jobs(database)
    assert {job_id for job_id, *_ in answers} == {stored.id}
    assert sorted(is_new for *_, is_new in answers) == [False] * 7 + [True]
