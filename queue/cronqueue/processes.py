"""Small things about processes that the standard library leaves open."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import signal
import sys
from contextlib import suppress
from multiprocessing.context import BaseContext
from pathlib import Path

# What tells a service to end or to begin anew, from a terminal or a service manager.
STOPPING_SIGNALS = frozenset(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
# Seconds. A process that was killed is gone within milliseconds, unless its disk does not answer.
_LONGEST_DEATH = 1.0


def start_context() -> BaseContext:
    """How executors are started once the supervisor is at work: forked from a clean server, else spawned.

    Never forked from the supervisor: it has connections, which a fork would share.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["cronqueue.forkserver"])
        return context
    return multiprocessing.get_context("spawn")


def can_fork() -> bool:
    """Whether a fork of this process is a clean beginning: no other thread, of Python's or of a library's."""
    if sys.platform != "linux":
        return False
    with suppress(OSError):
        return len(list(Path("/proc/self/task").iterdir())) == 1
    return False


def end_with_parent() -> None:
    """Be killed when the parent dies, where the kernel offers it.

    A parent that died before is for the caller to notice.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def ignore_signals() -> None:
    """Leave the terminal's and the service manager's signals to the supervisor."""
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def call_process(name: str) -> None:
    """What `top` and `ps -o comm` show of this process; at most 15 letters."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())


def ignore_hangup() -> None:
    """HUP asks a service for what is new; while it starts, all that it will load is."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def take_hold(pid: int) -> int | None:
    """A file that stands for this process and, unlike its number, for no other; None where there is none.

    It is to be closed by `os.close`.
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not on Linux; or it has ended already
        return None


def end_for_good(hold: int) -> None:
    """Kill the process if it is still there, and wait until it is not."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(hold, signal.SIGKILL)
    ended = select.poll()
    ended.register(hold, select.POLLIN)
    ended.poll(_LONGEST_DEATH * 1000)


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped or a zombie: it can do nothing, and cannot tell."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in ("T", "t", "Z", "X")
