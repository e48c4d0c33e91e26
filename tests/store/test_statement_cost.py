"""What the hot statements cost: the rows that they need, however many others there are.

Each piece of work is done on a table with few other rows and on one with ten times as many: future,
foreign, held, gated, running elsewhere, ended. PostgreSQL must also manage with old statistics, made
when nothing but ended jobs was there, and with none.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import insert

from cronqueue.claim import Band, Claimed, claim, claim_unknown, find_lanes, new_token, probe
from cronqueue.database import Database
from cronqueue.exchange import Order, Request, exchange
from cronqueue.finish import Retention, finish, hold_unknown, release
from cronqueue.lease import look, renew
from cronqueue.loglines import read_lines, write_lines
from cronqueue.models import Job
from cronqueue.probing import look_ahead
from cronqueue.prune import expire, prune_until
from cronqueue.rescue import Death, rescue, return_jobs
from cronqueue.retry import Verdict
from cronqueue.waiting import where_jobs_wait
from job_rows import (
    LEASE,
    SUCCEEDED,
    WORKER,
    add,
    claim_due,
    ended,
    execute,
    ids,
    now,
    said,
)
from postgres_server import PostgresServer
from statement_cost import Cost, measured

Crowds = tuple[Database, Database]
Work = Callable[[], object]

FEW, MANY = 1_000, 10_000
DAY = timedelta(days=1)
OURS = ("default", "mail")
BANDS = {
    "of all queues": Band(),
    "of some queues": Band(queues=OURS),
    "of all queues but some": Band(exclude_queues=("foreign",)),
    "within some priorities": Band(min_priority=-5, max_priority=5),
}
STATISTICS = {
    "fresh": "ANALYZE",
    "old": "",
    "none": "DELETE FROM pg_statistic; UPDATE pg_class SET reltuples = -1 WHERE relname ~ '^sched'",
}
ENDS = (
    SUCCEEDED,
    Verdict("succeeded", result_json="1"),
    Verdict("queued", delay=60.0, error="oh", attempt_outcome="failed"),
)
every_band = pytest.mark.parametrize("band", BANDS.values(), ids=BANDS)


@every_band
def test_a_claim_reads_the_jobs_that_it_takes(crowds: Crowds, band: Band) -> None:
    def prepare(database: Database) -> Work:
        add_due(database)
        return lambda: claim_due(database, 5, band=band)

    assert_same_work(crowds, prepare)


@pytest.mark.parametrize(
    ("band", "index"),
    [(Band(), "sched_jobs_due"), (Band(queues=OURS), "sched_jobs_due_by_queue")],
    ids=["of all queues", "of some queues"],
)
def test_a_claim_and_its_finish_are_planned_over_the_indexes_made_for_them(
    crowds: Crowds, band: Band, index: str
) -> None:
    _, database = crowds
    add_due(database)
    lanes = database.write(lambda connection: find_lanes(database, connection, band))
    with measured(database) as claiming:
        jobs = database.write(
            lambda connection: claim(database, connection, lanes, 5, WORKER, new_token())
        )
    batch = [ended(job, verdict) for job, verdict in zip(jobs, cycle(ENDS), strict=False)]
    with measured(database) as finishing:
        assert len(database.write(lambda connection: finish(database, connection, batch))) == 5
    assert indexes_of(claiming) == {index, "primary key"}, claiming
    assert indexes_of(finishing) == {"primary key"}, finishing


def test_a_claim_passes_over_a_paused_queue_without_reading_it(crowds: Crowds) -> None:
    def prepare(database: Database) -> Work:
        add_due(database)
        pause = "INSERT INTO sched_queues (name, paused_at) VALUES ('foreign', :at)"
        execute(database, pause, at=database.moment(now()))
        return lambda: claim_due(database, 5)

    assert_same_work(crowds, prepare)
    for database in crowds:
        execute(database, "DELETE FROM sched_queues")


def test_a_claim_that_finds_nothing_reads_nothing(crowds: Crowds) -> None:
    band = Band(queues=("quiet",))

    def prepare(database: Database) -> Work:
        order = Order(
            WORKER,
            band,
            new_token(),
            5,
            5,
            None,
            lambda name: True,
            ("demo.more",),
            looks_at_gate=False,  # the crowd has jobs there
        )
        return lambda: exchange(database, Request(order=order), Retention())

    assert_same_work(crowds, prepare)


@every_band
def test_jobs_held_for_a_worker_that_knows_their_task_are_found_at_once(
    crowds: Crowds, band: Band
) -> None:
    def prepare(database: Database) -> Work:
        for _ in range(20):
            add(database, state="held", held_reason="unknown_task", task="demo.known")
        tasks = ("demo.add", "demo.known", "demo.more")
        return in_transaction(
            database,
            lambda connection: claim_unknown(
                database, connection, tasks, band, 5, WORKER, new_token()
            ),
        )

    assert_same_work(crowds, prepare)


@every_band
def test_looking_which_priorities_wait_jumps_over_the_jobs(crowds: Crowds, band: Band) -> None:
    assert_same_work(
        crowds,
        lambda database: in_transaction(
            database, lambda connection: find_lanes(database, connection, band)
        ),
    )


def test_a_look_where_jobs_wait_reads_the_first_of_each_kind(crowds: Crowds) -> None:
    assert_same_work(
        crowds,
        lambda database: in_transaction(
            database, lambda connection: where_jobs_wait(database, connection)
        ),
    )


def test_the_look_of_an_idle_worker_reads_the_first_of_each_kind(crowds: Crowds) -> None:
    assert_same_work(
        crowds,
        lambda database: in_transaction(
            database, lambda connection: look_ahead(database, connection)
        ),
    )


@every_band
def test_a_probe_reads_the_first_job_of_each_lane(crowds: Crowds, band: Band) -> None:
    tasks = tuple(f"demo.task{number}" for number in range(5))
    assert_same_work(
        crowds,
        lambda database: in_transaction(
            database, lambda connection: probe(database, connection, band, tasks)
        ),
    )


@pytest.mark.parametrize(
    ("verdict", "retention"),
    [
        (SUCCEEDED, Retention()),
        (SUCCEEDED, Retention(drop_finished=True)),
        (Verdict("succeeded", result_json="1"), Retention()),
        (Verdict("queued", delay=60.0, error="oh", attempt_outcome="failed"), Retention()),
        (Verdict("failed", error="oh", attempt_outcome="failed"), Retention(drop_failed=True)),
    ],
    ids=["succeeded", "deleted", "with a result", "retried", "failed"],
)
def test_a_finish_reads_the_jobs_that_it_ends(
    crowds: Crowds, verdict: Verdict, retention: Retention
) -> None:
    def prepare(database: Database) -> Work:
        batch = [ended(job, verdict) for job in take(database)]
        return in_transaction(
            database, lambda connection: finish(database, connection, batch, retention)
        )

    assert_same_work(crowds, prepare)


def test_a_release_reads_the_jobs_that_it_gives_back(crowds: Crowds) -> None:
    def prepare(database: Database) -> Work:
        first, second, third = take(database, 2), take(database, 2), take(database, 2)

        def work(connection: Any) -> None:
            release(database, connection, first[0].lock_token, [job.id for job in first])
            release(database, connection, second[0].lock_token)
            hold_unknown(database, connection, third[0].lock_token, [job.id for job in third])

        return in_transaction(database, work)

    assert_same_work(crowds, prepare)


def test_log_lines_are_written_and_read_by_the_job_that_says_them(crowds: Crowds) -> None:
    def prepare(database: Database) -> Work:
        lines = [said(job, number) for job in take(database) for number in range(1, 11)]

        def work() -> None:
            write_lines(database, lines)
            assert len(read_lines(database, lines[0].job_id)) == 10

        return work

    assert_same_work(crowds, prepare)


def test_renewals_read_what_their_tokens_hold(crowds: Crowds) -> None:
    def prepare(database: Database) -> Work:
        tokens = {job.lock_token for job in [*take(database), *take(database)]}
        for token in tokens:
            let_lease_run_out(database, token)
        return lambda: (renew(database, tokens, LEASE), look(database, tokens))

    assert_same_work(crowds, prepare)


@pytest.mark.parametrize("of_one_executor", [False, True])
def test_a_rescue_reads_what_runs_and_nothing_else(crowds: Crowds, of_one_executor: bool) -> None:
    _, database = crowds

    def work(started: frozenset[int]) -> set[int]:
        if of_one_executor:
            return set(return_jobs(database, WORKER.worker_id, Death("gone", started)))
        return set(rescue(database).ids)

    work(frozenset())  # what other tests have left
    jobs = take(database)
    let_lease_run_out(database, jobs[0].lock_token)
    with measured(database) as cost:
        assert work(frozenset(ids(jobs[:2]))) == set(ids(jobs))
    # One job in forty runs; a walk over the whole table takes two steps a row at least.
    assert cost.rows < MANY / 2, cost
    assert cost.steps < MANY * 2, cost


def test_what_expires_is_found_among_all_that_waits(crowds: Crowds) -> None:
    def prepare(database: Database) -> Work:
        for _ in range(5):
            add(database, expires_at=now() - DAY)
        return lambda: expire(database)

    assert_same_work(crowds, prepare)


def test_a_prune_reads_what_it_deletes(crowds: Crowds) -> None:
    def prepare(database: Database) -> Work:
        for state in ("succeeded", "cancelled", "skipped"):
            add(database, state=state, finished_at=now() - 50 * DAY)
        return lambda: prune_until(database, now() - 7 * DAY)

    assert_same_work(crowds, prepare)


def indexes_of(cost: Cost) -> set[str]:
    """The ways by which rows of `sched_jobs` were found."""
    ways = set()
    for line in cost.plans:
        if found := _BY_INDEX.search(line):
            ways.add("primary key" if found[1] in _PRIMARY_KEYS else found[1])
        elif "Seq Scan sched_jobs:" in line or line.startswith("SCAN sched_jobs"):
            ways.add("the whole table")
    return ways


_BY_INDEX = re.compile(
    r"(?:Index Scan|Index Only Scan|USING INDEX|USING COVERING INDEX|USING) (sched_jobs_\w+|INTEGER PRIMARY)"
)
_PRIMARY_KEYS = ("sched_jobs_pkey", "INTEGER PRIMARY")


def assert_same_work(crowds: Crowds, prepare: Callable[[Database], Work]) -> None:
    """Ten times as many other rows make no difference."""
    few, many = (_cost(database, prepare(database)) for database in crowds)
    # Of each kind there are five hundred more. What may differ: a plan reads rows one by one or by the page,
    # an index is a level deeper, an update needs a new page.
    assert many.rows <= few.rows * 2 + 200, many
    assert many.pages <= few.pages * 2 + 150, many
    assert many.steps <= few.steps * 1.1 + 20, many
    assert not any(line.startswith("SCAN sched_jobs") for line in many.plans if "INDEX" not in line)


def add_due(database: Database, jobs: int = 20) -> None:
    """Jobs that a worker of ours is to take."""
    for number in range(jobs):
        add(database, queue=OURS[number % 2], run_at=now() - timedelta(hours=1))


def take(database: Database, jobs: int = 5) -> list[Claimed]:
    """Claim jobs of ours."""
    add_due(database, jobs)
    return claim_due(database, jobs, band=Band(queues=OURS))


def in_transaction(database: Database, work: Callable[[Any], object]) -> Work:
    """The work, with a connection of its own."""
    return lambda: database.write(work)


def let_lease_run_out(database: Database, lock_token: str) -> None:
    """As if the worker had not been heard of for long."""
    statement = "UPDATE sched_jobs SET locked_until = :at WHERE lock_token = :lock_token"
    execute(database, statement, at=database.moment(now() - DAY), lock_token=lock_token)


def _cost(database: Database, work: Work) -> Cost:
    with measured(database) as cost:
        work()
    return cost


def _crowd(size: int) -> list[dict[str, Any]]:
    """Rows that are not for a worker of ours."""
    old, yesterday, later = now() - 100 * DAY, now() - DAY, now() + 2 * DAY
    held = [
        {"state": "held", "held_reason": reason, "task": "other.task"}
        for reason in ("paused", "unknown_task", "overlap", "limit", "dependency")
    ]
    kinds: list[dict[str, Any]] = [
        {"state": "succeeded", "finished_at": yesterday},
        {"state": "cancelled", "finished_at": yesterday},
        {"state": "failed", "finished_at": old},
        {"run_at": later},
        {"run_at": later, "queue": "mail", "priority": 3},
        {"run_at": later, "priority": 100},
        {"run_at": later, "priority": 100, "expires_at": later + DAY},
        {"run_at": later, "queue": "quiet"},
        {"queue": "foreign"},
        {"queue": "foreign", "priority": 100},
        {"gated": True, "guard": "g"},
        {"gated": True, "guard": "g", "run_at": later},
        *held,
    ]
    running = {
        "state": "running",
        "locked_until": later,
        "locked_by": "other",
        "worker_id": "other",
    }
    rows = [kinds[number % len(kinds)] for number in range(size)]
    rows += [running | {"lock_token": f"t{number // 10}"} for number in range(size // 40)]
    return [{"task": "demo.add", "run_at": yesterday} | row for row in rows]


def _fill(url: str, size: int) -> None:
    """Put the crowd there; PostgreSQL's statistics know of the ended ones only."""
    database = Database(url)
    if database.is_postgresql:
        execute(database, "ALTER TABLE sched_jobs SET (autovacuum_enabled = false)")
    crowd = _crowd(size)
    gone = [row for row in crowd if "finished_at" in row]
    for rows in (gone, [row for row in crowd if row not in gone]):
        for columns in {tuple(row) for row in rows}:
            with database.begin() as connection:
                connection.execute(insert(Job), [row for row in rows if tuple(row) == columns])
        if database.is_postgresql and rows is gone:
            execute(database, "ANALYZE")
    database.dispose()


