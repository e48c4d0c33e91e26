"""Enqueueing in a caller's transaction: it commits the job or does not, and workers hear of it after that."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from cronqueue import Job, configuration, configure, enqueue, enqueue_many, hook, job, wakeup
from cronqueue.database import Database
from cronqueue.errors import ArgumentError, ConfigurationError, SchemaMismatch, StateError
from job_rows import configured, query


@job(name="sessions.greet")
def greet(name: str) -> str:
    return name


@pytest.fixture(autouse=True)
def _configured(request: pytest.FixtureRequest) -> Iterator[None]:
    if "database_url" not in request.fixturenames:
        yield
        return
    with configured(request.getfixturevalue("database")):
        yield


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine as a user makes it, with the driver's own way to begin a transaction."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The databases whose workers were told of new jobs."""
    told: list[str] = []
    monkeypatch.setattr(wakeup, "notify", lambda database: told.append(database.dialect))
    return told


def count(database: Database) -> int:
    (row,) = query(database, "SELECT COUNT(*) FROM sched_jobs")
    number: int = row[0]
    return number


def test_a_users_own_engine_commits_the_job_with_the_rest(
    database: Database, engine: Engine
) -> None:
    with Session(engine) as session, session.begin():
        session.execute(text("CREATE TABLE users (id int)"))
        made = greet.options(session=session).enqueue("you")
        assert count(database) == 0
    assert (count(database), made.refresh().state) == (1, "queued")


def test_a_rollback_takes_the_job_along(database: Database, engine: Engine) -> None:
    with Session(engine) as session:
        greet.options(session=session).enqueue("you")
        enqueue_many([greet.call("a"), greet.options(key="k").call("b")], session=session)
        session.rollback()
    assert count(database) == 0


def test_a_scoped_session_is_the_session_of_this_thread(database: Database, engine: Engine) -> None:
    registry = scoped_session(sessionmaker(engine))
    greet.options(session=registry).enqueue("you")
    assert registry().in_transaction()
    registry.rollback()
    assert count(database) == 0
    greet.options(session=registry).enqueue("you")
    registry.commit()
    registry.remove()
    assert count(database) == 1


def test_a_scoped_session_stays_in_its_thread_when_enqueued_asynchronously(
    database: Database, engine: Engine
) -> None:
    made_in: list[int] = []

    class Noted(Session):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made_in.append(threading.get_ident())

    registry = scoped_session(sessionmaker(engine, class_=Noted))
    asyncio.run(greet.options(session=registry).enqueue_async("you"))
    registry.commit()
    registry.remove()
    assert (made_in, count(database)) == ([threading.get_ident()], 1)


def test_a_savepoint_that_is_rolled_back_takes_only_its_jobs(
    database: Database, engine: Engine
) -> None:
    with Session(engine) as session, session.begin():
        greet.options(session=session).enqueue("kept")
        savepoint = session.begin_nested()
        greet.options(session=session).enqueue("lost")
        savepoint.rollback()
    ((kept,),) = query(database, "SELECT CAST(args AS text) FROM sched_jobs")
    assert kept == '{"args":["kept"],"kwargs":{}}'


def test_what_fails_in_the_callers_transaction_is_not_repeated(
    database: Database, engine: Engine
) -> None:
    """A busy file and a deadlock are the caller's to repeat: only it knows what else is in there."""
    statements: list[str] = []

    class Refusing(Session):
        def connection(self, *args: Any, **options: Any) -> Any:
            statements.append("connection")
            raise IntegrityError("x", {}, Exception("x"))

    with Refusing(engine) as session, pytest.raises(IntegrityError):
        greet.options(session=session).enqueue("you")
    assert statements == ["connection"]


def test_waiting_before_the_commit_raises(database: Database, engine: Engine) -> None:
    with Session(engine) as session:
        made = greet.options(session=session).enqueue("you")
        (bulk,) = enqueue_many([greet.options(key="k").call("you")], session=session)
        with pytest.raises(StateError, match="not committed"):
            made.wait("1s")
        with pytest.raises(StateError, match="not committed"):
            bulk.wait("1s")
        plain = enqueue_many([greet.call("you")], session=session)
        with pytest.raises(LookupError, match="not committed"):
            plain[0]


def test_workers_are_told_after_the_commit_and_once(
    database: Database, engine: Engine, told: list[str]
) -> None:
    heard = ["postgresql"] if database.is_postgresql else []
    with Session(engine) as session:
        for _ in range(3):
            greet.options(session=session).enqueue("you")
        with session.begin_nested():
            greet.options(session=session).enqueue("you")
        assert told == []  # the release of a savepoint is no commit
        session.commit()
        assert told == heard
        session.execute(text("SELECT 1"))
        session.commit()
        assert told == heard  # a transaction without jobs tells nothing
        enqueue_many([greet.call("you")], session=session)
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()
        assert told == heard  # nor does the one after a rollback


def test_a_session_keeps_no_listener_for_each_of_its_jobs(
    database: Database, engine: Engine
) -> None:
    def listeners(session: Session) -> int:
        return len(list(session.dispatch.after_commit)) + len(list(session.dispatch.after_rollback))

    with Session(engine) as session:
        greet.options(session=session).enqueue("you")
        first = listeners(session)
        for _ in range(5):
            greet.options(session=session).enqueue("you")
            session.rollback()
        assert listeners(session) == first


