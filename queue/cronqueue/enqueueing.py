"""Accepting jobs: what `enqueue` returned has committed, or commits with the caller's transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Any, NamedTuple, cast, get_args

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from cronqueue import configuration, sessions, tracing, wakeup
from cronqueue.columns import EARLIEST, LATEST
from cronqueue.database import Database
from cronqueue.durations import parse_duration
from cronqueue.errors import ArgumentError, EncodingError, RunAtError
from cronqueue.handles import EnqueuedJobs, live_in, new_handle
from cronqueue.hooks import announce, has_hooks
from cronqueue.insertion import (
    NewJob,
    find_holder,
    insert_alike,
    insert_directly,
    insert_job,
    insert_jobs,
)
from cronqueue.models import Job
from cronqueue.registry import (
    DEFAULT_QUEUE,
    Call,
    Duration,
    KeyUntil,
    Options,
    Task,
    bind,
    check_max_attempts,
    check_priority,
    check_queue,
    check_task_name,
    find_task,
)
from cronqueue.serialization import encode_call, encode_value
from cronqueue.sessions import AnySession

MAX_KEY_LENGTH = 500
# A job that holds a key may end between our insert and our look; more often than this it cannot be chance.
_KEY_TRIES = 20
# So many jobs that differ in their arguments alone are worth a statement of their own.
_MANY = 16


class _Alike(NamedTuple):
    """Jobs that differ in their arguments alone: the first of them, and the arguments of each."""

    job: NewJob
    args_json: list[str]


def enqueue(
    task: str | Task[..., Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    run_at: datetime | None = None,
    delay: Duration | None = None,
    priority: int | None = None,
    queue: str | None = None,
    key: str | None = None,
    key_until: KeyUntil = "finish",
    max_attempts: int | None = None,
    timeout: Duration | None = None,
    expires: datetime | Duration | None = None,
    tags: Mapping[str, str] | None = None,
    session: AnySession | None = None,
) -> Job[Any]:
    """Store a job for a task, or for a name whose task need not be at hand.

    A name that no worker knows yet is accepted: the job is held until one does. Raises ArgumentError,
    EncodingError, RunAtError or DefinitionError where something cannot be stored.
    """
    options = Options(
        run_at,
        delay,
        priority,
        queue,
        key,
        key_until,
        max_attempts,
        timeout,
        expires,
        tags,
        session,
    )
    return enqueue_call(_named_call(task, args, {} if kwargs is None else kwargs, options))


def enqueue_call(call: Call) -> Job[Any]:
    """Store one bound call."""
    return _traced(resolve(call), lambda new: _store_by(call.options.session, new))


def store_call(database: Database, connection: Connection, call: Call) -> Job[Any]:
    """Store one bound call in a transaction of the caller's, who tells the workers after it."""
    return _traced(resolve(call), lambda new: _store(database, connection, new))


async def enqueue_call_async(call: Call) -> Job[Any]:
    """`enqueue_call` without blocking the event loop."""
    session = sessions.asynchronous(call.options.session)
    if session is not None:
        return await session.run_sync(lambda sync: enqueue_call(_with_session(call, sync)))
    if call.options.session is not None:
        # A session is its thread's, and a registry of sessions would give another thread another one.
        return enqueue_call(call)
    return await asyncio.to_thread(enqueue_call, call)


def enqueue_many(calls: Iterable[Call], session: AnySession | None = None) -> EnqueuedJobs:
    """Store many bound calls in one transaction; returns their jobs in the order of the calls.

    Calls with a key are stored one by one, in the order of their keys, so that two bulks with the same
    keys cannot wait for each other in a circle.
    """
    new = _alike(calls)
    if not (tracing.is_on() and new):
        return _store_many_by(session, new)
    tasks, queues = ({getattr(each.job, name) for each in new} for name in ("task", "queue"))
    with tracing.enqueueing(tasks, queues, sum(len(each.args_json) for each in new)) as span:
        return _store_many_by(session, [each._replace(job=_tagged(each.job, span)) for each in new])


def resolve(call: Call) -> NewJob:
    """The row that a call becomes: its own options, else the task's, else the defaults."""
    chosen, task = call.options, call.task_object or find_task(call.task)
    defaults = task.defaults if task else Options()
    max_attempts = _first(
        chosen.max_attempts, defaults.max_attempts, configuration.settings().max_attempts
    )
    run_at = _checked_moment("run_at", chosen.run_at)
    expires_at, expires_in = _checked_expiry(_first(chosen.expires, defaults.expires), run_at)
    return NewJob(
        task=call.task,
        args_json=call.args_json,
        queue=check_queue(_first(chosen.queue, defaults.queue, DEFAULT_QUEUE)),
        priority=check_priority(_first(chosen.priority, defaults.priority, 0)),
        run_at=run_at,
        delay=_checked_delay(chosen.delay, run_at),
        max_attempts=check_max_attempts(max_attempts),
        timeout=_positive_seconds("timeout", chosen.timeout),
        expires_at=expires_at,
        expires_in=expires_in,
        key=_checked_key(chosen.key),
        key_until=_checked_key_until(chosen.key_until),
        tags_json=_encoded_tags(chosen.tags),
    )


