"""Tasks of the storm: ordinary ones, and some that do to their process what jobs should not do.

Each writes a line into the journal when its body begins and when it ends, with the token of its claim.
The ordinary ones return that token: what is stored must be the token of the last claim.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from sqlalchemy import BigInteger
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cronqueue import current_job, job
from cronsched import every

STAGE = Path(os.environ["STAGE"])
MEGABYTE = 2**20


class Base(DeclarativeBase):
    """Tables of the storm's own."""


class Effect(Base):
    """What `effect` writes through its job's session: it must stand exactly once."""

    __tablename__ = "torture_effects"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(BigInteger)
    token: Mapped[int] = mapped_column(BigInteger)


def note(word: str) -> None:
    """One line, written at once, so that it stands even if the process dies now."""
    current = current_job()
    entry = {"word": word, "job": current.id, "token": current.token, "at": time.time()}
    file = os.open(STAGE / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{json.dumps(entry)}\n".encode())
    os.close(file)


@job
def work(seconds: float) -> int:
    note("began")
    time.sleep(seconds)
    note("ended")
    return current_job().token


@job
async def work_async(seconds: float) -> int:
    note("began")
    await asyncio.sleep(seconds)
    note("ended")
    return current_job().token


@job
def effect() -> int:
    """Writes through its job's session: this commits together with the completion, or not at all."""
    note("began")
    current = current_job()
    current.session.add(Effect(job_id=current.id, token=current.token))
    note("ended")
    return current.token


@job
def fail_first(times: int) -> int:
    note("began")
    if current_job().attempt <= times:
        raise ValueError("as it was meant")
    note("ended")
    return current_job().token


@every("1s", max_attempts=25, overlap="allow", catch_up="all")
def tick() -> int:
    note("began")
    note("ended")
    return current_job().token


@every("2s", max_attempts=25, overlap="skip", catch_up="latest")
def alone() -> int:
    """Takes longer than the time to the next."""
    note("began")
    time.sleep(2.5)
    note("ended")
    return current_job().token


# What jobs should not do, and their workers must survive.


@job
def kill_itself() -> None:
    note("began")
    os.kill(os.getpid(), signal.SIGKILL)


@job
def kill_parent() -> None:
    note("began")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(3600)


@job
def crash() -> None:
    note("began")
    ctypes.string_at(0)


@job
def leave(code: int) -> None:
    note("began")
    os._exit(code)


@job
def raise_to_leave(name: str) -> None:
    """Raises what is no Exception."""
    note("began")
    kinds = (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)
    raise next(kind for kind in kinds if kind.__name__ == name)


@job
def close_files() -> None:
    """Takes the connections of its process away."""
    note("began")
    os.closerange(3, 4096)
    time.sleep(3600)


@job
def exhaust_memory() -> None:
    note("began")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = pages * resource.getpagesize() + 64 * MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, limits[1]))
    try:
        hoard = []
        while True:
            hoard.append(bytearray(MEGABYTE // 16))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@job
def recurse() -> None:
    note("began")

    def deeper() -> None:
        deeper()

    deeper()


@job
def hold_interpreter(seconds: int) -> int:
    """Sleeps in C without letting go of the interpreter: nothing else in the process runs."""
    note("began")
    ctypes.PyDLL(None).sleep(seconds)
    note("ended")
    return current_job().token


@job
def fork_children() -> int:
    """One child comes back out of the body, another goes on behind everybody's back."""
    note("began")
    token = current_job().token
    if os.fork() == 0:
        return token
    if os.fork() == 0:
        time.sleep(5)
        os._exit(0)
    note("ended")
    return token


@job
def print_a_gigabyte() -> int:
    note("began")
    line = "x" * 1023 + "\n"
    for _ in range(1024):
        sys.stdout.write(line * 1024)
    sys.stdout.flush()
    note("ended")
    return current_job().token
