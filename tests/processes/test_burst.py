"""`sched worker --burst`, and the options that choose what a worker takes."""

from __future__ import annotations

import json
import os
import signal

from services import Stage, eventually


def test_a_burst_with_min_priority_runs_the_highest_first_and_leaves_the_lower(
    stage: Stage,
) -> None:
    jobs = {priority: stage.enqueue("quick", priority=priority) for priority in (0, 5, 2, 9)}

    assert stage.worker("--burst", "--concurrency", "1", MIN_PRIORITY="2").wait() == 0

    assert [note.job_id for note in stage.notes("ran")] == [jobs[9], jobs[5], jobs[2]]
    assert stage.job(jobs[0]).state == "queued"


def test_a_burst_ends_with_0_although_jobs_failed(sqlite_stage: Stage) -> None:
    failing = sqlite_stage.enqueue("fail", max_attempts=1)

    assert sqlite_stage.worker("--burst").wait() == 0

    assert sqlite_stage.job(failing).state == "failed"


def test_a_burst_runs_what_its_jobs_have_enqueued(stage: Stage) -> None:
    stage.enqueue("follow_up", "tasks.quick")

    assert stage.worker("--burst").wait() == 0

    assert len(stage.notes("ran")) == 2


def test_the_names_of_delayed_job_choose_what_a_worker_takes(sqlite_stage: Stage) -> None:
    chosen = sqlite_stage.enqueue("quick", queue="mail", priority=3)
    foreign = sqlite_stage.enqueue("quick", queue="other", priority=3)
    too_high = sqlite_stage.enqueue("quick", queue="mail", priority=4)
    delayed_job = {"QUEUES": "mail,post", "MAX_PRIORITY": "3", "READ_AHEAD": "1", "QUIET": "true"}

    worker = sqlite_stage.worker("--burst", SLEEP_DELAY="5", **delayed_job)

    assert worker.wait() == 0
    assert sqlite_stage.job(chosen).state == "succeeded"
    assert [sqlite_stage.job(each).state for each in (foreign, too_high)] == ["queued"] * 2
    assert worker.lines() == []


def test_queue_means_the_same_as_queues_and_others_can_be_excluded(sqlite_stage: Stage) -> None:
    mail, other = (sqlite_stage.enqueue("quick", queue=queue) for queue in ("mail", "other"))

    assert sqlite_stage.worker("--burst", QUEUE="mail").wait() == 0
    assert (sqlite_stage.job(mail).state, sqlite_stage.job(other).state) == ("succeeded", "queued")

    last = sqlite_stage.enqueue("quick", queue="mail")
    assert sqlite_stage.worker("--burst", "--exclude-queues", "mail").wait() == 0
    assert (sqlite_stage.job(other).state, sqlite_stage.job(last).state) == ("succeeded", "queued")


def test_max_jobs_is_shared_by_all_executors(stage: Stage) -> None:
    jobs = [stage.enqueue("quick") for _ in range(7)]

    assert stage.worker("--max-jobs", "5", "--processes", "2").wait() == 0

    assert [stage.job(each).state for each in jobs].count("succeeded") == 5
    assert all(stage.job(each).attempts == 0 for each in jobs if stage.job(each).state == "queued")


def test_a_worker_shows_what_it_takes_as_soon_as_it_is_ready(sqlite_stage: Stage) -> None:
    options = [
        "--processes",
        "2",
        "--queues",
        "a,b",
        "--tags",
        "zone=x,rack=7",
        "--concurrency",
        "3",
    ]
    worker = sqlite_stage.worker(*options, name="the-one", MIN_PRIORITY="-3")

    pids = worker.executors(2)

    listed = json.loads(sqlite_stage.run("workers", "list", "--json").stdout)["data"]
    assert {each["pid"] for each in listed} == set(pids)
    assert {(each["name"], each["queues"], each["min_priority"]) for each in listed} == {
        ("the-one", "a,b", -3)
    }
    assert [each["tags"] for each in listed] == [{"zone": "x", "rack": "7"}] * 2
    assert worker.said("2 executors with 3 places each")
    assert worker.stop() == 0
    assert json.loads(sqlite_stage.run("workers", "list", "--json").stdout)["data"] == []


def test_a_pool_runs_its_queue_in_places_of_its_own_and_leaves_the_others(stage: Stage) -> None:
    mail = [stage.enqueue("hold", "mail", queue="mail") for _ in range(3)]
    video = [stage.enqueue("hold", "video", queue="video") for _ in range(3)]
    other = stage.enqueue("quick", queue="other")
    worker = stage.worker("--pool", "mail:2", "--pool", "video:1")
    eventually(lambda: len(stage.notes("began")) == 3)
    assert {note.job_id for note in stage.notes("began")} == {*mail[:2], video[0]}

    stage.cue("video")  # its pool goes on, while the other one is full
    eventually(lambda: len(stage.notes("ended")) == 3)
    assert {note.job_id for note in stage.notes("ended")} == set(video)
    assert stage.job(mail[2]).state == "queued"
    stage.cue("mail")
    eventually(lambda: len(stage.notes("ended")) == 6)
    assert stage.job(other).state == "queued"
    assert worker.stop() == 0


def test_a_pool_whose_executor_died_comes_back_as_what_it_was(sqlite_stage: Stage) -> None:
    worker = sqlite_stage.worker("--pool", "mail:1", "--pool", "video:1", "--queues", "other")
    for round in (1, 2):
        jobs = [sqlite_stage.enqueue("quick", queue=each) for each in ("mail", "video", "other")]
        processes = {int(sqlite_stage.wait_for(each).result or 0) for each in jobs}
        assert len(processes) == 3
        if round == 1:
            for each in processes:
                os.kill(each, signal.SIGKILL)
    assert worker.stop() == 0
