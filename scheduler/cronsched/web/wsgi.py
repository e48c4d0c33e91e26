"""The same application for what speaks WSGI: to be mounted in Flask, Django and the like."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cronqueue.errors import ConfigurationError
from cronsched.web import application


def app(**options: Any) -> WSGIApplication:
    """Dashboard and API, with the options of `cronsched.web.app`; needs the extra `wsgi`.

    The request that `authenticate` gets has the environment in `request.scope["wsgi_environ"]`.
    """
    try:
        from a2wsgi import ASGIMiddleware
    except ImportError:
        raise ConfigurationError("a2wsgi is missing: pip install 'cronqueue[web,wsgi]'") from None
    site: Any = application.app(**options)
    # Its loop is a thread, and threads do not survive the fork by which many servers start their workers.
    by_process: dict[int, Any] = {}

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        process = os.getpid()
        if process not in by_process:
            by_process.setdefault(process, ASGIMiddleware(site))
        answer: Iterable[bytes] = by_process[process](environ, start_response)
        return answer

    return serve
