"""Right and wrong uses of the library, as a type checker must see them.

A line that ends in `# refused: <code>` must be an error of that code, any other line none.
"""

from datetime import datetime
from typing import Any, assert_type

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session

from cronqueue import Call, Job, enqueue, enqueue_many, hook, job


@job
def bare(user_id: int) -> str:
    return str(user_id)


@job(queue="mail", priority=5, max_attempts=8, timeout="60s", name="mail.welcome")
def welcome(user_id: int, *, dry: bool = False) -> str:
    return str(user_id) if dry else ""


@job
async def fetch(url: str) -> bytes:
    return url.encode()


@job(backoff=["10s", 60], retry_on=(ConnectionError, OSError), discard_on=ValueError)
async def push(url: str, /, times: int = 1) -> None: ...


assert_type(bare(7), str)
assert_type(welcome(7, dry=True), str)
assert_type(bare.enqueue(7), Job[str])
assert_type(welcome.enqueue(7, dry=True), Job[str])
assert_type(welcome.options(priority=10, key="k").enqueue(user_id=7), Job[str])
assert_type(welcome.enqueue(7).result, str | None)
assert_type(welcome.enqueue(7).wait("10s").result, str | None)
assert_type(welcome.call(7), Call)
assert_type(fetch.enqueue("a"), Job[bytes])
assert_type(push.enqueue("a", times=2), Job[None])
assert_type(enqueue("mail.welcome", [7]), Job[Any])
assert_type(Job.get(7), Job[Any] | None)
enqueue_many([welcome.call(7), welcome.options(delay="5m").call(8), fetch.call("a")])

welcome.enqueue("seven")  # refused: arg-type
welcome.enqueue()  # refused: call-arg
welcome.enqueue(7, wet=True)  # refused: call-arg
welcome.enqueue(7, True)  # refused: call-arg
welcome.call("seven")  # refused: arg-type
welcome("seven")  # refused: arg-type
welcome.options(priority="high").enqueue(7)  # refused: arg-type
welcome.options(run_at="tomorrow").enqueue(7)  # refused: arg-type
welcome.options(prioriti=5).enqueue(7)  # refused: call-arg
welcome.options(key_until="forever")  # refused: arg-type
welcome.options(delay="5m").enqueue("seven")  # refused: arg-type
fetch.enqueue(7)  # refused: arg-type
push.enqueue(url="a")  # refused: call-arg
wrong: Job[int] = welcome.enqueue(7)  # refused: assignment
enqueue_many([welcome.enqueue(7)])  # refused: list-item
enqueue_many([welcome])  # refused: list-item
enqueue("mail.welcome", priority="high")  # refused: arg-type
Job.get("7")  # refused: arg-type
job(tiemout="60s")  # refused: call-overload
job(backoff=object())  # refused: call-overload


async def asynchronous(session: AsyncSession) -> None:
    assert_type(await fetch("a"), bytes)
    assert_type(await welcome.enqueue_async(7), Job[str])
    assert_type(await fetch.options(session=session).enqueue_async("a"), Job[bytes])
    await welcome.enqueue_async("seven")  # refused: arg-type
    fetch("a") + b""  # refused: operator
    enqueue("mail.welcome", session=session)  # refused: arg-type


def sessions(one: Session, many: scoped_session[Session], connection: Connection) -> None:
    welcome.options(session=one).enqueue(7)
    welcome.options(session=many).enqueue(7)
    welcome.options(session=connection).enqueue(7)
    enqueue_many([welcome.call(7)], session=one)
    welcome.options(session="sqlite:///jobs.db")  # refused: arg-type


@hook("failure")
def alarm(failed: Job[Any], exception: BaseException) -> None: ...


@hook("before", task=welcome)
def look(running: object) -> None: ...


assert_type(alarm(welcome.enqueue(7), ValueError()), None)
hook("befor")  # refused: arg-type
hook("before", task=7)  # refused: arg-type


def times(moment: datetime) -> None:
    welcome.options(run_at=moment, expires="1h", tags={"a": "b"}).enqueue(7)
    welcome.options(tags=["a"])  # refused: arg-type
