"""`sched enqueue`, `run`, `worker --burst` and `jobs`, as their users call them; on both databases."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest

from command import Project
from cronqueue.audit import list_acts
from cronqueue.database import Database
from cronqueue.loglines import write_lines
from job_rows import add, claim_one, execute, get, hand_in, now, said

_ASKED = (
    "asked to stop;"
    " if it goes on for longer than its worker's SCHED_CANCEL_TIMEOUT, its process is ended"
)


def test_enqueue_says_the_job_its_task_and_its_time(project: Project) -> None:
    printed = project.run("enqueue", "tasks.greet", "--args", '["you"]', "--in", "2h").stdout
    assert printed.startswith("job 1: tasks.greet, ")
    assert printed.rstrip().endswith("UTC (in 2h)")


def test_enqueue_takes_every_option_of_a_job(project: Project, database: Database) -> None:
    job_id = project.enqueue(
        *("tasks.add", "--args", "[1]", "--kwargs", '{"b": 2}', "--at", "2100-01-31T07:30+01:00"),
        *("--priority", "9", "--queue", "q", "--key", "k", "--key-until", "start"),
        *("--max-attempts", "3", "--timeout", "5m", "--expires", "1h"),
    )
    job = get(database, job_id)
    assert (job.args_json, job.queue, job.priority) == ('{"args":[1],"kwargs":{"b":2}}', "q", 9)
    assert (job.key, job.key_until, job.max_attempts, job.timeout) == ("k", "start", 3, 300)
    assert job.run_at.isoformat() == "2100-01-31T06:30:00+00:00"
    assert job.expires_at is not None
    assert job.expires_at.isoformat() == "2100-01-31T07:30:00+00:00"


def test_enqueue_says_which_job_holds_the_key(project: Project) -> None:
    first = project.enqueue("tasks.greet", "--args", '["a"]', "--key", "k")
    again = project.data("enqueue", "tasks.greet", "--args", '["a"]', "--key", "k")
    assert (again["id"], again["created"]) == (first, False)
    assert (
        "holds the key"
        in project.run("enqueue", "tasks.boom", "--args", '["a"]', "--key", "k").stdout
    )


def test_an_unknown_task_is_refused_with_a_suggestion_and_stored_by_force(project: Project) -> None:
    assert "did you mean 'tasks.greet'?" in project.refused("enqueue", "tasks.great")
    assert project.data("jobs", "list") == []
    assert project.data("enqueue", "tasks.great", "--force")["task"] == "tasks.great"


def test_waiting_ends_with_7_for_a_failed_job_and_124_for_one_that_takes_too_long(
    project: Project, database: Database
) -> None:
    failed = add(
        database, state="failed", failed_at=now(), finished_at=now(), reason="attempts spent"
    )
    late = project.run(
        "enqueue", "tasks.greet", "--args", '["a"]', "--wait-timeout", "20ms", code=124
    )
    assert "is queued; waiting for its end" in late.stderr
    assert "is still queued" in late.stderr
    assert "attempts spent" in project.run("jobs", "wait", str(failed), code=7).stderr
    assert project.data("jobs", "wait", str(failed), code=7)["state"] == "failed"
    done = add(database, state="succeeded", finished_at=now(), result_json="[1]")
    assert project.data("jobs", "wait", str(done))["result"] == [1]
    assert project.data("jobs", "list", "--state", "queued")[0]["task"] == "tasks.greet"
    assert "there is no job 999" in project.refused("jobs", "wait", "999", code=5)


def test_run_calls_the_task_here_and_stores_nothing(project: Project) -> None:
    assert project.run("run", "tasks.greet", "--args", '["you"]').stdout.endswith("Hello, you!\n")
    assert project.data("run", "tasks.add", "--args", "[1]", "--kwargs", '{"b": 2}')["result"] == 3
    assert project.data("jobs", "list") == []


def test_run_shows_the_failure_of_a_task_without_frames_of_ours(project: Project) -> None:
    result = project.run("run", "tasks.boom", "--args", '["no"]', code=1)
    assert "ValueError: no\nsched: tasks.boom failed\n" in result.stderr
    assert "cronsched" not in result.stderr


def test_run_and_enqueue_name_the_argument_that_is_wrong(project: Project) -> None:
    for name in ("run", "enqueue"):
        assert (
            "missing a required argument: 'name'" in project.run(name, "tasks.greet", code=2).stderr
        )


def test_lists_filter_by_state_queue_task_schedule_and_time(
    project: Project, database: Database
) -> None:
    due = add(database, task="a", queue="q", run_at=now(), schedule="s", planned_for=now())
    later = add(database, task="b", run_at=now().replace(year=2100))
    failed = add(database, task="c", state="failed", run_at=now())

    def listed(*options: str) -> list[int]:
        return [job["id"] for job in project.data("jobs", "list", *options)]

    assert listed() == [due, later, failed]
    assert listed("--limit", "1") == [due]
    assert listed("--due") == listed("--queue", "q") == listed("--schedule", "s") == [due]
    assert listed("--due-before", "2099-01-01T00:00Z") == [due]
    assert listed("--due-before", "2101-01-01", "--tz", "Europe/London") == [due, later]
    assert listed("--task", "b") == [later]
    assert listed("--state", "queued", "--state", "failed") == [failed, later, due]


def test_an_empty_list_says_where_it_looked(project: Project) -> None:
    result = project.run("jobs", "list")
    assert result.stdout == ""
    assert result.stderr.startswith("sched: nothing to list in ")
    assert project.run("jobs", "list", "--quiet").output == ""


def test_show_tells_what_matters_and_verbose_everything(
    project: Project, database: Database
) -> None:
    job_id = str(
        add(database, task="t", state="failed", reason="attempts spent", last_error="E: 1\n")
    )
    told = project.run("jobs", "show", job_id).stdout
    assert "state     failed: attempts spent\n" in told
    assert "error     E: 1\n" in told
    assert "refunds" not in told
    assert "refunds" in project.run("jobs", "show", job_id, "-v").stdout
    assert project.data("jobs", "show", job_id)["args"] == {"args": [], "kwargs": {}}
    assert "there is no job 999" in project.refused("jobs", "show", "999", code=5)


def test_the_log_of_a_job_is_printed_with_times_attempts_and_levels(
    project: Project, database: Database
) -> None:
    claimed = claim_one(database)
    told = [said(claimed), said(claimed, 2, "no\x1b[2J\nTraceback", level="error")]
    write_lines(database, told)
    job_id = str(claimed.id)
    printed = project.run("jobs", "log", job_id).stdout
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", printed).splitlines() == [
        "TIME UTC  attempt 1  info     hello",
        "TIME UTC  attempt 1  error    no\\x1b[2J",
        "    Traceback",
    ]
    assert "hello" not in project.run("jobs", "log", job_id, "-n", "1").stdout
    assert printed.splitlines() == project.run("jobs", "show", job_id).stdout.splitlines()[-3:]
    assert [each["message"] for each in project.data("jobs", "log", job_id)] == [
        each.message for each in told
    ]
    assert "choose one" in project.refused("jobs", "log", job_id, "--follow", "--json")
    assert "there is no job 999" in project.refused("jobs", "log", "999", code=5)
    write_lines(database, [said(claimed, number) for number in range(3, 13)])
    assert f"`sched jobs log {job_id}`" in project.run("jobs", "show", job_id).stdout


def test_a_log_is_followed_until_its_job_has_ended(
    project: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = claim_one(database)
    acts: list[Callable[[], object]] = [
        partial(write_lines, database, [said(claimed, 1, "first")]),
        partial(write_lines, database, [said(claimed, 2, "second"), said(claimed, 3, "last")]),
        partial(hand_in, database, claimed),
    ]
    clock = SimpleNamespace(sleep=lambda seconds: acts.pop(0)())
    monkeypatch.setattr("cronsched.cli.job_log.time", clock)
    printed = project.run("jobs", "log", str(claimed.id), "--follow").stdout
    assert [line.rpartition(" ")[2] for line in printed.splitlines()] == ["first", "second", "last"]


def test_a_job_that_has_logged_nothing_says_so(project: Project, database: Database) -> None:
    result = project.run("jobs", "log", str(add(database)))
    assert (result.stdout, "has logged nothing" in result.stderr) == ("", True)


def test_failures_are_grouped_by_task_and_error(project: Project, database: Database) -> None:
    for error in ("E: 1\n", "E: 1\n", "F: 2\n"):
        add(database, task="t", state="failed", last_error=error, failed_at=now())
    assert [(g["error"], g["count"]) for g in project.data("jobs", "failures")] == [
        ("E: 1", 2),
        ("F: 2", 1),
    ]
    lines = project.run("jobs", "failures").stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:]] == [
        ["2", "t", "E:", "1"],
        ["1", "t", "F:", "2"],
    ]


@pytest.mark.parametrize(
    ("act", "before", "after", "words"),
    [
        ("retry", "failed", "queued", "queued again; undo: sched jobs cancel 1"),
        ("cancel", "queued", "cancelled", "cancelled; undo: sched jobs retry 1"),
        ("cancel", "running", "running", _ASKED),
        ("run-now", "queued", "queued", "due now"),
        ("delete", "failed", None, "deleted"),
    ],
)
def test_an_act_on_one_job_says_what_was_done_and_how_to_undo_it(
    project: Project, database: Database, act: str, before: str, after: str | None, words: str
) -> None:
    from job_rows import find

    held = {"lock_token": "x", "locked_until": now()} if before == "running" else {}
    job_id = add(database, state=before, run_at=now(), **held)
    assert project.run("jobs", act, str(job_id)).stdout == f"job {job_id}: {words}\n"
    job = find(database, job_id)
    assert (None if job is None else job.state) == after


def test_several_ids_are_dealt_with_one_by_one(project: Project, database: Database) -> None:
    waiting, failed = add(database), add(database, state="failed")
    result = project.run("jobs", "cancel", str(failed), str(waiting), "999", code=1)
    assert f"job {waiting}: cancelled" in result.stdout
    assert "nothing left to cancel" in result.stderr
    assert "there is no job 999" in result.stderr
    told = project.data("jobs", "retry", str(waiting), "999", code=1)["refused"]
    assert [each["id"] for each in told] == [999]
    project.run("jobs", "retry", "998", "999", code=5)


def test_acts_on_what_matches_ask_first(project: Project, database: Database) -> None:
    for _ in range(3):
        add(database, state="failed")
    assert "--yes does it" in project.refused("jobs", "retry", "--state", "failed")
    assert project.data("jobs", "retry", "--task", "t", "--dry-run") == {"matched": 3}
    assert project.run("jobs", "retry", "--task", "t", "--yes").stdout == "retry: 3 jobs\n"
    assert project.run("jobs", "cancel", "--task", "t", "--yes").stdout == "cancelled 3 jobs\n"
    assert project.refused("jobs", "retry", "--state", "failed", "--yes", code=5)
    assert "say which jobs" in project.refused("jobs", "cancel")
    assert "not both" in project.refused("jobs", "cancel", "1", "--task", "t")


def test_more_jobs_than_a_page_are_all_reached(project: Project, database: Database) -> None:
    from cronqueue.insertion import NewJob, insert_jobs

    new = [NewJob("t", '{"args":[],"kwargs":{}}', "default", 0, 1)] * 1_001
    database.write(lambda connection: insert_jobs(database, connection, new))
    assert project.data("jobs", "clear", "--yes") == {"matched": 1001, "done": 1001}
    assert project.data("jobs", "list") == []


def test_clear_spares_what_runs(project: Project, database: Database) -> None:
    add(database, state="failed")
    running = add(database, state="running", lock_token="x", locked_until=now())
    assert project.run("jobs", "clear", "--yes").stdout == "delete: 1 job\n"
    assert [job["id"] for job in project.data("jobs", "list")] == [running]


def test_edit_changes_what_it_is_told_and_nothing_else(
    project: Project, database: Database
) -> None:
    job_id = project.enqueue("tasks.greet", "--args", '["a"]', "--priority", "3")
    before = get(database, job_id)
    options = ("--args", '["b"]', "--run-at", "2100-01-01T00:00Z", "--queue", "q")
    assert project.run("jobs", "edit", str(job_id), *options).stdout == f"job {job_id}: changed\n"
    job = get(database, job_id)
    assert (job.args_json, job.queue, job.priority) == ('{"args":["b"],"kwargs":{}}', "q", 3)
    assert job.run_at.isoformat() == "2100-01-01T00:00:00+00:00"
    assert (job.created_at, job.pinned) == (before.created_at, True)


def test_edit_refuses_what_enqueueing_would_refuse(project: Project, database: Database) -> None:
    job_id = str(project.enqueue("tasks.greet", "--args", '["a"]'))
    assert (
        "missing a required argument"
        in project.run("jobs", "edit", job_id, "--args", "[]", code=2).stderr
    )
    assert "priority" in project.refused("jobs", "edit", job_id, "--priority", "9999999999")
    assert "say what to change" in project.refused("jobs", "edit", job_id)
    assert "there is no job 999" in project.refused("jobs", "edit", "999", "--queue", "q", code=5)
    execute(database, "UPDATE sched_jobs SET state = 'succeeded'")
    assert "has succeeded" in project.refused("jobs", "edit", job_id, "--queue", "q", code=1)


def test_show_hides_what_stands_under_a_secret_name_unless_it_is_to_be_revealed(
    project: Project,
) -> None:
    job_id = str(project.enqueue("foreign", "--force", "--kwargs", '{"password": "hunter2"}'))
    for words in ((), ("-v",), ("--json",)):
        assert "hunter2" not in project.run("jobs", "show", job_id, *words).output
    assert "hunter2" in project.run("jobs", "show", job_id, "--reveal").output


def test_an_edit_tells_the_audit_the_arguments_as_a_value(
    project: Project, database: Database
) -> None:
    job_id = str(project.enqueue("foreign", "--force"))
    project.run("jobs", "edit", job_id, "--kwargs", '{"password": "hunter2"}')
    (act,) = list_acts(database, target=f"job {job_id}")
    assert json.loads(act.detail_json or "")["args"]["kwargs"] == {"password": "hunter2"}


def test_jobs_are_listed_by_priority_tag_and_argument(project: Project, database: Database) -> None:
    first = project.enqueue("tasks.greet", "--args", '["order-17"]', "--priority", "5")
    project.enqueue("tasks.greet", "--args", '["order-18"]')
    tagged = add(database, tags_json='{"customer": "acme"}', priority=-1)
    for asked, expected in [
        (("--argument", "order-17"), [first]),
        (("--tag", "customer=acme"), [tagged]),
        (("--min-priority", "1"), [first]),
        (("--max-priority", "-1"), [tagged]),
    ]:
        assert [each["id"] for each in project.data("jobs", "list", *asked)] == expected
    counted = project.run("jobs", "cancel", "--min-priority", "0", "--dry-run").stdout
    assert counted == "would cancel 2 jobs\n"


def test_a_list_is_printed_as_a_file_of_all_that_match(
    project: Project, database: Database
) -> None:
    ids = [add(database, queue="q") for _ in range(60)]
    lines = project.run("jobs", "list", "--queue", "q", "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids[::-1]
    table = project.run("jobs", "list", "-o", "csv", "--limit", "3").stdout.splitlines()
    assert table[0].startswith("id,task,queue,priority,state,")
    assert len(table) == 4
    assert "not both" in project.refused("jobs", "list", "-o", "csv", "--json")
