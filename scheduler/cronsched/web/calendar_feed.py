"""The timeline as a calendar to subscribe to.

Programs that subscribe send neither passwords nor headers of ours. So the link itself lets in, to this one
document: it brings a token that is signed with the secret of the site, and ends with it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from itsdangerous import BadSignature, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

from cronqueue.durations import parse_duration
from cronsched.ical_feed import calendar
from cronsched.timeline import read_timeline
from cronsched.web.access import Access, own_path
from cronsched.web.problems import Refused
from cronsched.web.requests import database_of, memory_of, text_of
from cronsched.web.roles import User
from cronsched.web.sign_in import Authenticate

PATH = "/timeline.ics"
READER = "calendar"
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


def token_of(access: Access) -> str:
    """What a link to the calendar brings."""
    return str(_serializer(access.secret).dumps(READER))


def admit_calendars(authenticate: Authenticate, secret: str) -> Authenticate:
    """Who comes in anyway, and whoever asks for the calendar with the token of its link."""

    def admit(request: Request) -> User | str | None:
        if (
            request.method == "GET"
            and own_path(request) == PATH
            and "token" in request.query_params
        ):
            try:
                return User(_serializer(secret).loads(request.query_params["token"]), "viewer")
            except BadSignature:
                return None
        return authenticate(request)

    return admit


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


def _serializer(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt="calendar")
