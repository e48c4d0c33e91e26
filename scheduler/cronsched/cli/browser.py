"""The dashboard in a browser, as soon as it answers."""

from __future__ import annotations

import socket
import threading
import time
import webbrowser
from contextlib import suppress

# Seconds that the page may take to be there, and between two looks for it.
PATIENCE, PAUSE = 60.0, 0.2
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens, not where we do


def open_when_there(host: str, port: int) -> threading.Thread:
    """Wait beside everything else until it listens, and show it; after a minute no more."""
    waiting = threading.Thread(target=_wait_and_open, args=(host, port), name="open", daemon=True)
    waiting.start()
    return waiting


def _wait_and_open(host: str, port: int) -> None:
    host = _EVERYWHERE.get(host, host)
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(OSError):
            socket.create_connection((host, port), timeout=1).close()
            webbrowser.open(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
            return
        time.sleep(PAUSE)
