"""Daemons with different schedule files on one database: who applies, who follows, what becomes of rows."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cronqueue.database import Database
from cronqueue.imports import Fault
from cronqueue.settings import Settings
from cronsched import reconcile
from cronsched.daemon import Daemon, DaemonOptions
from cronsched.definition import Definition
from cronsched.deploys import Brought, Decision
from cronsched.manifest import Manifest, SourceFile, make_manifest
from cronsched.manifests import bring, in_force, put_in_force, still_in_force
from cronsched.reconcile import apply
from cronsched.triggers import Every
from deploy_orders import Move, play, random_order
from job_rows import NOW, opened, pass_time, query
from services import eventually

TAKEOVER = timedelta(minutes=2)
SETTINGS = Settings(takeover_after=TAKEOVER, horizon=timedelta(minutes=10))
MINUTE = timedelta(minutes=1)
# Every version declares this one, and another one whose times are its own.
TICK = Definition(name="tick", task="t", trigger=Every(30), source="a.py")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database whose clock stands still."""
    yield from opened(database_url)


def files(version: str, *faults: Fault) -> Manifest:
    """The schedules of a version: `v7` has one of every 7 minutes."""
    period = 60 * int(version.removeprefix("v"))
    own = replace(TICK, name="own", trigger=Every(period), source="b.py")
    sources = [SourceFile(f"{stem}.py", f"files/{stem}.py", version) for stem in "abc"]
    return make_manifest([TICK, own], faults, sources)


