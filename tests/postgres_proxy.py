"""A proxy before PostgreSQL that fails as networks do: it cuts lines, stalls, and loses replies to COMMIT."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"


class Proxy:
    """Listens on a port of its own, and passes on what it is not told to lose."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lines: set[socket.socket] = set()
        self._silent: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._lost_share, self._lost_reply = 0.0, COMMITTED
        #: Such replies that never arrived.
        self.lost = 0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @contextmanager
    def losing_commits(self, share: float, reply: bytes = COMMITTED) -> Iterator[None]:
        """Cut the line where the reply to a COMMIT, or another one, passes: this share of them."""
        self._lost_share, self._lost_reply = share, reply
        try:
            yield
        finally:
            self._lost_share, self._lost_reply = 0.0, COMMITTED

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Pass on nothing, in neither direction; nobody is told."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    def silence(self) -> None:
        """From now on the connections that are open take what they are sent, and nothing comes of it."""
        with self._lock:
            self._silent |= self._lines

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            _close(line)

    def close(self) -> None:
        """End everything."""
        self._flowing.set()
        _close(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), 5)
            except OSError:
                _close(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._lines |= {client, server}
            for source, sink, replies in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pass_on, args=(source, sink, replies), daemon=True
                ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if source in self._silent:
                    continue
                if replies and self._lost_reply in data and random.random() < self._lost_share:
                    self.lost += 1
                    break
                sink.sendall(data)
        with self._lock:
            self._lines -= {source, sink}
            self._silent -= {source, sink}
        _close(source)
        _close(sink)


def _close(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()
