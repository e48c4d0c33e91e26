"""Schedules whose runs follow one another at a fixed delay from the end of the run before."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cronqueue import operations
from cronqueue.admission import admit
from cronqueue.database import Database
from cronqueue.retry import Verdict
from cronqueue.settings import Settings
from cronsched import chains, ledger
from cronsched.chains import continue_chains
from cronsched.definition import Definition
from cronsched.ledger_audit import audit
from cronsched.manifest import make_manifest
from cronsched.materializer import top_up
from cronsched.pausing import pause, resume
from cronsched.planner import upcoming
from cronsched.plans import Plan
from cronsched.reconcile import apply
from cronsched.triggers import After, Cron
from job_rows import (
    NOW,
    SUCCEEDED,
    all_jobs,
    at,
    claim_due,
    execute,
    get,
    hand_in,
    opened,
    pass_time,
    recorded_statements,
    states,
)
from statement_cost import measured

CHAIN = Definition("s", "t", After(300), source="a.py")
FAILED = Verdict("failed", error="boom", attempt_outcome="failed")
AGAIN = Verdict("queued", delay=60.0, error="boom", attempt_outcome="failed")
# NOW has a fraction; occurrences are planned for whole seconds, never earlier than the delay.
SECOND = timedelta(seconds=1)
NEXT_SECOND = NOW.replace(microsecond=0) + SECOND


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    yield from opened(database_url)


def declare(database: Database, *made: Definition) -> Plan:
    return apply(database, make_manifest(made), Settings())


def last_planned(database: Database) -> float:
    """The seconds between the second after NOW and what the chain waits for."""
    waiting = [
        each for each in all_jobs(database) if (each.schedule, each.state) == ("s", "queued")
    ]
    (planned,) = [each.planned_for for each in waiting if each.planned_for]
    return (planned - NEXT_SECOND).total_seconds()


def run_next(database: Database, verdict: Verdict = SUCCEEDED, *, waits: float = 301) -> int:
    """Let the time come, run what is due, and end it so."""
    pass_time(database, waits)
    admit(database)
    (claimed,) = claim_due(database)
    hand_in(database, claimed, verdict)
    return claimed.id


def test_the_first_run_comes_one_delay_after_the_declaration(database: Database) -> None:
    declare(database, CHAIN)
    assert all_jobs(database) == []
    pass_time(database, 7)
    assert continue_chains(database) == 1
    (job,) = all_jobs(database)
    assert (job.planned_for, job.run_at) == (NEXT_SECOND + timedelta(minutes=5),) * 2
    assert (job.state, job.origin, job.guard) == ("queued", "schedule", "s")


def test_the_next_run_counts_from_the_end_not_from_the_sweep(database: Database) -> None:
    declare(database, CHAIN)
    continue_chains(database)
    run_next(database, waits=400)
    assert continue_chains(database) == 1
    assert last_planned(database) == 700
    run_next(database, waits=400)
    pass_time(database, 1000)
    continue_chains(database)
    assert last_planned(database) == 1100, "it is late, and due at once"


@pytest.mark.parametrize("state", ["queued", "held", "running", "a retry"])
def test_an_unfinished_run_is_waited_for(database: Database, state: str) -> None:
    declare(database, CHAIN)
    continue_chains(database)
    if state == "held":
        pause(database, "s", actor="ann")
    pass_time(database, 400)
    if state in ("running", "a retry"):
        admit(database)
        (claimed,) = claim_due(database)
        if state == "a retry":
            hand_in(database, claimed, AGAIN)
    pass_time(database, 4000)
    assert continue_chains(database) == 0
    assert len(all_jobs(database)) == 1


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "skipped", "deleted"])
def test_however_a_run_ends_the_next_one_follows(database: Database, end: str) -> None:
    declare(database, CHAIN)
    continue_chains(database)
    (job,) = all_jobs(database)
    if end == "succeeded":
        run_next(database)
    elif end == "failed":
        run_next(database, FAILED)
    elif end == "skipped":
        pause(database, "s", actor="ann")
        pass_time(database, 300 + 1)
        resume(database, "s", actor="ann")
        assert get(database, job.id).state == "skipped"
    elif end == "cancelled":
        pass_time(database, 10)
        operations.cancel_job(database, job.id, actor="ann")
    else:
        pass_time(database, 10)
        execute(database, "DELETE FROM sched_jobs")
    ended = database.clock.now()
    pass_time(database, 0 if end == "deleted" else 10)
    assert continue_chains(database) == 1
    planned = all_jobs(database)[-1].planned_for
    assert planned is not None
    assert ended + timedelta(minutes=5) <= planned < ended + timedelta(minutes=5) + SECOND


def test_a_run_by_hand_is_no_part_of_the_chain(database: Database) -> None:
    from cronsched.schedule_queries import trigger

    declare(database, CHAIN)
    trigger(database, "s", Settings(), actor="ann")
    assert continue_chains(database) == 1
    assert len(all_jobs(database)) == 2


def test_a_paused_chain_goes_on_with_a_held_row(database: Database) -> None:
    declare(database, CHAIN)
    pause(database, "s", actor="ann")
    assert continue_chains(database) == 1
    (job,) = all_jobs(database)
    assert (job.state, job.held_reason) == ("held", "paused")


@pytest.mark.parametrize(
    "made",
    [
        replace(CHAIN, enabled=False),
        replace(CHAIN, end=at(200).replace(microsecond=0)),
        replace(CHAIN, trigger=Cron("0 0 29 2 *")),
    ],
    ids=["disabled", "ended", "another kind"],
)
def test_what_is_not_to_go_on_gets_no_row(database: Database, made: Definition) -> None:
    declare(database, made)
    before = len(all_jobs(database))
    assert continue_chains(database) == 0
    assert len(all_jobs(database)) == before


def test_a_chain_begins_no_earlier_than_its_start(database: Database) -> None:
    start = at(9000).replace(microsecond=0)
    declare(database, replace(CHAIN, start=start))
    continue_chains(database)
    assert all_jobs(database)[0].planned_for == start


def test_a_removed_chain_ends_and_comes_back_from_its_return(database: Database) -> None:
    other = replace(CHAIN, name="other", trigger=Cron("5 5 * * *"))
    declare(database, CHAIN, other)
    continue_chains(database)
    declare(database, other)
    assert continue_chains(database) == 0
    pass_time(database, 5000)
    declare(database, CHAIN, other)
    continue_chains(database)
    assert last_planned(database) == 5300


def test_an_edit_of_the_payload_keeps_the_row_and_its_time(database: Database) -> None:
    declare(database, CHAIN)
    continue_chains(database)
    (before,) = all_jobs(database)
    pass_time(database, 60)
    declare(database, replace(CHAIN, priority=7))
    assert continue_chains(database) == 0
    (job,) = all_jobs(database)
    assert (job.id, job.run_at, job.priority) == (before.id, before.run_at, 7)


def test_an_edit_of_the_delay_counts_from_the_edit(database: Database) -> None:
    declare(database, CHAIN)
    continue_chains(database)
    pass_time(database, 100)
    declare(database, replace(CHAIN, trigger=After(60)))
    assert states(database) == ["cancelled"]
    continue_chains(database)
    assert last_planned(database) == 160


def test_a_schedule_may_become_a_chain_and_cease_to_be_one(database: Database) -> None:
    daily = replace(CHAIN, trigger=Cron("0 0 * * *"))
    declare(database, daily)
    declare(database, CHAIN)
    continue_chains(database)
    assert last_planned(database) == 300, "the days that were taken back do not count"
    declare(database, daily)
    assert continue_chains(database) == 0
    waiting = [job.planned_for for job in all_jobs(database) if job.state == "queued"]
    assert waiting == [each.planned_for for each in upcoming(daily, NOW, 2)]


def keep_revisions(database: Database) -> None:
    """As far as nobody has written them down yet."""
    execute(
        database,
        "INSERT INTO sched_revisions (schedule, revision, definition, kind, valid_from)"
        " SELECT name, revision, definition, 'added', valid_from FROM sched_schedules WHERE true"
        " ON CONFLICT DO NOTHING",
    )


def test_a_chain_is_neither_topped_up_nor_missed_by_the_audit(database: Database) -> None:
    declare(database, CHAIN)
    keep_revisions(database)
    for _ in range(3):
        continue_chains(database)
        run_next(database, waits=400)
    continue_chains(database)
    pass_time(database, 3600)
    assert top_up(database, Settings()).schedules == 0
    assert audit(database, NOW - SECOND, at(9000)).findings == ()


def test_the_audit_finds_a_chain_that_has_forked(database: Database) -> None:
    declare(database, CHAIN)
    keep_revisions(database)
    continue_chains(database)
    execute(
        database,
        "INSERT INTO sched_jobs (task, args, run_at, schedule, planned_for, origin, created_at, updated_at)"
        " SELECT task, args, run_at, schedule, run_at, origin, created_at, updated_at FROM sched_jobs",
    )
    execute(database, "UPDATE sched_jobs SET planned_for = created_at WHERE guard IS NULL")
    (finding,) = audit(database, NOW - SECOND, at(9000)).findings
    assert (finding.kind, finding.schedule) == ("doubled", "s")


def test_many_sweeps_at_once_write_one_row_for_each_chain(database: Database) -> None:
    made = [replace(CHAIN, name=f"s{number:02}") for number in range(40)]
    declare(database, *made)
    together = threading.Barrier(6)

    def sweep() -> int:
        together.wait()
        return continue_chains(database)

    with ThreadPoolExecutor(6) as pool:
        written = sum(each.result() for each in [pool.submit(sweep) for _ in range(6)])
    # What a sweep found locked it has left to the other one.
    written += continue_chains(database)
    assert written == 40
    assert sorted(job.schedule or "" for job in all_jobs(database)) == [each.name for each in made]


def test_who_comes_late_looks_again_under_the_lock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(database, CHAIN)
    real = chains._find_still

    def and_then_another_sweeps(*arguments: Any) -> list[str]:
        found = real(*arguments)
        monkeypatch.setattr(chains, "_find_still", real)
        assert continue_chains(database) == 1
        pass_time(database, 30)
        return found

    monkeypatch.setattr(chains, "_find_still", and_then_another_sweeps)
    assert continue_chains(database) == 0
    assert len(all_jobs(database)) == 1


def test_a_chain_that_another_sweep_is_at_is_left_to_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database.is_postgresql:
        pytest.skip("one writer at a time: nobody can be at it meanwhile")
    declare(database, CHAIN)
    continue_chains(database)
    execute(database, "DELETE FROM sched_jobs")  # so that each would plan by its own clock
    real = ledger.write

    def while_another_sweeps(*arguments: Any) -> int:
        monkeypatch.setattr(chains, "write", real)
        pass_time(database, 30)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(continue_chains, database).result() == 0
        return real(*arguments)

    monkeypatch.setattr(chains, "write", while_another_sweeps)
    assert continue_chains(database) == 1
    assert len(all_jobs(database)) == 1


def test_a_definition_that_cannot_be_read_stops_no_other(database: Database) -> None:
    declare(database, CHAIN, replace(CHAIN, name="broken"))
    stored = json.loads(CHAIN.to_json()) | {"from the future": 1}
    execute(
        database,
        "UPDATE sched_schedules SET definition = :stored WHERE name = 'broken'",
        stored=json.dumps(stored, separators=(",", ":")),
    )
    assert continue_chains(database) == 1


def test_a_sweep_finds_chains_by_the_index_among_many_schedules(database: Database) -> None:
    declare(database, CHAIN)
    execute(
        database,
        "INSERT INTO sched_schedules (name, source, definition, fingerprint, timing_hash, payload_hash, tz,"
        " valid_from, materialized_until, refill_at, created_at, updated_at)"
        " WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 3000)"
        " SELECT 'x' || n, source, definition, '', '', '', tz, valid_from, valid_from, valid_from,"
        " created_at, updated_at FROM sched_schedules, many",
    )
    execute(database, "ANALYZE")
    continue_chains(database)
    with measured(database) as cost, recorded_statements(database) as seen:
        assert continue_chains(database) == 0
    assert sum("sched_schedules" in statement for statement, _ in seen) == 1
    assert any("sched_schedules_refill" in line for line in cost.plans), str(cost)
    assert cost.rows < 50, str(cost)
    assert cost.steps < 1000, str(cost)
