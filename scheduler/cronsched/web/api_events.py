"""Server-sent events: a job, or the whole, whenever it has changed. Polling is behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from cronqueue import overview, queries
from cronqueue.database import Database
from cronqueue.states import TERMINAL
from cronsched.documents import plain
from cronsched.redaction import redacted
from cronsched.web.operations import Operation
from cronsched.web.problems import Refused, as_document, problem_of
from cronsched.web.requests import database_of, job_id_of

JOB_SECONDS = 0.5
OVERVIEW_SECONDS = 2.0
# Proxies cut lines on which nothing is said for a minute.
SILENCE_SECONDS = 15.0
# Each stream asks the database every time: more of them than this belong behind a cache.
MOST_STREAMS = 100

Look = Callable[[Database], tuple[dict[str, Any], bool]]


def job_events(request: Request) -> StreamingResponse:
    """The job whenever its state or progress has changed; ends with the job."""
    job_id = job_id_of(request)
    queries.find_job(database_of(request), job_id)

    def look(database: Database) -> tuple[dict[str, Any], bool]:
        details = queries.find_job(database, job_id)
        row = details.row
        shown = {
            "id": row.id,
            "state": row.state,
            "attempts": row.attempts,
            "progress_json": row.progress_json,
            "result_json": details.result_json,
            "reason": row.reason,
            "error": queries.error_line(details.last_error) or None,
        }
        return shown, row.state in TERMINAL

    return _stream(request, "job", look, JOB_SECONDS)


def overview_events(request: Request) -> StreamingResponse:
    """The overview whenever it has changed."""
    return _stream(
        request,
        "overview",
        lambda database: (plain(overview.stats(database)), False),
        OVERVIEW_SECONDS,
    )


_open: set[object] = set()


def _stream(request: Request, name: str, look: Look, seconds: float) -> StreamingResponse:
    if len(_open) >= MOST_STREAMS:
        raise Refused(503, "too_many", f"{MOST_STREAMS} streams are open already: poll instead")
    events = _events(request, name, look, seconds)
    return StreamingResponse(
        events, media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


async def _events(request: Request, name: str, look: Look, seconds: float) -> AsyncIterator[str]:
    """A line for each change, and one that says nothing now and then."""
    database, me = database_of(request), object()
    told, silent = "", 0.0
    _open.add(me)
    try:
        while not await request.is_disconnected():
            try:
                found, is_last = await run_in_threadpool(look, database)
            except Exception as error:
                yield f"event: problem\ndata: {json.dumps(as_document(problem_of(error)))}\n\n"
                return
            shown = json.dumps(redacted(plain(found)))
            if shown != told:
                told, silent = shown, 0.0
                yield f"event: {name}\ndata: {shown}\n\n"
            if is_last:
                return
            await asyncio.sleep(seconds)
            silent += seconds
            if silent >= SILENCE_SECONDS:
                silent = 0.0
                yield ": still here\n\n"
    finally:
        _open.discard(me)


OPERATIONS = [
    Operation(
        "GET",
        "/jobs/{job_id:int}/events",
        "job_events",
        "A job whenever it changes",
        job_events,
        {},
        is_stream=True,
    ),
    Operation(
        "GET",
        "/events",
        "overview_events",
        "The overview whenever it changes",
        overview_events,
        {},
        is_stream=True,
    ),
]
