"""A random walk through everything that can happen to schedules, which the audit must find in order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cronqueue.admission import admit
from cronqueue.database import Database
from cronqueue.errors import CronqueueError
from cronqueue.operations import retry_jobs, run_jobs_now
from cronqueue.prune import expire, prune_until
from cronqueue.retry import Verdict
from cronqueue.settings import Settings
from cronsched import applying, materializer, overrides, pausing
from cronsched.backfill import BackfillOptions, backfill, undo_backfill
from cronsched.definition import Definition
from cronsched.ledger_audit import Finding, audit
from cronsched.manifest import Manifest, SourceFile, make_manifest
from cronsched.materializer import top_up
from cronsched.reconcile import apply, plan
from cronsched.triggers import Cron, Every
from job_rows import NOW, SUCCEEDED, claim_due, execute, hand_in, opened, pass_time, query

SETTINGS = Settings()
HOUR = timedelta(hours=1)
STEPS = 120
TRIGGERS = (
    Every(900),
    Every(3600),
    Every(7 * 3600),
    Cron("5 * * * *"),
    Cron("*/20 8-17 * * *"),
    Cron("30 1 * * *", tz="Europe/Berlin"),
    Cron("0 6 * * mon"),
)
NAMES = ("a", "b", "c", "d", "e")


class Killed(BaseException):
    """The process ends here."""


class Walk:
    """One walk. Each method is a thing that happens; what it refuses to do is no fault."""

    def __init__(self, database: Database, seed: int, patch: pytest.MonkeyPatch) -> None:
        self.database = database
        self.random = random.Random(seed)
        self.patch = patch
        self.declared: dict[str, Definition] = {}
        self.batches: list[str] = []
        self.done: list[str] = []

    def step(self) -> None:
        weights = {
            self.add: 4,
            self.edit_times: 5,
            self.edit_payload: 4,
            self.remove: 3,
            self.rename: 2,
            self.pause: 2,
            self.resume: 3,
            self.decide: 4,
            self.backfill: 2,
            self.undo_backfill: 1,
            self.work: 8,
            self.fail: 3,
            self.operate: 2,
            self.sweep: 2,
            self.pass_time: 8,
            self.outage: 2,
            self.killed: 3,
            self.move_clocks: 1,
        }
        (happens,) = self.random.choices(list(weights), list(weights.values()))
        self.done.append(happens.__name__)
        happens()

    def definition(self, name: str) -> Definition:
        choose = self.random.choice
        return Definition(
            name=name,
            task="work",
            trigger=choose(TRIGGERS),
            source=choose(("a.py", "b.py")),
            jitter=choose((timedelta(0), timedelta(minutes=5))),
            overlap=choose(("skip", "queue_one", "queue_all", "allow")),
            catch_up=choose(("latest", "all", "none")),
            start_within=choose((None, timedelta(minutes=30))),
            enabled=choose((True, True, True, False)),
            horizon=choose((None, None, 6 * HOUR, 72 * HOUR)),
            on_remove=choose(("cancel", "drain")),
        )

    def manifest(self) -> Manifest:
        sources = [SourceFile(f"{stem}.py", f"files/{stem}.py", "hash") for stem in "ab"]
        return make_manifest(self.declared.values(), (), sources)

    def declare(self) -> None:
        announced = plan(self.database, self.manifest(), SETTINGS, allow_removals=True)
        done = apply(self.database, self.manifest(), SETTINGS, allow_removals=True)
        assert not done.faults
        assert done.effects == announced.effects
        self.matches(done.effects)

    def matches(self, effects: Any) -> None:
        """What was told of the rows is what stands there."""
        for effect in effects:
            for row in effect.rows:
                found = query(
                    self.database,
                    "SELECT j.state, j.run_at FROM sched_occurrences o JOIN sched_jobs j ON j.id = o.job_id"
                    " WHERE o.schedule = :name AND o.planned_for = :at",
                    name=effect.name,
                    at=self.database.moment(row.planned_for),
                )
                told = (effect.kind, row, self.done)
                assert [each[0] == "cancelled" for each in found] == [row.action == "cancel"], told
                if row.run_at is not None:
                    assert datetime.fromisoformat(str(found[0][1])) == row.run_at, told

    def one(self) -> str | None:
        return self.random.choice(sorted(self.declared)) if self.declared else None

    def add(self) -> None:
        name = self.random.choice(NAMES)
        self.declared.setdefault(name, self.definition(name))
        self.declare()

    def edit_times(self) -> None:
        if name := self.one():
            self.declared[name] = self.definition(name)
            self.declare()

    def edit_payload(self) -> None:
        if name := self.one():
            priority = self.random.randrange(10)
            self.declared[name] = replace(self.declared[name], priority=priority)
            self.declare()

    def remove(self) -> None:
        if name := self.one():
            del self.declared[name]
            self.declare()

    def rename(self) -> None:
        name, new = self.one(), self.random.choice(NAMES)
        known = {row[0] for row in query(self.database, "SELECT name FROM sched_schedules")}
        if name and new not in known:
            self.declared[new] = replace(self.declared.pop(name), name=new, renamed_from=name)
            self.declare()

    def pause(self) -> None:
        if name := self.one():
            until = self.database.clock.now() + self.random.choice((1, 9, 48)) * HOUR
            with suppress(LookupError):
                pausing.pause(
                    self.database, name, actor="me", until=self.random.choice((None, until))
                )

    def resume(self) -> None:
        pausing.resume_due(self.database)
        if name := self.one():
            with suppress(LookupError, CronqueueError):
                catch_up = self.random.random() < 0.5
                pausing.resume(self.database, name, actor="me", catch_up=catch_up)

    def decide(self) -> None:
        """Skip, move or edit an occurrence that is written, or one that is not yet."""
        if not (name := self.one()):
            return
        now = self.database.clock.now()
        after = now + self.random.choice((0, 0, 30)) * HOUR
        found = [*self.declared[name].occurrences(after, after + 200 * HOUR)][:20]
        if not found:
            return
        instant = self.random.choice(found)
        with suppress(CronqueueError, LookupError):
            match self.random.choice(("skip", "move", "edit")):
                case "skip":
                    overrides.skip(self.database, name, instant, actor="me")
                case "move":
                    to = now + self.random.randrange(-60, 3000) * timedelta(minutes=1)
                    overrides.move(self.database, name, instant, to, actor="me")
                case _:
                    overrides.edit(self.database, name, instant, 7, actor="me")

    def backfill(self) -> None:
        if name := self.one():
            now = self.database.clock.now()
            start = now - self.random.choice((3, 30, 300)) * HOUR
            with suppress(LookupError):
                done = backfill(
                    self.database,
                    name,
                    start,
                    now,
                    SETTINGS,
                    actor="me",
                    options=BackfillOptions(limit=self.random.choice((3, 50))),
                )
                self.batches.append(done.batch_id)

    def undo_backfill(self) -> None:
        if self.batches:
            undo_backfill(self.database, self.random.choice(self.batches), actor="me")

    def work(self) -> None:
        admit(self.database)
        claimed = claim_due(self.database, self.random.choice((1, 5, 100)))
        hand_in(self.database, claimed, SUCCEEDED)

    def fail(self) -> None:
        admit(self.database)
        claimed = claim_due(self.database, self.random.choice((1, 5)))
        again = self.random.choice((True, False))
        verdict = Verdict("queued", delay=600.0) if again else Verdict("failed", error="no")
        hand_in(self.database, claimed, verdict)

    def operate(self) -> None:
        ids = [row[0] for row in query(self.database, "SELECT id FROM sched_jobs ORDER BY id")]
        chosen = self.random.sample(ids, min(2, len(ids)))
        self.random.choice((retry_jobs, run_jobs_now))(self.database, chosen, actor="me")

    def sweep(self) -> None:
        expire(self.database)
        prune_until(self.database, self.database.clock.now() - 30 * HOUR)

    def pass_time(self) -> None:
        pass_time(self.database, self.random.choice((60.5, 1800, 3600, 5 * 3600)))
        self.top_up()

    def top_up(self) -> None:
        """Until nothing is due: after a long outage what is late is written in parts."""
        for _ in range(20):
            if not top_up(self.database, SETTINGS).jobs:
                return
            pass_time(self.database, 1)

    def outage(self) -> None:
        """The daemon is away for longer than the horizon; what comes next finds it so."""
        pass_time(self.database, self.random.choice((26, 80)) * 3600)

    def killed(self) -> None:
        """The process ends in the middle of a transaction."""
        module, name = self.random.choice(
            (
                (applying, "move_cursors"),
                (applying, "write"),
                (applying, "cancel"),
                (applying, "amend"),
                (applying, "record_all"),
                (materializer, "move_cursors"),
            )
        )

        def ending(*args: Any, **options: Any) -> Any:
            raise Killed

        before = dict(self.declared)
        act: Callable[[], Any] = self.top_up
        if module is applying:
            for each in sorted(self.declared):
                self.declared[each] = self.definition(each)
            act = self.apply_only
        with self.patch.context() as patch:
            patch.setattr(module, name, ending)
            with suppress(Killed):
                act()
        self.declared = self.random.choice((before, self.declared))
        self.declare()

    def apply_only(self) -> None:
        apply(self.database, self.manifest(), SETTINGS, allow_removals=True)

    def move_clocks(self) -> None:
        """As if tzdata had moved them: what is stored was computed with other offsets."""
        if name := self.one():
            statement = "UPDATE sched_schedules SET tz_fingerprint = :mark WHERE name = :name"
            execute(self.database, statement, mark="2026 UTC 0123456789abcdef", name=name)
            self.declare()

    def findings(self) -> tuple[Finding, ...]:
        return audit(self.database, NOW - 1000 * HOUR, NOW + 100_000 * HOUR).findings


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    yield from opened(database_url)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_every_promised_occurrence_has_one_verdict(
    database: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    walk = Walk(database, seed, monkeypatch)
    for number in range(STEPS):
        walk.step()
        if number % 10 == 9:
            assert walk.findings() == (), walk.done
    walk.top_up()
    walk.declare()
    assert walk.findings() == ()