@pytest.fixture(scope="module")
def crowded_files(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """SQLite files with few and with many other rows. All tests share them: what each adds is little, and
    the same in both."""
    urls = []
    for size in (FEW, MANY):
        file = shutil.copy(sqlite_template, tmp_path_factory.mktemp("crowd") / f"{size}.db")
        urls.append(f"sqlite:///{file}")
        _fill(urls[-1], size)
    return urls


@pytest.fixture(scope="module")
def crowded_servers(
    postgres_server: PostgresServer,
    postgres_admin: psycopg.Connection[Any],
    postgres_template: str,
) -> Iterator[dict[str, list[str]]]:
    """The same on PostgreSQL, by their statistics."""
    names: dict[str, list[str]] = {each: [] for each in STATISTICS}
    for size in (FEW, MANY):
        old = _copy(postgres_admin, postgres_template, postgres_template)
        _fill(postgres_server.url(old), size)
        for each, statement in STATISTICS.items():
            name = _copy(postgres_admin, old, postgres_template) if statement else old
            names[each].append(name)
    urls = {each: [postgres_server.url(name) for name in names[each]] for each in names}
    for each, statement in STATISTICS.items():
        for url in urls[each]:
            _execute(url, statement)
    yield urls
    for name in (name for pair in names.values() for name in pair):
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        postgres_admin.execute(drop.format(sql.Identifier(name)))


@pytest.fixture(params=["sqlite", *(f"postgresql with {each} statistics" for each in STATISTICS)])
def crowds(request: pytest.FixtureRequest) -> Iterator[Crowds]:
    """Databases with few and with many other rows."""
    if request.param == "sqlite":
        urls = request.getfixturevalue("crowded_files")
    else:
        urls = request.getfixturevalue("crowded_servers")[request.param.split()[2]]
    few, many = Database(urls[0]), Database(urls[1])
    yield few, many
    few.dispose()
    many.dispose()


def _copy(admin: psycopg.Connection[Any], source: str, prefix: str) -> str:
    name = f"{prefix}_{uuid.uuid4().hex[:8]}"
    identifiers = sql.Identifier(name), sql.Identifier(source)
    admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*identifiers))
    return name


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)
