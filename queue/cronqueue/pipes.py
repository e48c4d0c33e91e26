"""The two ends of the pipe between a supervisor and an executor.

In an executor's process a job may write to any file, this one too, or stop everything in the middle of a
message. So the supervisor takes what is there, never waits for the rest of it, and can tell rubbish from a
message: each is one line of JSON.
"""

from __future__ import annotations

import json
import os
from multiprocessing.connection import Connection
from typing import Any

from cronqueue.errors import CronqueueError

_AT_ONCE = 2**16
# Longer than any message: what an executor may hold, each with its token.
_LONGEST = 2**24


class Garbled(CronqueueError):
    """What came through the pipe is no message."""


class ExecutorEnd:
    """Where an executor speaks and listens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, message: tuple[Any, ...]) -> None:
        """Raises OSError when nobody is at the other end."""
        rest = json.dumps(message).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._connection.fileno(), rest) :]

    def recv(self) -> Any:
        """The next message, once there is one. Raises EOFError, OSError; anything for rubbish."""
        return self._connection.recv()


class SupervisorEnd:
    """Where a supervisor speaks to an executor, and hears it without ever waiting for it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._heard = bytearray()

    def fileno(self) -> int:
        """What to wait for."""
        return self._connection.fileno()

    def send(self, message: tuple[Any, ...]) -> None:
        """Raises OSError when nobody is at the other end."""
        self._connection.send(message)

    def receive(self) -> list[tuple[Any, ...]]:
        """The messages that have come as a whole.

        Raises EOFError or OSError when there will be none any more, and Garbled.
        """
        is_over = False
        while not is_over and self._connection.poll():
            some = os.read(self.fileno(), _AT_ONCE)
            is_over = not some
            self._heard += some
            if len(self._heard) > _LONGEST:
                raise Garbled("a message without an end")
        *lines, self._heard = self._heard.split(b"\n")
        if is_over and not lines:
            raise EOFError
        return [_message(bytes(line)) for line in lines]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _message(line: bytes) -> tuple[Any, ...]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, list):
        raise Garbled(f"no message: {line[:16]!r}")
    return tuple(message)
