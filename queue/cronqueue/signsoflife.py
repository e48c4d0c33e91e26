"""Signs of life of a service: for systemd over its socket, for others by touching a file.

The socket is that of sd_notify(3): one datagram of lines `NAME=value` for each message. Nothing here ever
fails a service: who cannot be told is not told.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path

log = logging.getLogger("cronqueue")

# Seconds between two signs. A watchdog must allow for several of them.
PERIOD = 5.0
# What the file says.
READY, ALIVE = "ready", "alive"


class SignsOfLife:
    """What one service says of itself.

    NOTIFY_SOCKET is taken out of the environment, so that nothing which a job starts speaks in its name.
    """

    def __init__(self, file: str | None, environ: MutableMapping[str, str] = os.environ) -> None:
        self._file = None if file is None else Path(file)
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        self._is_ready = False
        self._word = ""
        self._has_failed = False
        self._next_at = float("-inf")

    def ready(self, status: str) -> None:
        """It can do its work now. Said once."""
        if not self._is_ready:
            self._is_ready = True
            self._tell("READY=1", f"STATUS={status}")

    def alive(self, now: float, *, at_work: bool) -> None:
        """It turns, whatever the database does. To be called in each turn; `now` is monotonic seconds.

        `at_work` tells whether it does what it is there for: it has started, does not stop, and is in touch
        with the database. The file says so, and the manager is not told.
        """
        word = READY if at_work else ALIVE
        if now < self._next_at and (word == self._word or self._file is None):
            return
        if now >= self._next_at:
            self._next_at = now + PERIOD
            self._tell("WATCHDOG=1")
        self._touch(word)

    def stopping(self) -> None:
        """It takes nothing new."""
        self._tell("STOPPING=1", "STATUS=stopping")

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("the service manager does not listen: %s", error)

    def _touch(self, word: str) -> None:
        """Both words are of one length, and each is written over the other: that takes no room on a full
        disk, and nobody reads half of one."""
        self._word = word
        if self._file is None:
            return
        try:
            with open(self._file, "wb", buffering=0, opener=_in_its_place) as file:
                file.write(f"{word}\n".encode())
            self._has_failed = False
        except OSError as error:
            if not self._has_failed:
                log.warning("no sign of life in %s for now: %s", self._file, error.strerror)
            self._has_failed = True


def _in_its_place(path: str, flags: int) -> int:
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


def _address(path: str) -> str | None:
    """The socket of that name; one that begins with @ is in no folder."""
    if path.startswith("@"):
        return "\0" + path[1:]
    return path if path.startswith("/") else None
