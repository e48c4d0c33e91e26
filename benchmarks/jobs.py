"""Tasks that the benchmarks run."""

from __future__ import annotations

import os
import socket
import time
from functools import cache

from cronqueue import job


@job
def nothing(number: int = 0) -> None:
    """What a queue costs is all that is left."""


@job
def spin() -> None:
    """200 us of CPU."""
    end = time.thread_time() + 0.0002
    while time.thread_time() < end:
        pass


@job
def tell_start(number: int) -> None:
    """Say when it began, to whoever measures."""
    began = time.time()
    _socket().sendto(f"{number} {began}".encode(), os.environ["BENCH_SOCKET"])


@cache
def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