def _traced(new: NewJob, store: Callable[[NewJob], Job[Any]]) -> Job[Any]:
    """Store it within a span, where traces are made."""
    if not tracing.is_on():
        return store(new)
    with tracing.enqueueing({new.task}, {new.queue}) as span:
        job = store(_tagged(new, span))
        span.made(job.id)
    return job


def _tagged(new: NewJob, span: tracing.Enqueue) -> NewJob:
    return replace(new, tags_json=span.tagged(new.tags_json))


def _named_call(
    task: str | Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
) -> Call:
    if isinstance(args, str | bytes) or not isinstance(args, Sequence):
        raise ArgumentError(f"args={args!r}: give a list of arguments, args=[...]")
    if not isinstance(kwargs, Mapping):
        raise ArgumentError(f"kwargs={kwargs!r}: give a dict of arguments by name")
    if not isinstance(task, str | Task):
        raise ArgumentError(f"task={task!r}: give a function decorated with @job, or a task's name")
    found = task if isinstance(task, Task) else find_task(check_task_name(task))
    if found is not None:
        return Call(found.name, bind(found, list(args), dict(kwargs)), options, found)
    return Call(cast(str, task), encode_call(list(args), dict(kwargs)), options)


def _with_session(call: Call, session: Session | Connection) -> Call:
    return replace(call, options=replace(call.options, session=session))


def _alike(calls: Iterable[Call]) -> list[_Alike]:
    """Calls that follow one another and differ in their arguments alone, together."""
    found: list[_Alike] = []
    before: Call | None = None
    for each in calls:
        call = _for_bulk(each)
        if (
            before is None
            or call.task_object is not before.task_object
            or call.task != before.task
            or (call.options is not before.options and call.options != before.options)
        ):
            found.append(_Alike(resolve(call), []))
            before = call
        found[-1].args_json.append(call.args_json)
    return found


def _for_bulk(call: object) -> Call:
    if not isinstance(call, Call):
        raise ArgumentError(f"enqueue_many takes calls, such as [task.call(7)], not {call!r}")
    if call.options.session is not None:
        raise ArgumentError(
            f"{call.task}: in a bulk the session is one for all, enqueue_many(..., session=...)"
        )
    return call


def _store_by(session: object, new: NewJob) -> Job[Any]:
    """In the caller's transaction, or in one of our own."""
    chosen = sessions.synchronous(session, "`await ....enqueue_async(...)`")
    if chosen is not None:
        with sessions.joined(chosen) as (database, connection):
            return live_in(database, _store(database, connection, new))
    database = configuration.get_database()
    job = _store_alone(database, new)
    wakeup.notify(database)
    return job


def _store_many_by(session: object, new: list[_Alike]) -> EnqueuedJobs:
    chosen = sessions.synchronous(
        session, "`await session.run_sync(lambda sync: enqueue_many(calls, sync))`"
    )
    if chosen is not None:
        with sessions.joined(chosen) as (database, connection):
            return _store_many(database, connection, new)
    database = configuration.get_database()
    stored = database.write(lambda connection: _store_many(database, connection, new))
    wakeup.notify(database)
    return stored


def _store_alone(database: Database, new: NewJob) -> Job[Any]:
    """In a transaction only where a hook or the holder of the key may have a part in it."""
    if not has_hooks("enqueue", new.task):
        row = insert_directly(database, new)
        if row is not None:
            return new_handle(new, row, created=True)
    return database.write(lambda connection: _store(database, connection, new))


def _store(database: Database, connection: Connection, new: NewJob) -> Job[Any]:
    """Insert the row, or find the job that holds its key."""
    for _ in range(_KEY_TRIES):
        row = insert_job(database, connection, new)
        if row is not None:
            job = new_handle(new, row, created=True)
            if has_hooks("enqueue", new.task):
                with sessions.enqueueing_in(connection):
                    announce("enqueue", new.task, job)
            return job
        holder = find_holder(connection, cast(str, new.key))
        if holder is not None:
            return holder
    raise EncodingError(f"key {new.key!r}: its holder could neither be found nor replaced")


