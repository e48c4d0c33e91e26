"""Problems: everything that goes wrong has one shape (RFC 9457), for programs and as a page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cronqueue.database import is_outage
from cronqueue.errors import (
    ArgumentError,
    ConfigurationError,
    CronqueueError,
    DatabaseUnreachable,
    KeyTaken,
    SchemaMismatch,
    StateError,
    UnknownTask,
)
from cronsched.alerts.outside import NotSent

log = logging.getLogger("cronsched.web")


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong: a status of HTTP, a word for programs, and a sentence."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase


class Refused(Exception):
    """Answer with this problem."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status, code, detail, headers or {})


def problem_of(error: Exception) -> Problem:
    """How an error of ours looks from outside. What is none of ours tells nothing of itself."""
    match error:
        case Refused():
            return error.problem
        case HTTPException():
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
            return Problem(error.status_code, code, str(error.detail), error.headers or {})
        case DatabaseUnreachable():
            return Problem(503, "database_unreachable", "the database does not answer")
        case SchemaMismatch():
            return Problem(503, "schema_mismatch", str(error))
        case UnknownTask():
            return Problem(422, "unknown_task", str(error))
        case KeyTaken() | StateError():
            return Problem(409, "conflict", str(error))
        case CronqueueError() if isinstance(error, ValueError | ArgumentError):
            return Problem(422, "invalid", str(error))
        case ConfigurationError():
            return Problem(422, "not_configured", str(error))
        case NotSent():
            return Problem(502, "not_sent", str(error))
        case LookupError() if type(error) is LookupError:
            return Problem(404, "not_found", str(error))
    if isinstance(error, DBAPIError) and is_outage(error):
        return Problem(503, "database_unreachable", "the database does not answer")
    log.error("the web failed", exc_info=error)
    return Problem(500, "internal", "this failed, and the log of `sched web` tells why")


async def answer(request: Request, error: Exception) -> Response:
    """The handler of all errors."""
    return problem_response(request, problem_of(error))


def problem_response(request: Request, problem: Problem) -> Response:
    """As a document for programs, as a page for people."""
    headers = dict(problem.headers)
    if problem.status == 401:
        headers["www-authenticate"] = 'Basic realm="sched", charset="UTF-8"'
    if "/api/" not in request.url.path and "text/html" in request.headers.get("accept", ""):
        from cronsched.web.rendering import render_problem

        return render_problem(request, problem, headers)
    return JSONResponse(
        as_document(problem),
        status_code=problem.status,
        headers=headers,
        media_type="application/problem+json",
    )


def as_document(problem: Problem) -> dict[str, Any]:
    """The problem as RFC 9457 has it, with our own word for it."""
    return {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
    }
