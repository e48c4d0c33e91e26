"""How soon work goes on after a fault, and how little is done until then, measured against the promise."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from cronqueue import schema
from cronqueue.database import Database
from postgres_server import PostgresServer
from services import Service, Stage, eventually, stage_in

Tell = Callable[[str], None]

LEASE = 5.0
ROUNDS = 3
# Seconds for which it is measured how much a process does.
WATCHED = 20.0


@pytest.fixture
def stage(database_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage on each kind of database."""
    with stage_in(tmp_path, database_url) as stage:
        yield stage


@pytest.fixture
def stage_on_own_server(own_postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Stage]:
    """A stage on a PostgreSQL that the test may stop and start."""
    with _stage_on(own_postgres_server.url(), tmp_path) as stage:
        yield stage


@pytest.mark.timeout(300)
def test_a_dead_workers_jobs_begin_elsewhere_within_the_lease_and_two_seconds(
    stage: Stage, tell: Tell
) -> None:
    options = ("--lease", f"{LEASE:g}s", "--concurrency", "4")
    first, seconds = stage.worker(*options), []
    first.executors()
    for _ in range(ROUNDS):
        jobs = [stage.enqueue("hold_first_time", "never") for _ in range(4)]
        eventually(lambda: _began(stage, jobs) == 4, "start")  # noqa: B023
        second = stage.worker(*options)
        second.executors()

        first.send_all(signal.SIGKILL)
        killed_at = time.time()

        for job in jobs:
            assert stage.wait_for(job).attempts == 2
        began = [note.at for note in stage.notes("began") if note.job_id in jobs]
        seconds.append(max(began) - killed_at)
        first = second
    _tell(
        tell, stage, f"after a kill -9 (lease {LEASE:g} s) the last of 4 jobs began again", seconds
    )
    assert max(seconds) < LEASE + 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize("away", [2.0, 30.0])
def test_work_resumes_within_five_seconds_after_the_database_is_back(
    own_postgres_server: PostgresServer, stage_on_own_server: Stage, tell: Tell, away: float
) -> None:
    stage, seconds = stage_on_own_server, []
    stage.worker("--lease", f"{LEASE:g}s").executors()
    for _ in range(ROUNDS if away < LEASE else 1):
        own_postgres_server.stop("immediate")
        time.sleep(away)
        stage.database.dispose()
        own_postgres_server.start()
        back_at = time.time()

        job = stage.enqueue("quick")
        stage.wait_for(job)
        seconds.append(stage.notes("ran", job)[0].at - back_at)
    _tell(tell, stage, f"after {away:g} s without the server a new job began", seconds)
    assert max(seconds) < 5


@pytest.mark.timeout(300)
def test_work_resumes_within_ten_seconds_after_a_failover(
    own_postgres_server: PostgresServer, tmp_path: Path, tell: Tell
) -> None:
    schema_on = Database(own_postgres_server.url())
    schema.upgrade(schema_on)
    schema_on.dispose()
    standby = own_postgres_server.standby()
    try:
        with stage_in(tmp_path, _both(own_postgres_server, standby)) as stage:
            worker, daemon = stage.worker("--lease", f"{LEASE:g}s"), stage.daemon()
            running = stage.enqueue("hold", "end")
            stage.wait_for_notes("began")
            _wait_until_it_has_all(own_postgres_server, standby)

            own_postgres_server.stop("immediate")
            with _administrator(standby) as admin:
                admin.execute("SELECT pg_promote()")
            promoted_at = time.time()
            stage.database.dispose()
            stage.cue("end")
            new = stage.enqueue("quick")
            stage.wait_for(new)
            seconds = stage.notes("ran", new)[0].at - promoted_at

            assert stage.wait_for(running).attempts == 1
            _tell(tell, stage, "after a failover a new job began", [seconds])
            assert seconds < 10
            assert (worker.stop(), daemon.stop()) == (0, 0)
    finally:
        standby.discard()


@pytest.mark.timeout(300)
def test_who_has_nothing_to_do_does_next_to_nothing(stage: Stage, tell: Tell) -> None:
    worker, daemon = stage.worker(), stage.daemon()
    worker.executors()
    daemon.wait_for_line("in force")
    time.sleep(3)  # what a start still brings with it
    for service in (worker, daemon):
        _watch(tell, stage, service, "with nothing to do")


@pytest.mark.timeout(300)
def test_who_is_cut_off_does_and_says_next_to_nothing(
    own_postgres_server: PostgresServer, stage_on_own_server: Stage, tell: Tell
) -> None:
    stage = stage_on_own_server
    worker, daemon = stage.worker(), stage.daemon()
    stage.enqueue("hold", "end")
    stage.wait_for_notes("began")
    daemon.wait_for_line("in force")
    own_postgres_server.stop("immediate")
    worker.wait_for_line("away")
    for service in (worker, daemon):
        _watch(tell, stage, service, "without its database")
    own_postgres_server.start()


def _watch(tell: Tell, stage: Stage, service: Service, when: str) -> None:
    """The share of a processor that it takes, all of its processes together, and what it logs meanwhile."""
    lines, used, began = len(service.lines()), _cpu_seconds(service), time.monotonic()
    time.sleep(WATCHED)
    elapsed = time.monotonic() - began
    share = (_cpu_seconds(service) - used) / elapsed
    said = service.lines()[lines:]
    name = service.name.partition("-")[0]
    tell(
        f"{stage.database.dialect}, {name} {when}: {share:.1%} of a processor,"
        f" {len(said)} lines in {elapsed:.0f} s{_load()}"
    )
    assert share < 0.05
    # A worker's processes each say it for themselves: the supervisor, and its executor.
    causes = Counter(line.partition(" ")[2].partition(",")[0] for line in said)
    assert all(times <= 2 for times in causes.values()), causes


def _cpu_seconds(service: Service) -> float:
    ticks = 0
    for pid in (service.pid, *service.others()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _began(stage: Stage, jobs: list[int]) -> int:
    return sum(note.job_id in jobs for note in stage.notes("began"))


def _tell(tell: Tell, stage: Stage, what: str, seconds: list[float]) -> None:
    times = ", ".join(f"{each:.1f}" for each in seconds)
    tell(f"{stage.database.dialect}, {what} after {times} s{_load()}")


def _load() -> str:
    return f" (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)"


@contextmanager
def _stage_on(url: str, folder: Path) -> Iterator[Stage]:
    database = Database(url)
    schema.upgrade(database)
    database.dispose()
    with stage_in(folder, url) as stage:
        yield stage


def _both(primary: PostgresServer, standby: PostgresServer) -> str:
    """One URL with two hosts: whichever takes writes."""
    hosts = [f"127.0.0.1:{make_url(server.url()).port}" for server in (primary, standby)]
    url = make_url(primary.url()).set(host=None, port=None)
    query = {"host": hosts, "target_session_attrs": "read-write"}
    return url.update_query_dict(query).render_as_string(hide_password=False)


def _wait_until_it_has_all(primary: PostgresServer, standby: PostgresServer) -> None:
    """Replication is asynchronous here: what had not arrived would be gone."""
    with _administrator(primary) as here, _administrator(standby) as there:
        (position,) = here.execute("SELECT pg_current_wal_flush_lsn()").fetchone() or ("",)
        has_it = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        eventually(
            lambda: there.execute(has_it, [position]).fetchone() == (True,), "a standby with all"
        )


def _administrator(server: PostgresServer) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True)
