"""Probes. `/livez` never asks the database: an outage of it must not restart what is healthy."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cronqueue import schema
from cronsched.web.problems import problem_of
from cronsched.web.requests import database_of


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


routes = [Route("/livez", livez), Route("/readyz", readyz)]
