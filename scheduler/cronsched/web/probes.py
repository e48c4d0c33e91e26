"""Probes and metrics. `/livez` never asks the database: an outage of it must not restart what is healthy."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cronqueue import schema
from cronsched.metrics import CONTENT_TYPE, Totals, collect, exposition, without_database
from cronsched.web.problems import problem_of
from cronsched.web.requests import database_of, memory_of
from cronsched.web.roles import page

# Many may scrape; the database is asked once in so many seconds.
FRESH_SECONDS = 4.0

log = logging.getLogger("cronsched.web")


async def livez(request: Request) -> Response:
    """This process answers."""
    return JSONResponse({"live": True})


def readyz(request: Request) -> Response:
    """The database answers, and its schema fits."""
    try:
        schema.require(database_of(request))
    except Exception as error:
        return JSONResponse({"ready": False, "code": problem_of(error).code}, status_code=503)
    return JSONResponse({"ready": True})


def metrics(request: Request) -> Response:
    """What Prometheus reads. Without the database it says so, and nothing that comes from there."""
    text = memory_of(request).ask("metrics", lambda: _metrics(request), at_least=FRESH_SECONDS)
    return PlainTextResponse(text, headers={"content-type": CONTENT_TYPE})


def _metrics(request: Request) -> str:
    totals: Totals = request.app.state.totals
    try:
        return exposition(collect(database_of(request), totals))
    except Exception as error:
        log.warning("no metrics from the database: %s", problem_of(error).detail)
        return exposition(without_database())


routes = [Route("/livez", livez), Route("/readyz", readyz), page("/metrics", metrics)]
