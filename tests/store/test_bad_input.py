"""What cannot be stored is refused where it is given, with its name and the remedy; nothing is written."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from cronqueue import (
    Discard,
    Retry,
    Snooze,
    Worker,
    enqueue,
    enqueue_many,
    hook,
    job,
    register_type,
)
from cronqueue.errors import ConfigurationError, CronqueueError, DefinitionError
from cronqueue.testing import SchedQueue

NAN, INFINITY = float("nan"), float("inf")
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@job(name="bad.take")
def take(value: Any = None, *, more: Any = None) -> Any:
    return [value, more]


class Nowhere(tzinfo):
    """A zone that nobody finished writing."""


NOWHERE = Nowhere()  # type: ignore[abstract]


class Name(str):
    pass


class Number(int):
    pass


class Colour(enum.Enum):
    RED = 1


@dataclass
class Point:
    x: int


@register_type
@dataclass(frozen=True)
class Place:
    name: str
    seen: datetime
    kind: Size


@register_type
class Size(enum.Enum):
    SMALL = 1


@pytest.fixture
def sched_database_url(sqlite_url: str) -> str:
    """What is refused never reaches a database: one kind will do."""
    return sqlite_url


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)

# An option of one enqueue, and what its refusal must say.
OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"run_at": datetime(2030, 1, 1)}, "run_at=.* has no time zone: add one"),  # noqa: DTZ001
    ({"run_at": datetime.min.replace(tzinfo=UTC)}, "run_at=.* out of range: give a time from 1970"),
    ({"run_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))}, "run_at=.*range"),
    ({"run_at": datetime(9000, 1, 1, tzinfo=UTC)}, "run_at=.* out of range"),
    ({"run_at": datetime(2030, 1, 1, tzinfo=NOWHERE)}, "run_at: its time zone Nowhere.* use"),
    ({"run_at": date(2030, 1, 1)}, "run_at=.*: give an aware datetime"),
    ({"run_at": INFINITY}, "run_at=inf: give an aware datetime"),
    ({"run_at": "2030-01-01T00:00:00Z"}, "run_at=.*: give an aware datetime"),
    ({"delay": -1}, "delay=-1: .*at least 0"),
    ({"delay": timedelta(seconds=-1)}, "delay=.*at least 0"),
    ({"delay": NAN}, "delay=nan: .*give seconds"),
    ({"delay": INFINITY}, "delay=inf: .*at most 10 years"),
    ({"delay": "11y"}, "delay='11y': .*give seconds"),
    ({"delay": timedelta(days=4000)}, "delay=.*at most 10 years"),
    ({"delay": True}, "delay=True: .*give seconds"),
    ({"delay": [5]}, "delay=.*give seconds"),
    ({"run_at": NOON, "delay": 5}, "run_at or delay, not both"),
    ({"expires": 0}, "expires=0: give a duration longer than zero"),
    ({"expires": datetime(2030, 1, 1)}, "expires=.* has no time zone"),  # noqa: DTZ001
    ({"run_at": NOON, "expires": NOON}, "expires=.* is not after run_at"),
    ({"run_at": datetime(8999, 12, 31, tzinfo=UTC), "expires": "2d"}, "expires=.* out of range"),
    ({"timeout": 0}, "timeout=0: give a duration longer than zero"),
    ({"timeout": "soon"}, "timeout='soon': .*give seconds"),
    ({"priority": 2**31}, "priority 2147483648: give a whole number between"),
    ({"priority": 1.0}, "priority 1.0: give a whole number"),
    ({"priority": True}, "priority True: give a whole number"),
    ({"priority": "5"}, "priority '5': give a whole number"),
    ({"max_attempts": 0}, "max_attempts 0: give a whole number from 1"),
    ({"max_attempts": 10_001}, "max_attempts 10001: give a whole number"),
    ({"queue": ""}, "queue '': a name is 1 to 200 printable"),
    ({"queue": "a\0b"}, "queue .*: a name is"),
    ({"queue": "\udcff"}, "queue .*: a name is"),
    ({"queue": "a,b"}, "queue 'a,b': a name is .*without a comma"),
    ({"queue": "x" * 201}, "queue .*: a name is 1 to 200"),
    ({"queue": 7}, "queue 7: a name is"),
    ({"key": "a\0b"}, "key: has a NUL .*remove it"),
    ({"key": "\ud800"}, "key: has a lone surrogate.*replace it"),
    ({"tags": {"a": "b\0"}}, r'tags\["a"\]: has a NUL'),
    ({"tags": {"\ud800": "b"}}, "tags: the key .* has a lone surrogate"),
    ({"tags": ["a"]}, "tags=.*: give a dict of texts"),
    ({"tags": {"a": 7}}, "tags=.*: give a dict of texts"),
    ({"tags": {"a": "x" * 300_000}}, r'tags\["a"\]: .*no more than'),
]

# An argument, and what its refusal must say.
VALUES: list[tuple[Any, str]] = [
    ("a\0b", "has a NUL .*pass bytes"),
    ("\ud800", "has a lone surrogate"),
    ({1, 2}, "pass sorted"),
    (object(), "object cannot be stored: pass plain data"),
    (lambda: 7, "pass its name"),
    (NAN, "JSON has no nan: pass None"),
    (-INFINITY, "JSON has no -inf"),
    (Decimal("NaN"), "no finite number"),
    (bytearray(b"x"), r"pass bytes\(value\)"),
    (RECURSIVE, "contains itself"),
    (nested(10_000), "more than 64 containers"),
    ("x" * 5_000_000, "5,000,000 characters; no more than 262,144 bytes"),
    (list(range(1_000_000)), "no more than 262,144 bytes"),
    ({1: "one"}, "key of type int: .*use str"),
    ({"a": {None: 1}}, "key of type NoneType"),
    ({"a\0": 1}, "the key .* has a NUL"),
    (10**5_000, "more than 4,000 digits"),
    (datetime(2030, 1, 1, tzinfo=NOWHERE), "its time zone is a .*Nowhere: use zoneinfo"),
    (Colour.RED, r"Colour is not registered: .*\.value"),
    (Point(1), "Point is not registered: decorate it"),
    (Name("you"), "would come back as a plain str"),
    (Number(7), "would come back as a plain int"),
    (Colour, "pass its name"),
    (iter([1]), "cannot be stored"),
    ((number for number in "ab"), "pass list"),
    (ValueError("x"), "ValueError cannot be stored"),
    (take, "cannot be stored"),
]

# What comes back exactly as it went in.
FINE: list[Any] = [
    None,
    True,
    -0.0,
    1e22,
    1e308,
    2**63,
    -(10**300),
    "naïve ☃ \U0001f600 \x7f \u2028",
    b"\0\xff",
    Decimal("1.10"),
    UUID(int=7),
    date(1, 1, 1),
    time(1, 2, 3, 4, tzinfo=UTC),
    timedelta(days=-1, microseconds=1),
    datetime(2030, 10, 27, 1, 30, fold=1, tzinfo=ZoneInfo("Europe/London")),
    datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2030, 1, 1),  # noqa: DTZ001
    {"$type": "os.system", "value": "x"},
    [{"a": [1, [2, {}]]}],
]


def refused(sched_queue: SchedQueue, message: str, act: Callable[[], object]) -> None:
    """One clear exception in one short line, and nothing written."""
    with pytest.raises(CronqueueError) as caught:
        act()
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text
    assert sched_queue.jobs() == []


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[each[1] for each in OPTIONS])
def test_an_option_that_cannot_be_stored_is_refused(
    sched_queue: SchedQueue, options: dict[str, Any], message: str
) -> None:
    refused(sched_queue, message, lambda: take.options(**options).enqueue(7))
    refused(sched_queue, message, lambda: enqueue("bad.take", [7], **options))
    calls = [take.call(7), take.options(**options).call(7)]
    refused(sched_queue, message, lambda: enqueue_many(calls))


@pytest.mark.parametrize(("value", "message"), VALUES, ids=[each[1] for each in VALUES])
def test_an_argument_that_cannot_be_stored_is_refused_with_its_place(
    sched_queue: SchedQueue, value: Any, message: str
) -> None:
    refused(sched_queue, rf"(?s)^args\[0\].*{message}", lambda: take.enqueue(value))
    refused(sched_queue, rf'(?s)^kwargs\["more"\].*{message}', lambda: take.enqueue(7, more=value))
    refused(sched_queue, rf"^args\[1\].*{message}", lambda: enqueue("bad.unknown", [7, value]))


def test_what_can_be_stored_comes_back_as_it_was(database_url: str) -> None:
    with SchedQueue(database_url).configured() as queue:
        for value in FINE:
            take.enqueue(value, more=(value,))
            (ran,) = queue.drain()
            assert repr(ran.result) == repr([value, [value]])


def test_registered_types_come_back_as_they_were(sched_queue: SchedQueue) -> None:
    place = Place("here", NOON, Size.SMALL)
    take.enqueue(place)
    assert sched_queue.drain()[0].result == [place, None]


@pytest.mark.parametrize(("value", "message"), VALUES[:9], ids=[each[1] for each in VALUES[:9]])
def test_a_result_that_cannot_be_stored_ends_the_job(
    sched_queue: SchedQueue, value: Any, message: str
) -> None:
    """Another attempt would do the work again, for a result that is no more storable."""

    @job(name="bad.give")
    def give() -> Any:
        return {"answer": value}

    give.enqueue()
    (ran,) = sched_queue.drain()
    assert (ran.state, ran.reason) == ("failed", "discarded: its result cannot be stored")
    assert re.search(rf'result\["answer"\].*{message}', ran.last_error or "", re.DOTALL)


def test_arguments_that_do_not_fit_the_signature_are_refused(sched_queue: SchedQueue) -> None:
    @job(name="bad.strict")
    def strict(first: int, *, second: int) -> None: ...

    bad: Any = strict
    for args, kwargs, message in [
        ((), {"second": 1}, "missing a required argument: 'first'"),
        ((1,), {}, "missing a required .*argument: 'second'"),
        ((1, 2), {"second": 1}, "too many positional arguments"),
        ((1,), {"second": 1, "third": 1}, "unexpected keyword argument 'third'"),
    ]:
        call = lambda args=args, kwargs=kwargs: bad.enqueue(*args, **kwargs)  # noqa: E731
        refused(sched_queue, rf"^bad\.strict\(first.*\).*: .*{message}", call)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "task name ''"),
        (("a b",), "task name 'a b': letters, digits"),
        (("a\0",), "task name"),
        (("x" * 201,), "at most 200"),
        ((7,), "task=7: give a function decorated with @job"),
        ((print,), "task=<built-in function print>: give a function decorated"),
        (("a", "text"), "args='text': give a list"),
        (("a", 7), "args=7: give a list"),
        (("a", {1}), r"args=\{1\}: give a list"),
        (("a", [], [1]), r"kwargs=\[1\]: give a dict"),
        (("a", [], {1: 2}), "kwargs has a key of type int|kwargs: has a key of type int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_call_by_name_that_makes_no_sense_is_refused(
    sched_queue: SchedQueue, arguments: tuple[Any, ...], message: str
) -> None:
    refused(sched_queue, message, lambda: enqueue(*arguments))


def test_any_sequence_and_mapping_will_do_for_a_call_by_name(sched_queue: SchedQueue) -> None:
    made = enqueue("bad.unknown", range(2), MappingProxyType({"a": 1}))
    assert made.args_json == '{"args":[0,1],"kwargs":{"a":1}}'


def generator() -> Any:
    yield 7


async def async_generator() -> Any:
    yield 7


async def coroutine(job: Any) -> None: ...


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: job(7), "@job needs a function, not 7"),  # type: ignore[call-overload]
        (lambda: job(Point), "@job needs a function"),
        (lambda: job(generator), "generator is a generator.*return the values"),
        (lambda: job(async_generator), "async_generator is a generator"),
        (lambda: job(take), "bad.take is a task already"),
        (lambda: job(name="a b")(lambda: None), "task name 'a b'"),
        (lambda: job(name="bad.take")(lambda: None), "two functions are named 'bad.take'"),
        (lambda: job(queue="a,b")(lambda: None), "queue 'a,b'"),
        (lambda: job(priority=2**40)(lambda: None), "priority"),
        (lambda: job(max_attempts=0)(lambda: None), "max_attempts 0"),
        (lambda: job(timeout="soon")(lambda: None), "timeout: 'soon'"),
        (lambda: job(timeout=0)(lambda: None), "timeout=0: give a duration longer"),
        (lambda: job(expires=NOON)(lambda: None), "expires: "),  # type: ignore[call-overload]
        (lambda: job(backoff=[])(lambda: None), "backoff: the list is empty"),
        (lambda: job(backoff="-1s")(lambda: None), "backoff: "),
        (lambda: job(retry_on=7)(lambda: None), "exception classes, not 7"),  # type: ignore[call-overload]
        (lambda: job(discard_on=("x",))(lambda: None), "exception classes"),  # type: ignore[arg-type]
        (lambda: hook("befor"), "no hook is named 'befor'; there are enqueue, before"),  # type: ignore[arg-type]
        (lambda: hook("before")(coroutine), "coroutine is async, give a plain function"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(
    declare: Callable[[], object], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        declare()


def test_a_worker_with_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'concurency'; did you mean 'concurrency'"):
        Worker(concurency=3)


@pytest.mark.parametrize("wrong", ["soon", -1, NAN, INFINITY, None, [5], "1e5"], ids=repr)
def test_a_wrong_delay_raised_in_a_task_is_a_failed_attempt_that_says_so(
    sched_queue: SchedQueue, wrong: Any
) -> None:
    @job(name="bad.snooze")
    def snooze() -> None:
        raise Snooze(wrong)

    @job(name="bad.retry")
    def retry() -> None:
        raise Retry(delay=wrong)

    for made in (snooze.enqueue(), retry.enqueue()):
        sched_queue.drain()
        assert (made.refresh().state, made.attempts) == ("queued", 1)
        if wrong is not None or made.task == "bad.snooze":
            assert "is not a duration: give seconds" in (made.last_error or "")


def test_a_reason_to_discard_may_be_anything(sched_queue: SchedQueue) -> None:
    @job(name="bad.discard")
    def discard() -> None:
        raise Discard("\0 \ud800 " + "x" * 5_000)

    discard.enqueue()
    (ran,) = sched_queue.drain()
    assert ran.state == "failed"
    assert (ran.reason or "").startswith("discarded: \ufffd \ufffd xxx")
    assert len(ran.reason or "") < 1_100