def _store_many(database: Database, connection: Connection, new: list[_Alike]) -> EnqueuedJobs:
    """Those with a key or a hook one by one, the others in as few statements as may be."""
    starts = list(accumulate((len(each.args_json) for each in new), initial=0))
    ids = [0] * starts[-1]
    single: list[tuple[int, _Alike]] = []
    rest: list[tuple[int, _Alike]] = []
    for start, each in zip(starts, new, strict=False):
        needs_one = each.job.key is not None or has_hooks("enqueue", each.job.task)
        (single if needs_one else rest).append((start, each))
    jobs = {
        start + number: _store(database, connection, job)
        for start, each in sorted(single, key=lambda pair: pair[1].job.key or "")
        for number, job in enumerate(_apart(each))
    }
    for index, job in jobs.items():
        ids[index] = job.id
    inserted = _insert(database, connection, [each for _, each in rest])
    for (start, _), made in zip(rest, inserted, strict=True):
        ids[start : start + len(made)] = made
    return EnqueuedJobs(ids, jobs, database)


def _insert(
    database: Database, connection: Connection, new: Sequence[_Alike]
) -> list[Sequence[int]]:
    """The ids of each; a statement for each if they are large, else one for all."""
    if sum(len(each.args_json) for each in new) >= _MANY * len(new):
        return [insert_alike(database, connection, each.job, each.args_json) for each in new]
    ids = insert_jobs(database, connection, [job for each in new for job in _apart(each)])
    left = iter(ids)
    return [list(islice(left, len(each.args_json))) for each in new]


def _apart(alike: _Alike) -> Iterator[NewJob]:
    """Its jobs one by one; the first is there already."""
    yield alike.job
    for args_json in alike.args_json[1:]:
        yield replace(alike.job, args_json=args_json)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _checked_moment(name: str, moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        raise RunAtError(
            f"{name}={moment!r}: give an aware datetime, such as datetime.now(UTC) + timedelta(hours=1)"
        )
    if _offset(name, moment) is None:
        raise RunAtError(
            f"{name}={moment.isoformat()} has no time zone: add one, such as"
            f" {name}=....replace(tzinfo=ZoneInfo('Europe/London')), or use datetime.now(UTC)"
        )
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        utc = LATEST
    if not EARLIEST <= utc < LATEST:
        raise RunAtError(
            f"{name}={moment.isoformat()} is out of range: give a time from 1970 to 8999"
        )
    return utc


def _offset(name: str, moment: datetime) -> timedelta | None:
    try:
        return moment.utcoffset()
    except Exception as fault:
        raise RunAtError(
            f"{name}: its time zone {type(moment.tzinfo).__name__} has no offset for it"
            f" ({type(fault).__name__}): use zoneinfo.ZoneInfo or UTC"
        ) from None


def _checked_delay(delay: Duration | None, run_at: datetime | None) -> float:
    if delay is None:
        return 0.0
    if run_at is not None:
        raise RunAtError("give run_at or delay, not both")
    return _seconds("delay", delay) or 0.0


def _checked_expiry(
    expires: datetime | Duration | None, run_at: datetime | None
) -> tuple[datetime | None, float | None]:
    """The moment that was given, or the seconds after `run_at`."""
    if isinstance(expires, datetime):
        moment = _checked_moment("expires", expires)
        if run_at is not None and moment is not None and moment <= run_at:
            raise RunAtError(
                f"expires={expires.isoformat()} is not after run_at: it would never run"
            )
        return moment, None
    seconds = _positive_seconds("expires", expires)
    if seconds is not None and run_at is not None:
        _checked_moment("expires", run_at + timedelta(seconds=seconds))
    return None, seconds


def _positive_seconds(name: str, value: Duration | None) -> float | None:
    seconds = _seconds(name, value)
    if seconds == 0:
        raise RunAtError(f"{name}={value!r}: give a duration longer than zero")
    return seconds


def _seconds(name: str, value: Duration | None) -> float | None:
    if value is None:
        return None
    try:
        duration: timedelta = parse_duration(value)
    except (ValueError, TypeError) as error:
        raise RunAtError(f"{name}={value!r}: {error}") from None
    return duration.total_seconds()


def _checked_key(key: object) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_LENGTH:
        raise EncodingError(f"key {key!r:.60}: give a text of 1 to {MAX_KEY_LENGTH} characters")
    encode_value(key, "key")  # refuses NUL and lone surrogates, which PostgreSQL does not store
    return key


def _checked_key_until(key_until: KeyUntil) -> KeyUntil:
    if key_until not in get_args(KeyUntil):
        raise ArgumentError(f"key_until={key_until!r}: give 'finish' or 'start'")
    return key_until


def _encoded_tags(tags: Mapping[str, str] | None) -> str | None:
    if tags is None:
        return None
    if not isinstance(tags, Mapping) or not all(
        isinstance(each, str) for pair in tags.items() for each in pair
    ):
        raise ArgumentError(f"tags={tags!r}: give a dict of texts, such as {{'customer': 'acme'}}")
    return encode_value(dict(tags), "tags") if tags else None
