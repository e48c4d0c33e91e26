"""A real server before the web application, for what asks it as a stranger does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette


@contextmanager
def served(site: Starlette) -> Iterator[str]:
    """The address at which it is served, as `sched web` does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            site, log_config=None, log_level="error", server_header=False, lifespan="off"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
