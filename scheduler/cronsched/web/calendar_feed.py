"""The timeline as a calendar to subscribe to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from cronqueue.durations import parse_duration
from cronsched.ical_feed import calendar
from cronsched.timeline import read_timeline
from cronsched.web.problems import Refused
from cronsched.web.requests import database_of, memory_of, text_of

PATH = "/timeline.ics"
_AHEAD = timedelta(days=7)
_LONGEST = timedelta(days=31)


def show_calendar(request: Request) -> Response:
    """What is to come, of all schedules or of one."""
    asked = request.query_params
    ahead = _length(asked.get("for"))
    database = database_of(request)
    found = memory_of(request).ask(
        f"calendar {ahead}", lambda: read_timeline(database, timedelta(0), ahead)
    )
    name, queue = text_of(asked, "schedule"), text_of(asked, "queue")
    lanes = tuple(
        lane for lane in found.lanes if name in (None, lane.name) and queue in (None, lane.queue)
    )
    # Not `base_url`, which knows nothing of where we are mounted.
    site = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
    text = calendar(replace(found, lanes=lanes), site)
    return Response(text, media_type="text/calendar; charset=utf-8")


def _length(text: str | None) -> timedelta:
    if not text:
        return _AHEAD
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise Refused(422, "invalid", str(error)) from None
    if not timedelta(0) < found <= _LONGEST:
        raise Refused(422, "invalid", "for is at most 31d")
    return found
