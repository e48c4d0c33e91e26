"""What operators do to schedules: pause and resume, one occurrence, backfill."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from cronqueue import operations
from cronqueue.admission import admit
from cronqueue.database import Database
from cronqueue.errors import DefinitionError, RunAtError, StateError
from cronqueue.retry import Verdict
from cronqueue.settings import Settings
from cronsched.backfill import BackfillOptions, backfill, undo_backfill
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.materializer import top_up
from cronsched.overrides import edit, list_overrides, move, restore, skip
from cronsched.pausing import (
    Paused,
    Resumed,
    pause,
    pause_all,
    resume,
    resume_all,
    resume_due,
)
from cronsched.reconcile import apply
from cronsched.schedule_queries import are_all_paused
from cronsched.triggers import cron_trigger
from job_rows import NOW, all_jobs, at, claim_due, get, hand_in, ids, opened, pass_time, query

HOUR = timedelta(hours=1)
# NOW is four minutes past three: the next occurrences are at five past each hour.
NEXT = NOW.replace(minute=5, second=0, microsecond=0)
AGAIN = Verdict("queued", delay=60.0, error="boom", attempt_outcome="failed")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    for database in opened(database_url):
        declare(database)
        yield database


def declare(database: Database, cron: str = "5 * * * *", **options: object) -> None:
    made = Definition("s", "t", cron_trigger(cron), source="a.py", **options)  # type: ignore[arg-type]
    apply(database, make_manifest([made], [], []), Settings())


def states(database: Database) -> Counter[tuple[str, str | None]]:
    return Counter((job.state, job.held_reason or job.reason) for job in all_jobs(database))


def ledger(database: Database) -> list[str]:
    rows = query(database, "SELECT verdict FROM sched_ledger ORDER BY planned_for")
    return [verdict for (verdict,) in rows]


def job_at(database: Database, planned_for: datetime) -> int:
    (job_id,) = [job.id for job in all_jobs(database) if job.planned_for == planned_for]
    return job_id


def test_a_pause_holds_what_waits_and_what_is_written_meanwhile(database: Database) -> None:
    assert pause(database, "s", actor="ann", reason="repairs") == 24
    pass_time(database, 12 * 3600)
    top_up(database, Settings())
    assert set(states(database)) == {("held", "paused")}
    assert admit(database).ruling.admitted == ()
    assert claim_due(database) == []
    (row,) = query(database, "SELECT paused_by, paused_reason FROM sched_schedules")
    assert row == ("ann", "repairs")


def test_a_resume_skips_what_came_due_and_queues_the_rest(database: Database) -> None:
    pause(database, "s", actor="ann")
    pass_time(database, 3 * 3600)
    done = resume(database, "s", actor="ann")
    assert (done.skipped, done.queued) == (3, 21)
    assert ledger(database)[:4] == ["skipped:paused"] * 3 + ["queued"]
    assert states(database) == {("skipped", "skipped:paused"): 3, ("queued", None): 21}


def test_a_resume_with_catch_up_leaves_it_to_the_schedules_rule(database: Database) -> None:
    pause(database, "s", actor="ann")
    pass_time(database, 3 * 3600)
    assert resume(database, "s", actor="ann", catch_up=True).skipped == 0
    newest = job_at(database, NEXT + 2 * HOUR)
    assert admit(database).ruling.admitted == (newest,)
    assert ledger(database)[:3] == [f"coalesced:{newest}"] * 2 + ["queued"]


def test_a_pause_takes_back_what_was_let_through_and_retries_go_on_after_it(
    database: Database,
) -> None:
    pass_time(database, 3600)
    admit(database)
    (failed,) = claim_due(database)
    hand_in(database, failed, AGAIN)
    pass_time(database, 3600)
    (waits,) = admit(database).ruling.admitted
    operations.retry_job(database, failed.id, actor="ann")
    pause(database, "s", actor="ann")
    assert get(database, waits).slot is None
    resume(database, "s", actor="ann")
    assert get(database, waits).state == "skipped"
    assert get(database, failed.id).state == "queued"


def test_all_are_paused_and_resumed_and_one_that_was_paused_keeps_its_own_reason(
    database: Database,
) -> None:
    made = [
        Definition(name, "t", cron_trigger("5 * * * *"), source="a.py") for name in ("s", "u", "v")
    ]
    apply(database, make_manifest(made, [], []), Settings())
    pause(database, "u", actor="bob", reason="repairs")
    names = ["s", "u", "v", "nobody"]
    assert not are_all_paused(database)
    assert pause_all(database, names, actor="ann", reason="fire") == Paused(2, 48)
    assert are_all_paused(database)
    told = query(database, "SELECT name, paused_by, paused_reason FROM sched_schedules")
    assert sorted(told) == [("s", "ann", "fire"), ("u", "bob", "repairs"), ("v", "ann", "fire")]
    assert set(states(database)) == {("held", "paused")}
    assert resume_all(database, ["s", "v", "nobody"], actor="ann") == [Resumed(24, 0)] * 2
    assert resume_all(database, ["s"], actor="ann") == []
    assert query(database, "SELECT name FROM sched_schedules WHERE paused_at IS NOT NULL") == [
        ("u",)
    ]


def test_a_pause_ends_by_itself(database: Database) -> None:
    pause(database, "s", actor="ann", until=at(3600))
    assert resume_due(database) == 0
    pass_time(database, 3600)
    assert resume_due(database) == 1
    assert states(database) == {("skipped", "skipped:paused"): 1, ("queued", None): 23}
    with pytest.raises(StateError, match="is not paused"):
        resume(database, "s", actor="ann")


def test_a_pause_that_makes_no_sense_is_refused(database: Database) -> None:
    with pytest.raises(LookupError, match="no schedule 'nobody'"):
        pause(database, "nobody", actor="ann")
    with pytest.raises(RunAtError, match="has passed"):
        pause(database, "s", actor="ann", until=at(-1))
    with pytest.raises(RunAtError, match="no time zone"):
        pause(database, "s", actor="ann", until=datetime(2030, 1, 1))  # noqa: DTZ001
    assert set(states(database)) == {("queued", None)}


def test_an_occurrence_is_skipped_by_hand(database: Database) -> None:
    assert skip(database, "s", NEXT + HOUR, actor="ann", reason="holiday") == "done"
    assert ledger(database)[:3] == ["queued", "skipped:override", "queued"]
    job = get(database, job_at(database, NEXT + HOUR))
    assert (job.state, job.reason) == ("skipped", "skipped:override")


def test_a_move_keeps_the_planned_time_and_shifts_what_may_end_it(database: Database) -> None:
    declare(database, start_within=timedelta(minutes=10))
    assert move(database, "s", NEXT, NEXT + 10 * HOUR, actor="ann") == "done"
    job = get(database, job_at(database, NEXT))
    assert (job.run_at, job.planned_for, job.pinned) == (NEXT + 10 * HOUR, NEXT, True)
    assert job.expires_at == NEXT + 10 * HOUR + timedelta(minutes=10)


def test_a_moved_one_waits_for_its_guard_and_is_not_coalesced(database: Database) -> None:
    move(database, "s", NEXT, NEXT + HOUR, actor="ann")
    pass_time(database, 3700)
    ruling = admit(database).ruling
    assert len(ruling.admitted) == len(ruling.waiting) == 1
    assert ruling.ended == ()
    assert get(database, ruling.admitted[0]).planned_for == NEXT + HOUR


def test_decisions_survive_an_edit_of_the_schedule(database: Database) -> None:
    skip(database, "s", NEXT, actor="ann")
    move(database, "s", NEXT + HOUR, NEXT + 90 * timedelta(minutes=1), actor="ann")
    edit(database, "s", NEXT + 2 * HOUR, 9, actor="ann")
    declare(database, priority=3)
    declare(database, cron="5,35 * * * *", priority=3)
    assert ledger(database)[:3] == ["skipped:override", "queued", "queued"]
    moved = get(database, job_at(database, NEXT + HOUR))
    assert (moved.run_at, moved.priority) == (NEXT + 90 * timedelta(minutes=1), 0)
    assert get(database, job_at(database, NEXT + 2 * HOUR)).priority == 9
    assert get(database, job_at(database, NEXT + 3 * HOUR)).priority == 3


def test_a_decision_can_be_made_beyond_the_horizon(database: Database) -> None:
    late = NEXT + 30 * HOUR
    assert skip(database, "s", late, actor="ann") == "noted"
    assert move(database, "s", late + HOUR, late + 3 * HOUR, actor="ann") == "noted"
    assert edit(database, "s", late + 2 * HOUR, 7, actor="ann") == "noted"
    pass_time(database, 12 * 3600)
    top_up(database, Settings())
    verdicts = dict(query(database, "SELECT planned_for, verdict FROM sched_ledger"))
    assert "skipped:override" in verdicts.values()
    assert late not in {job.planned_for for job in all_jobs(database)}
    moved = get(database, job_at(database, late + HOUR))
    assert (moved.run_at, moved.pinned) == (late + 3 * HOUR, True)
    assert get(database, job_at(database, late + 2 * HOUR)).priority == 7
    assert [each.action for each in list_overrides(database, "s")] == ["skip", "move", "edit"]


def test_a_decision_about_nothing_is_refused(database: Database) -> None:
    with pytest.raises(DefinitionError, match=r"has no occurrence at .*; the next one is"):
        skip(database, "s", NEXT + timedelta(minutes=1), actor="ann")
    with pytest.raises(LookupError):
        skip(database, "nobody", NEXT, actor="ann")
    with pytest.raises(DefinitionError, match="priority"):
        edit(database, "s", NEXT, 2**40, actor="ann")
    pass_time(database, 3600)
    admit(database)
    (running,) = claim_due(database)
    with pytest.raises(StateError, match=f"it is running, job {running.id}"):
        skip(database, "s", NEXT, actor="ann")
    assert list_overrides(database, "s") == [], "nothing is noted of what was refused"


def test_what_was_decided_can_be_taken_back(database: Database) -> None:
    declare(database, start_within=timedelta(minutes=10))
    before = {job.id: (job.run_at, job.priority, job.expires_at) for job in all_jobs(database)}
    skip(database, "s", NEXT, actor="ann")
    move(database, "s", NEXT + HOUR, NEXT + 2 * HOUR, actor="ann")
    edit(database, "s", NEXT + 2 * HOUR, 9, actor="ann")
    for hours in range(3):
        assert restore(database, "s", NEXT + hours * HOUR, Settings(), actor="bob") == "done"
    after = all_jobs(database)
    assert {job.id: (job.run_at, job.priority, job.expires_at) for job in after} == before
    assert {(job.state, job.gated, job.pinned) for job in after} == {("queued", True, False)}
    assert ledger(database) == ["queued"] * len(before)
    assert list_overrides(database, "s") == []


def test_a_decision_beyond_the_horizon_is_forgotten(database: Database) -> None:
    late = NEXT + 30 * HOUR
    skip(database, "s", late, actor="ann")
    skip(database, "s", late + HOUR, actor="ann")
    assert restore(database, "s", late, Settings(), actor="ann") == "noted"
    pass_time(database, 12 * 3600)
    top_up(database, Settings())
    assert get(database, job_at(database, late)).state == "queued"
    assert restore(database, "s", late + HOUR, Settings(), actor="ann") == "done"
    assert get(database, job_at(database, late + HOUR)).state == "queued"
    assert set(ledger(database)) == {"queued"}


def test_what_is_taken_back_while_the_schedule_is_paused_is_held(database: Database) -> None:
    skip(database, "s", NEXT, actor="ann")
    pause(database, "s", actor="ann")
    restore(database, "s", NEXT, Settings(), actor="ann")
    assert set(states(database)) == {("held", "paused")}


def test_only_what_was_decided_and_has_not_begun_is_taken_back(database: Database) -> None:
    with pytest.raises(LookupError, match="nothing was decided"):
        restore(database, "s", NEXT, Settings(), actor="ann")
    edit(database, "s", NEXT, 9, actor="ann")
    pass_time(database, 3600)
    admit(database)
    (running,) = claim_due(database)
    with pytest.raises(StateError, match=f"it is running, job {running.id}"):
        restore(database, "s", NEXT, Settings(), actor="ann")
    assert len(list_overrides(database, "s")) == 1, "what was refused has changed nothing"


def test_a_backfill_fills_holes_and_reopens_what_did_not_run(database: Database) -> None:
    pass_time(database, 3 * 3600)
    admit(database)
    (ran,) = claim_due(database)
    hand_in(database, ran)
    start, end = NEXT - 3 * HOUR, NEXT + 5 * HOUR
    told = backfill(database, "s", start, end, Settings(), actor="ann", dry_run=True)
    assert (len(told.holes), len(told.reopened), told.left_alone) == (3, 2, 1)
    assert ledger(database)[:3] == [f"coalesced:{ran.id}"] * 2 + ["succeeded"]
    done = backfill(database, "s", start, end, Settings(), actor="ann")
    assert done.count == 5
    assert ledger(database)[:6] == ["queued"] * 5 + ["succeeded"]
    jobs = [job for job in all_jobs(database) if job.batch_id == done.batch_id]
    assert {job.origin for job in jobs} == {"backfill"}
    assert len({job.planned_for for job in all_jobs(database)}) == len(all_jobs(database))
    assert backfill(database, "s", start, end, Settings(), actor="ann").count == 0


def test_a_backfill_goes_on_where_its_limit_cut_it_off(database: Database) -> None:
    start = NEXT - 5 * HOUR
    options = BackfillOptions(limit=2, priority=-5, rate=2.0)
    first = backfill(database, "s", start, NEXT, Settings(), actor="ann", options=options)
    assert (first.count, first.beyond_limit) == (2, 3)
    jobs = [job for job in all_jobs(database) if job.batch_id == first.batch_id]
    assert [job.priority for job in jobs] == [-5, -5]
    assert jobs[1].run_at - jobs[0].run_at == timedelta(seconds=30)
    again = backfill(database, "s", start, NEXT, Settings(), actor="ann", options=options)
    assert again.holes[0] == first.holes[-1] + HOUR


def test_what_a_backfill_has_not_started_can_be_undone_and_filled_in_again(
    database: Database,
) -> None:
    start = NEXT - 3 * HOUR
    done = backfill(database, "s", start, NEXT, Settings(), actor="ann")
    admit(database)
    (running,) = claim_due(database)
    assert undo_backfill(database, done.batch_id, actor="ann") == 2
    assert ledger(database)[:3].count("cancelled") == 2
    assert get(database, running.id).state == "running"
    again = backfill(database, "s", start, NEXT, Settings(), actor="ann")
    assert (len(again.reopened), again.left_alone) == (2, 1)


def test_a_forced_backfill_runs_again_what_ran(database: Database) -> None:
    before = len(query(database, "SELECT 1 FROM sched_occurrences"))
    start = NEXT - 3 * HOUR
    backfill(database, "s", start, NEXT, Settings(), actor="ann")
    options = BackfillOptions(force=True)
    forced = backfill(database, "s", start, NEXT, Settings(), actor="ann", options=options)
    assert forced.count == 3
    assert len(query(database, "SELECT 1 FROM sched_occurrences")) == before + 3
    assert undo_backfill(database, forced.batch_id, actor="ann") == 3


@pytest.mark.parametrize(
    ("start", "end", "options", "complaint"),
    [
        (NEXT, NEXT, BackfillOptions(), "is not before"),
        (NEXT.replace(tzinfo=None), NEXT, BackfillOptions(), "no time zone"),
        (NEXT - HOUR, NEXT, BackfillOptions(limit=0), "limit 0"),
        (NEXT - HOUR, NEXT, BackfillOptions(rate=-1), "rate -1"),
        (NEXT - HOUR, NEXT, BackfillOptions(rate=1e-300), "rate 1e-300"),
        (NEXT - HOUR, NEXT, BackfillOptions(rate=float("nan")), "rate nan"),
    ],
)
def test_a_backfill_that_makes_no_sense_is_refused(
    database: Database, start: datetime, end: datetime, options: BackfillOptions, complaint: str
) -> None:
    with pytest.raises((RunAtError, DefinitionError), match=complaint):
        backfill(database, "s", start, end, Settings(), actor="ann", options=options)


def test_backfilled_jobs_of_a_guard_run_one_at_a_time(database: Database) -> None:
    backfill(database, "s", NEXT - 3 * HOUR, NEXT, Settings(), actor="ann")
    assert len(admit(database).ruling.admitted) == 1
    assert len(ids(claim_due(database))) == 1
