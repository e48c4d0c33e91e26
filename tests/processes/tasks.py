"""The tasks of the stage: they note what they do, and wait for their cues."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import cronqueue
from cronqueue import current_job, execution, job
from cronqueue.configuration import get_database
from cronqueue.errors import JobTimeout

STAGE = Path(os.environ["STAGE"])

# The product's is 10 s, which is long in a test.
setattr(execution, "HARD_TIMEOUT_GRACE", timedelta(seconds=1))  # noqa: B010 - imported by it


def note(word: str) -> None:
    """One line, written at once, so that it stands even if the process dies now."""
    current = current_job()
    line = f"{word} {current.id} {current.attempt} {os.getpid()} {time.time()}\n"
    file = os.open(STAGE / "notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


def is_cued(cue: str) -> bool:
    return (STAGE / cue).exists()


@job
def quick() -> int:
    note("ran")
    return os.getpid()


@job
def hold(cue: str) -> int:
    """Runs until its cue."""
    note("began")
    while not is_cued(cue):
        time.sleep(0.01)
    note("ended")
    return os.getpid()


@job
async def hold_async(cue: str) -> int:
    note("began")
    while not is_cued(cue):  # noqa: ASYNC110 - the cue comes from another process
        await asyncio.sleep(0.01)
    note("ended")
    return os.getpid()


@job
def hold_first_time(cue: str) -> int:
    """Runs until its cue, but at once when it is tried again."""
    note("began")
    while current_job().attempt == 1 and not is_cued(cue):
        time.sleep(0.01)
    note("ended")
    return os.getpid()


@job
def stand_still_first_time() -> None:
    """Stops its own process until somebody lets it go on."""
    note("began")
    if current_job().attempt == 1:
        # Not in the middle of a transaction, which would keep the whole file locked.
        time.sleep(0.1)
        with get_database().begin():
            pass
        os.kill(os.getpid(), signal.SIGSTOP)
        # The signal takes a moment to stop all threads; the test is about what comes after it.
        time.sleep(0.2)


@job(keep_log=True)
def say(cue: str) -> None:
    """Logs something before its cue and after it."""
    current_job().log("waits for %s", cue)
    note("began")
    while not is_cued(cue):
        time.sleep(0.01)
    logging.getLogger("of.the.program").warning("goes on")


@job
def fail() -> None:
    note("ran")
    raise ValueError("as it was meant")


@job
def die(how: str) -> None:
    """Ends its process."""
    note("began")
    if current_job().attempt > 1 and how == "first time":
        return
    if how in ("kill", "first time"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(int(how))


@job
def follow_up(task: str) -> None:
    """Enqueues another job when its own work is done."""
    note("ran")
    cronqueue.enqueue(task)


@job
def overrun() -> None:
    """Goes on until it is told that its time is up."""
    note("began")
    try:
        while True:
            time.sleep(0.01)
    except JobTimeout:
        note("told")
        raise


@job
async def overrun_async() -> None:
    note("began")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        note("told")
        raise


@job
def ignore_everything() -> None:
    """Takes no notice of what is raised in it."""
    note("began")
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            note("told")


@job
def hold_all_threads(seconds: int = 3600) -> None:
    """Sleeps in C without letting go of the interpreter: nothing else in the process runs."""
    note("began")
    ctypes.PyDLL(None).sleep(seconds)


@job
async def obey_cancel() -> str:
    """Looks by itself whether it is to stop."""
    note("began")
    current = current_job()
    current.progress(1, 2, "halfway")
    while not current.cancelled:  # noqa: ASYNC110 - nothing wakes a task that looks by itself
        await asyncio.sleep(0.01)
    note("told")
    return "stopped by itself"


@job
async def wait_to_be_interrupted() -> None:
    note("began")
    try:
        await asyncio.sleep(3600)
    finally:
        note("interrupted" if current_job().cancelled else "ended")


@job
def ignore_nothing() -> None:
    """Runs until something is raised in it."""
    note("began")
    try:
        while True:
            time.sleep(0.01)
    finally:
        note("interrupted" if current_job().cancelled else "ended")