class Daemons:
    """Real daemons, cranked on the database's clock; their files are given to them."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.running: dict[str, Daemon] = {}
        self.versions: list[str | None] = []
        self._folder = folder
        self._loads: dict[str, Manifest] = {}

    def start(self, name: str, version: str, release: int | None = None, place: str = "") -> Daemon:
        folder = self._folder / (place or name)
        folder.mkdir(exist_ok=True)
        settings = replace(SETTINGS, release=release)
        daemon = Daemon(self.database, DaemonOptions(settings, folder, name))
        self._loads[name] = files(version)
        daemon.load = lambda: self._loads[name]  # type: ignore[method-assign]
        self.running[name] = daemon
        self._turn(daemon)
        return daemon

    def load(self, name: str, manifest: Manifest) -> None:
        """The daemon finds other files in its folder."""
        self._loads[name] = manifest
        self.running[name].reload()
        self._turn(self.running[name])

    def move(self, move: Move) -> None:
        if move.action == "start":
            self.start(move.daemon, move.version, move.release, move.place)
        elif move.action == "edit":
            self.load(move.daemon, files(move.version))
        else:
            daemon = self.running.pop(move.daemon, None)
            if daemon is not None and move.action == "stop":
                daemon._leave()

    def turn(self, seconds: float = 0.0) -> None:
        pass_time(self.database, seconds)
        for daemon in self.running.values():
            self._turn(daemon)

    def wait(self, duration: timedelta) -> None:
        for _ in range(int(duration.total_seconds()) // 10):
            self.turn(10.0)

    def version(self) -> str | None:
        """The version of which the schedules in the database are."""
        ((definition,),) = query(
            self.database, "SELECT definition FROM sched_schedules WHERE name = 'own'"
        )
        period = Definition.from_json(definition).trigger
        assert isinstance(period, Every)
        return f"v{period.seconds // 60}"

    def _turn(self, daemon: Daemon) -> None:
        daemon.turn((self.database.clock.now() - NOW).total_seconds())
        if not self.versions or self.versions[-1] != self.version():
            self.versions.append(self.version())


@pytest.fixture
def daemons(database: Database, tmp_path: Path) -> Daemons:
    return Daemons(database, tmp_path)


@pytest.mark.parametrize("seed", [1, 2, 6])
def test_deploys_in_any_order_lose_and_double_nothing(
    database: Database, daemons: Daemons, seed: int
) -> None:
    order = random_order(seed, phases=2)
    play(order, daemons, settle=(TAKEOVER + MINUTE).total_seconds())
    now = database.clock.now()
    assert daemons.version() == order.version
    assert in_force(database) == files(order.version).hash
    assert len(daemons.versions) <= order.most_switches
    ledger = "SELECT planned_for, verdict FROM sched_ledger WHERE schedule = 'tick' AND planned_for <= :now"
    ticks = query(database, ledger, now=database.moment(now))
    expected = TICK.occurrences(NOW + timedelta(seconds=1), now + timedelta(seconds=1))
    assert [verdict for _, verdict in ticks] == ["queued"] * len(list(expected))
    doubled = """SELECT schedule, planned_for FROM sched_jobs WHERE state = 'queued'
        GROUP BY schedule, planned_for HAVING COUNT(*) > 1"""
    assert query(database, doubled) == []


def test_in_an_hour_of_two_daemons_with_different_files_no_occurrence_is_lost(
    database: Database, daemons: Daemons
) -> None:
    daemons.start("old", "v3")
    daemons.start("new", "v4")
    daemons.wait(timedelta(hours=1))
    assert daemons.versions == ["v3", "v4"]
    now = database.clock.now()
    ledger = "SELECT planned_for, verdict FROM sched_ledger WHERE schedule = 'tick' AND planned_for <= :now"
    verdicts = [verdict for _, verdict in query(database, ledger, now=database.moment(now))]
    expected = TICK.occurrences(NOW + timedelta(seconds=1), now + timedelta(seconds=1))
    assert verdicts == ["queued"] * len(list(expected))


def test_a_follower_takes_over_by_itself_when_the_others_stay_silent(
    daemons: Daemons, caplog: pytest.LogCaptureFixture
) -> None:
    daemons.start("old", "v3")
    daemons.start("new", "v4")
    daemons.wait(MINUTE)
    assert daemons.version() == "v4"
    del daemons.running["new"]
    daemons.wait(TAKEOVER - MINUTE / 2)
    assert daemons.version() == "v4"
    said = re.findall(
        r"other schedule files are in force, from \S+/new: this daemon only tops up", caplog.text
    )
    assert len(said) == 1
    daemons.wait(MINUTE)
    assert daemons.version() == "v3"


def test_daemons_that_were_cut_off_together_change_nothing(
    database: Database, daemons: Daemons
) -> None:
    daemons.start("old", "v3")
    daemons.start("new", "v4")
    daemons.wait(MINUTE)
    pass_time(database, 10 * TAKEOVER.total_seconds())
    daemons.wait(2 * TAKEOVER)
    assert daemons.versions == ["v3", "v4"]


def test_a_daemon_that_ends_in_order_keeps_its_files_in_force_for_a_while(
    daemons: Daemons,
) -> None:
    daemons.start("old", "v3")
    daemons.start("new", "v4", place="first")
    daemons.wait(2 * TAKEOVER)
    daemons.move(Move(0, "stop", "new"))
    daemons.wait(MINUTE)
    daemons.start("new", "v4", place="second")
    daemons.wait(2 * TAKEOVER)
    assert daemons.versions == ["v3", "v4"]


def test_an_edit_is_undone_at_once_where_it_was_made(daemons: Daemons) -> None:
    daemons.start("here", "v3")
    daemons.start("there", "v3")
    daemons.load("here", files("v4"))
    daemons.load("here", files("v3"))
    assert daemons.versions == ["v3", "v4", "v3"]


def test_a_daemon_that_is_overtaken_follows_and_what_came_later_stays(daemons: Daemons) -> None:
    daemons.start("old", "v3", release=1)
    daemons.start("new", "v4", release=2)
    daemons.start("straggler", "v5", release=1)
    daemons.wait(MINUTE)
    assert daemons.versions == ["v3", "v4"]


# A file with a fault.

BROKEN = Fault("files/c.py", 1, "SyntaxError: invalid syntax")


def test_good_files_beside_a_faulty_one_change_but_are_not_remembered(
    database: Database, daemons: Daemons
) -> None:
    daemons.start("old", "v3")
    daemons.start("new", "v3")
    daemons.load("new", files("v4", BROKEN))
    daemons.wait(TAKEOVER)
    assert daemons.versions == ["v3", "v4"]
    assert query(database, "SELECT hash FROM sched_manifests") == [(files("v3").hash,)]
    daemons.load("new", files("v4"))
    assert in_force(database) == files("v4").hash


def test_a_follower_of_whose_files_one_breaks_stays_a_follower(daemons: Daemons) -> None:
    daemons.start("old", "v3")
    daemons.start("new", "v4")
    daemons.wait(MINUTE)
    daemons.load("old", files("v3", BROKEN))
    assert daemons.versions == ["v3", "v4"]


# By hand.


def test_what_is_put_in_force_by_hand_wins_and_is_not_won_back(
    database: Database, daemons: Daemons
) -> None:
    daemons.start("new", "v4", release=2)
    old = files("v3")
    assert not put_in_force(database, old, 1)
    assert put_in_force(database, old, 1, force=True)
    apply(database, old, SETTINGS)
    daemons.wait(MINUTE)
    assert daemons.versions == ["v4", "v3"]
    daemons.start("newest", "v4", release=3)
    assert daemons.version() == "v4"


def test_files_with_a_fault_are_not_put_in_force_by_hand(database: Database) -> None:
    assert not put_in_force(database, files("v3", BROKEN), force=True)
    assert in_force(database) is None


# At the same moment.

WAITING = """
SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
"""


def brought(name: str, version: str) -> Brought:
    return Brought(name, name, files(version).hash)


def test_daemons_that_decide_at_the_same_moment_do_so_one_after_the_other(
    database: Database,
) -> None:
    together = threading.Barrier(4)

    def decide(number: int) -> str | None:
        together.wait(60)
        return bring(database, brought(f"d{number}", f"v{number + 1}"), TAKEOVER).in_force

    with ThreadPoolExecutor(4) as threads:
        before = list(threads.map(decide, range(4)))
    hashes = {files(f"v{number + 1}").hash for number in range(4)}
    assert {*before, in_force(database)} == {None, *hashes}


def test_an_older_daemon_that_is_still_applying_goes_no_further(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = files("v3")
    bring(database, brought("old", "v3"), TAKEOVER)
    applying, attempting = reconcile.carry_out, reconcile._Run.apply_source
    coming: list[Future[Decision]] = []

    def overtaken(*args: Any, **options: Any) -> Any:
        """The newer files come while the first of the older ones is applied, and wait for it."""
        coming.append(threads.submit(bring, database, brought("new", "v4"), TAKEOVER))
        if database.is_postgresql:
            eventually(lambda: coming[0].done() or query(database, WAITING))
        done = applying(*args, **options)
        assert not coming[0].done()
        return done

    def attempt(*args: Any) -> Any:
        done = attempting(*args)
        assert coming[0].result(60).applies
        return done

    monkeypatch.setattr(reconcile, "carry_out", overtaken)
    monkeypatch.setattr(reconcile._Run, "apply_source", attempt)
    with ThreadPoolExecutor(1) as threads:
        done = apply(database, old, SETTINGS, may_go_on=still_in_force(database, old.hash))
    assert ([effect.name for effect in done.effects], done.was_overtaken) == (["tick"], True)
    assert in_force(database) == files("v4").hash
    assert query(database, "SELECT name FROM sched_sources WHERE applied_at IS NOT NULL") == []
