"""Server-sent events: a job, or the whole, whenever it has changed. Polling is behind them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from cronqueue import loglines, overview, queries
from cronqueue.database import Database
from cronqueue.states import TERMINAL
from cronqueue.tracebacks import error_line
from cronsched.documents import plain
from cronsched.redaction import redacted
from cronsched.web.operations import Operation, Parameter
from cronsched.web.problems import Refused, as_document, problem_of
from cronsched.web.requests import database_of, job_id_of, line_place_of

JOB_SECONDS = 0.5
OVERVIEW_SECONDS = 2.0
# Proxies cut lines on which nothing is said for a minute.
SILENCE_SECONDS = 15.0
# Each stream asks the database every time: more of them than this belong behind a cache.
MOST_STREAMS = 100

# Lines of a log in one event.
LINES = 200


class Event(NamedTuple):
    """What is to be told, unless it was told the last time."""

    name: str
    data: Any
    id: str = ""


Look = Callable[[Database], tuple[list[Event], bool]]


def job_events(request: Request) -> StreamingResponse:
    """The job whenever its state or progress has changed, and what it logs; ends with the job."""
    job_id = job_id_of(request)
    queries.find_job(database_of(request), job_id)
    known = request.headers.get("last-event-id") or request.query_params.get("log_after")
    place = line_place_of(known, "log_after")

    def look(database: Database) -> tuple[list[Event], bool]:
        nonlocal place
        details = queries.find_job(database, job_id)
        row = details.row
        shown = {
            "id": row.id,
            "state": row.state,
            "attempts": row.attempts,
            "progress_json": row.progress_json,
            "result_json": details.result_json,
            "reason": row.reason,
            "error": error_line(details.last_error) or None,
        }
        # After its state: when a job has ended, its lines are written.
        lines = loglines.read_lines(database, job_id, after=place, limit=LINES)
        if not lines:
            return [Event("job", shown)], row.state in TERMINAL
        place = lines[-1].place
        told = [Event("log", lines, str(place)), Event("job", shown)]
        return told, row.state in TERMINAL and len(lines) < LINES

    return _stream(request, look, JOB_SECONDS)


def overview_events(request: Request) -> StreamingResponse:
    """The overview whenever it has changed."""
    return _stream(
        request,
        lambda database: ([Event("overview", overview.stats(database))], False),
        OVERVIEW_SECONDS,
    )


_open: set[object] = set()


def _stream(request: Request, look: Look, seconds: float) -> StreamingResponse:
    if len(_open) >= MOST_STREAMS:
        raise Refused(503, "too_many", f"{MOST_STREAMS} streams are open already: poll instead")
    events = _events(request, look, seconds)
    return StreamingResponse(
        events, media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


async def _events(request: Request, look: Look, seconds: float) -> AsyncIterator[str]:
    """A line for each change, and one that says nothing now and then."""
    database, me = database_of(request), object()
    told: dict[str, str] = {}
    silent = 0.0
    _open.add(me)
    try:
        while not await request.is_disconnected():
            try:
                found, is_last = await run_in_threadpool(look, database)
            except Exception as error:
                yield f"event: problem\ndata: {json.dumps(as_document(problem_of(error)))}\n\n"
                return
            for event in found:
                shown = json.dumps(redacted(plain(event.data)))
                if shown != told.get(event.name):
                    told[event.name], silent = shown, 0.0
                    known = f"id: {event.id}\n" if event.id else ""
                    yield f"event: {event.name}\n{known}data: {shown}\n\n"
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
        "A job whenever it changes, and what it logs",
        job_events,
        {},
        (
            Parameter(
                "log_after",
                {"type": "string", "pattern": r"^[0-9]{1,18}\.[0-9]{1,18}$"},
                "claim and number of the last line that is known: 3.17",
            ),
        ),
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
