"""Enqueueing: what is stored, what is refused and how, and whose transaction it is."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from cronqueue import Job, configuration, enqueue, enqueue_many, insertion, job
from cronqueue.database import Database
from cronqueue.errors import (
    ArgumentError,
    CronqueueError,
    DefinitionError,
    EncodingError,
    KeyTaken,
    RunAtError,
    StateError,
    WaitTimeout,
)
from cronqueue.registry import Call
from job_rows import columns_of, execute, now, query

HOUR = timedelta(hours=1)


@job(name="tests.greet", queue="mail", priority=3, max_attempts=8)
def greet(name: str, *, loud: bool = False) -> str:
    return name.upper() if loud else name


@pytest.fixture(autouse=True)
def _configured(database: Database) -> Iterator[None]:
    configuration.use_database(database)
    yield
    configuration.use_database(None)


def test_a_job_takes_its_tasks_settings_and_is_committed(database: Database) -> None:
    made = greet.enqueue("you", loud=True)
    stored = columns_of(database, made.id)
    assert (stored["task"], stored["queue"], stored["priority"]) == ("tests.greet", "mail", 3)
    assert (stored["max_attempts"], stored["state"]) == (8, "queued")
    assert stored["args"] == '{"args":["you"],"kwargs":{"loud":true}}'
    assert (made.created, made.state, made.run_at) == (True, "queued", stored["run_at"])


def test_the_options_of_one_enqueue_win(database: Database) -> None:
    moment = now().replace(microsecond=0) + HOUR
    made = greet.options(run_at=moment, priority=-4, queue="slow", expires="2h").enqueue("you")
    stored = columns_of(database, made.id)
    assert (stored["run_at"], stored["priority"], stored["queue"]) == (moment, -4, "slow")
    assert stored["expires_at"] == moment + 2 * HOUR


def test_a_delay_counts_from_the_databases_now(database: Database) -> None:
    made = greet.options(delay="5m").enqueue("you")
    assert timedelta(seconds=295) < made.run_at - database.server_now() <= timedelta(minutes=5)


def test_a_task_is_still_a_function() -> None:
    assert greet("you", loud=True) == "YOU"


@pytest.mark.parametrize(
    ("run_at", "fix"),
    [
        (datetime(2026, 1, 1), "no time zone: add one"),  # noqa: DTZ001
        (datetime.max.replace(tzinfo=UTC), "out of range"),
        (datetime(9999, 12, 31, tzinfo=UTC), "out of range"),
        (datetime(1969, 12, 31, tzinfo=UTC), "out of range"),
        ("tomorrow", "give an aware datetime"),
    ],
)
def test_an_absurd_run_at_is_refused_with_the_fix(run_at: Any, fix: str) -> None:
    with pytest.raises(RunAtError, match=fix):
        greet.options(run_at=run_at).enqueue("you")


def test_run_at_and_delay_exclude_each_other() -> None:
    with pytest.raises(RunAtError, match="not both"):
        greet.options(run_at=now(), delay=5).enqueue("you")


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(ArgumentError, match="missing a required argument: 'name'"):
        greet.enqueue()  # type: ignore[call-arg]
    with pytest.raises(EncodingError, match=r"args\[0\]"):
        greet.enqueue({1, 2})  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_text_that_postgresql_cannot_hold_is_refused_everywhere(text: str) -> None:
    with pytest.raises(EncodingError):
        greet.enqueue(text)
    with pytest.raises(EncodingError):
        greet.options(key=text).enqueue("you")
    with pytest.raises(CronqueueError):
        greet.options(queue=text).enqueue("you")
    with pytest.raises(CronqueueError):
        enqueue(f"x.{text}")


@pytest.mark.parametrize(
    "options", [{"priority": 2**40}, {"priority": 1.5}, {"queue": ""}, {"max_attempts": 0}]
)
def test_options_that_cannot_be_stored_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        greet.options(**options).enqueue("you")


def test_a_name_without_its_task_is_accepted(database: Database) -> None:
    made = enqueue("somebody.elses", [1, {"a": 2}], {"b": None}, queue="far")
    assert columns_of(database, made.id)["args"] == '{"args":[1,{"a":2}],"kwargs":{"b":null}}'


def test_many_are_stored_in_the_order_of_the_calls(database: Database) -> None:
    calls = [greet.call(str(number)) for number in range(50)]
    calls[7] = greet.options(key="seven").call("7")
    stored = enqueue_many(calls)
    texts = [columns_of(database, job_id)["args"] for job_id in stored.ids]
    assert texts == [f'{{"args":["{number}"],"kwargs":{{}}}}' for number in range(50)]
    assert stored[-1].id == stored.ids[-1]
    assert len(stored) == 50


@pytest.mark.parametrize("alike", [1, 40])
def test_a_bulk_keeps_the_order_of_its_calls_whatever_they_differ_in(
    database: Database, monkeypatch: pytest.MonkeyPatch, alike: int
) -> None:
    monkeypatch.setattr(insertion, "BATCH", 7)
    calls = []
    for number in range(5):
        calls += [greet.call(f"{number}.{each}") for each in range(alike)]
        calls += [greet.options(priority=number).call(f"p{number}.{each}") for each in range(alike)]
        calls.append(greet.options(key=f"k{number % 2}").call(f"k{number % 2}"))

    stored = enqueue_many(calls)

    priorities = {each: 3 if "p" not in each else int(each[1]) for each in map(_name, calls)}
    for call, found in zip(calls, stored, strict=True):
        row = columns_of(database, found.id)
        assert row["args"] == call.args_json
        assert row["priority"] == priorities[_name(call)]
    assert len(set(stored.ids)) == len(calls) - 3


def _name(call: Call) -> str:
    return str(json.loads(call.args_json)["args"][0])


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (lambda: None, (1,)),
        (lambda a: None, ()),
        (lambda a, b=1: None, (1, 2, 3)),
        (lambda *, a: None, ()),
        (lambda *, a: None, (1,)),
        (lambda *, a=1: None, (1,)),
        (lambda a, *rest, b: None, (1, 2)),
    ],
)
def test_arguments_that_the_task_does_not_take_are_refused_when_it_is_enqueued(
    function: Callable[..., None], args: tuple[int, ...]
) -> None:
    task = job(name=f"tests.arity_{uuid4().hex}")(function)
    with pytest.raises(ArgumentError, match="arity"):
        task.call(*args)


def test_a_key_is_held_until_the_job_ends(database: Database) -> None:
    first = greet.options(key="k").enqueue("a")
    second = greet.options(key="k").enqueue("b")
    assert (second.id, second.created) == (first.id, False)
    execute(database, "UPDATE sched_jobs SET state = 'failed', unique_key = NULL")
    third = greet.options(key="k").enqueue("c")
    assert third.created
    with pytest.raises(KeyTaken) as caught:
        first.retry()
    assert caught.value.holder == third.id


def test_a_session_commits_the_job_or_does_not(database: Database) -> None:
    with Session(database.engine) as session:
        lost = greet.options(session=session).enqueue("lost")
        session.rollback()
    with Session(database.engine) as session, session.begin():
        kept = greet.options(session=session).enqueue("kept")
    assert Job.get(lost.id) is None or Job.get(lost.id).args_json != lost.args_json  # type: ignore[union-attr]
    assert query(database, "SELECT COUNT(*) FROM sched_jobs") == [(1,)]
    assert columns_of(database, kept.id)["state"] == "queued"


def test_a_connection_too(database: Database) -> None:
    with database.engine.connect() as connection:
        enqueue_many([greet.call("a"), greet.call("b")], session=connection)
        connection.rollback()
    assert query(database, "SELECT COUNT(*) FROM sched_jobs") == [(0,)]


def test_waiting_before_the_commit_raises(postgres_url: str) -> None:
    database = Database(postgres_url)
    configuration.use_database(database)
    with Session(database.engine) as session:
        made = greet.options(session=session).enqueue("you")
        with pytest.raises(StateError, match="not committed"):
            made.wait("1s")
    database.dispose()


def test_waiting_ends_at_its_timeout_and_at_the_jobs_end(database: Database) -> None:
    made = greet.enqueue("you")
    with pytest.raises(WaitTimeout, match="still queued"):
        made.wait(0.02)
    execute(database, "UPDATE sched_jobs SET state = 'succeeded', result = '\"me\"'")
    assert made.wait().result == "me"


def test_an_asynchronous_session_is_joined(postgres_url: str) -> None:
    async def story() -> int:
        engine = create_async_engine(postgres_url)
        async with AsyncSession(engine) as session, session.begin():
            made = await greet.options(session=session).enqueue_async("you")
        await engine.dispose()
        return made.id

    job_id = asyncio.run(story())
    database = Database(postgres_url)
    assert columns_of(database, job_id)["state"] == "queued"
    database.dispose()


def test_a_job_can_be_cancelled_and_retried_through_its_handle(database: Database) -> None:
    made = greet.enqueue("you")
    assert made.cancel("enough").state == "cancelled"
    with pytest.raises(StateError):
        made.cancel()
    assert made.retry().state == "queued"
    assert query(database, "SELECT action FROM sched_audit ORDER BY id") == [
        ("cancel",),
        ("retry",),
    ]
