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

_PR_SET_PDEATHSIG = 1
# Seconds. A process that was killed is gone within milliseconds, unless its disk does not answer.
_LONGEST_DEATH = 1.0


def start_context(preload: list[str]) -> BaseContext:
    """How executors are started: forked from a clean server where there is one, else spawned.

    Never forked from the supervisor: it has connections, which a fork would share.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(preload)
        return context
    return multiprocessing.get_context("spawn")


def end_with_parent() -> None:
    """Be killed when the parent dies, where the kernel offers it.

    A parent that died before is for the caller to notice.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def ignore_signals() -> None:
    """Leave the terminal's and the service manager's signals to the supervisor."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


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