def test_nobody_is_told_of_a_bare_connection_nor_of_a_session_on_one(
    database: Database, engine: Engine, told: list[str]
) -> None:
    with engine.connect() as connection, connection.begin():
        greet.options(session=connection).enqueue("you")
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            greet.options(session=session).enqueue("you")
            session.commit()
    assert (told, count(database)) == ([], 2)


def test_a_notification_really_arrives_after_the_commit(postgres_url: str) -> None:
    database, engine = Database(postgres_url), create_engine(postgres_url)
    listener = wakeup.PostgresListener(database)
    with configured(database), Session(engine) as session, session.begin():
        greet.options(session=session).enqueue("you")
        assert not listener.drain()
    heard = next(iter(listener._connection.notifies(timeout=20, stop_after=1)), None)
    assert heard is not None
    assert heard.channel == wakeup.CHANNEL
    listener.close()
    database.dispose()
    engine.dispose()


def test_all_variants_of_an_engine_share_one_notifier(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    before = threading.active_count()
    for number in range(5):
        with Session(engine.execution_options(tenant=number)) as session:
            greet.options(session=session).enqueue("you")
            session.commit()
    assert threading.active_count() <= before + 1
    engine.dispose()


def test_an_asynchronous_session_or_connection_is_joined(postgres_url: str) -> None:
    async def story() -> list[int]:
        engine = create_async_engine(postgres_url)
        async with AsyncSession(engine) as session:
            await greet.options(session=session).enqueue_async("lost")
            await session.rollback()
            made = [await greet.options(session=session).enqueue_async("kept")]
            await session.run_sync(lambda sync: enqueue_many([greet.call("bulk")], sync))
            await session.commit()
        async with engine.connect() as connection:
            await greet.options(session=connection).enqueue_async("lost")
            await connection.rollback()
            made.append(await greet.options(session=connection).enqueue_async("kept"))
            await connection.commit()
        scoped = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        made.append(await greet.options(session=scoped).enqueue_async("kept"))
        await scoped.commit()
        await scoped.remove()
        await engine.dispose()
        return [each.id for each in made]

    ids = asyncio.run(story())
    database = Database(postgres_url)
    assert count(database) == 4
    with configured(database):
        assert all(Job.get(job_id) for job_id in ids)
    database.dispose()


def test_an_asynchronous_session_is_refused_where_nothing_awaits_it(postgres_url: str) -> None:
    session = AsyncSession(create_async_engine(postgres_url))
    with pytest.raises(ArgumentError, match="enqueue_async"):
        greet.options(session=session).enqueue("you")
    with pytest.raises(ArgumentError, match=r"run_sync\(lambda sync: enqueue_many"):
        enqueue_many([greet.call("you")], session=session)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["sqlite:///x.db", object(), 7, sessionmaker()])
def test_what_is_no_session_is_refused(database: Database, wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="give a SQLAlchemy Session or Connection"):
        greet.options(session=wrong).enqueue("you")
    with pytest.raises(ArgumentError, match="give a SQLAlchemy Session or Connection"):
        enqueue_many([greet.call("you")], session=wrong)
    assert count(database) == 0


def test_a_session_without_a_database_for_jobs_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"bind cronqueue\.Job"):
        greet.options(session=Session()).enqueue("you")


def test_a_session_that_binds_tables_to_databases_binds_jobs_too(
    database: Database, engine: Engine
) -> None:
    with Session(binds={Job: engine}) as session, session.begin():
        greet.options(session=session).enqueue("you")
    assert count(database) == 1


def test_a_job_in_another_database_is_asked_for_there(
    database: Database, sqlite_template: Path, tmp_path: Path
) -> None:
    other = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    (tmp_path / "other.db").write_bytes(sqlite_template.read_bytes())
    greet.enqueue("here")  # has the number that the other's first has
    with Session(other) as session, session.begin():
        made = greet.options(session=session, queue="there").enqueue("there")
        bulk = enqueue_many([greet.options(queue="there").call("b")], session=session)
    assert (made.refresh().queue, bulk[0].queue) == ("there", "there")
    assert made.cancel().state == "cancelled"
    assert query(database, "SELECT state FROM sched_jobs") == [("queued",)]
    other.dispose()


def test_a_database_without_our_tables_is_named(postgres_server: Any, tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path / 'empty.db'}", postgres_server.url()):
        engine = create_engine(url)
        with Session(engine) as session, pytest.raises(SchemaMismatch, match="no tables"):
            greet.options(session=session).enqueue("you")
        engine.dispose()


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
def test_a_users_engine_can_be_the_queues_whatever_its_isolation(
    database_url: str, level: Any
) -> None:
    engine = create_engine(database_url, isolation_level=level)
    configure(engine=engine)
    made = greet.enqueue("you")
    assert made.refresh().state == "queued"

    @hook("enqueue", task=greet)
    def fail(job: Job[Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        enqueue_many([enqueued.call("1"), greet.call("2")])
    assert count(configuration.get_database()) == 1  # a bulk is one transaction
    with Session(engine) as session, session.begin():
        greet_quietly = enqueue("sessions.unknown", session=session)
    assert greet_quietly.refresh().state == "queued"
    configuration.use_database(None)
    with engine.connect() as connection:  # it is still the caller's
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


@job(name="sessions.enqueued")
def enqueued(name: str) -> None: ...


def test_what_is_no_engine_is_refused(database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        configure(database_url=database_url, engine=create_engine(database_url))
    with pytest.raises(ConfigurationError, match="give an Engine"):
        configure(engine=database_url)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="in memory"):
        configure(engine=create_engine("sqlite://"))
