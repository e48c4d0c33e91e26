"""Rendering: templates with the words, times and small pictures that all pages share."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from itsdangerous import BadSignature, URLSafeSerializer
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from cronqueue.clock import utcnow
from cronqueue.durations import format_duration, format_rough
from cronqueue.version import __version__
from cronsched.redaction import redacted
from cronsched.schedule_queries import are_all_paused
from cronsched.web.access import Access, form_token, own_path
from cronsched.web.problems import Problem
from cronsched.web.requests import database_of
from cronsched.web.roles import Role, User

TEMPLATES = Path(__file__).parent / "templates"
# Where there is nothing to tell.
NOTHING = "\N{EN DASH}"
# What an act has done is told by the page that follows it.
_TOLD = "sched_told"
# Of one value of what an act tells about itself, so many characters are shown.
_VALUE = 300
# Of a traceback, so much of its beginning and of its end, which says more.
_BEGINNING, _END = 4_000, 16_000
# Each state has a shape of its own: colour alone tells nothing to many.
GLYPHS = {
    "queued": "○",
    "due": "●",
    "held": "‖",
    "running": "▶",
    "succeeded": "✓",
    "failed": "✕",
    "cancelled": "⊘",
    "skipped": "↷",
    "missed": "!",
    "coalesced": "≡",
    "paused": "‖",
    "retired": "\N{EN DASH}",
    "draining": "▽",
    "silent": "!",
    "gathering": "○",
    "told": "✓",
    "over": "\N{EN DASH}",
    "waiting": "○",
    "sent": "✓",
}
NAVIGATION = (
    ("Now", "/", "n"),
    ("Timeline", "/timeline", "t"),
    ("Schedules", "/schedules", "s"),
    ("Jobs", "/jobs", "j"),
    ("Failures", "/failures", "f"),
    ("Alerts", "/alerts", "l"),
    ("Queues", "/queues", "q"),
    ("Workers", "/workers", "w"),
    ("Plan", "/plan", "p"),
    ("Audit", "/audit", "a"),
)


def render(
    request: Request, template: str, status: int = 200, now: datetime | None = None, **context: Any
) -> HTMLResponse:
    """A page; `now` is the time that its relative times count from."""
    site = Site(request, now or utcnow())
    told = site.told()
    halted = status == 200 and are_all_paused(database_of(request))
    page = _environment().get_template(template)
    text = page.render(site=site, told=told, halted=halted, **context)
    response = HTMLResponse(text, status_code=status)
    if told:
        response.delete_cookie(_TOLD, path=site.root or "/")
    return response


def render_problem(request: Request, problem: Problem, headers: Mapping[str, str]) -> Response:
    """What went wrong, as a page."""
    if not hasattr(request.state, "user"):  # whoever has not come in sees nothing of the house
        return Response(
            problem.detail, problem.status, headers=dict(headers), media_type="text/plain"
        )
    response = render(request, "problem.html", problem.status, problem=problem)
    response.headers.update(headers)
    return response


def done(request: Request, words: str, path: str) -> Response:
    """Back to a page of ours, which tells what has been done."""
    site = Site(request, utcnow())
    response = RedirectResponse(site.url(path), status_code=303)
    signed = _signer(request).dumps(words[:500])
    response.set_cookie(
        _TOLD,
        str(signed),
        60,
        path=site.root or "/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


class Site:
    """What every template may ask."""

    def __init__(self, request: Request, now: datetime) -> None:
        self._request = request
        self.now = now
        self.root: str = request.scope.get("root_path", "")
        self.path = own_path(request)
        self.version = __version__
        self.navigation = NAVIGATION
        self.glyphs = GLYPHS

    @property
    def user(self) -> User:
        user: User = self._request.state.user
        return user

    def may(self, needed: Role) -> bool:
        """Whether who looks at it may press what needs this role."""
        return self.user.may(needed)

    @property
    def read_only(self) -> bool:
        access: Access = self._request.state.access
        return access.read_only

    def token(self) -> str:
        """What a form has to bring back."""
        return form_token(self._request)

    def url(self, path: str, **asked: Any) -> str:
        """A path of ours, wherever we are mounted."""
        given = {name: value for name, value in asked.items() if value not in (None, "")}
        return self.root + path + (f"?{urlencode(given)}" if given else "")

    def here(self) -> str:
        """This page with what it was asked for, to come back to."""
        asked = self._request.url.query
        return self.path + (f"?{asked}" if asked else "")

    def told(self) -> str | None:
        """What the act before this page has done."""
        signed = self._request.cookies.get(_TOLD)
        if not signed:
            return None
        try:
            return str(_signer(self._request).loads(signed))
        except BadSignature:
            return None

    def when(self, moment: datetime | None, missing: str = NOTHING) -> Markup:
        """A time as its distance from now; the whole of it on a closer look."""
        if moment is None:
            return escape(missing)
        words = relative(moment, self.now)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            iso(moment), absolute(moment), words
        )

    def clock(self, moment: datetime | None, tz: str = "UTC") -> Markup:
        """A time on the clock of a zone, with the day unless that is today."""
        if moment is None:
            return escape(NOTHING)
        zone = ZoneInfo(tz)
        local = moment.astimezone(zone)
        same_day = local.date() == self.now.astimezone(zone).date()
        shown = f"{local:%H:%M:%S}" if same_day else f"{local:%a %d %b %H:%M}"
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            iso(moment), absolute(moment, tz), shown
        )

    def value(self, told: object) -> Markup:
        """A value of a stored detail: a time as a time, a text as it is, anything else as JSON."""
        if not isinstance(told, str):
            return escape(json.dumps(told, ensure_ascii=False)[:_VALUE])
        with suppress(ValueError):
            moment = datetime.fromisoformat(told)
            if moment.tzinfo is not None:
                return self.clock(moment.astimezone(UTC))
        return escape(told[:_VALUE])

    def field(self, moment: datetime, tz: str = "UTC") -> str:
        """A time as a form's field for times has it, on the clock of a zone."""
        return f"{moment.astimezone(ZoneInfo(tz)):%Y-%m-%dT%H:%M:%S}"


def relative(moment: datetime, now: datetime) -> str:
    """ "in 4m 2s", "3h ago": the two largest units near by, one far away."""
    distance = timedelta(seconds=round((moment - now).total_seconds()))
    if not distance:
        return "now"
    words = format_duration(abs(distance))
    if abs(distance) >= timedelta(hours=1):
        words = words.split()[0] if abs(distance) >= timedelta(days=1) else words
    return f"in {words}" if distance > timedelta(0) else f"{words} ago"


def absolute(moment: datetime, tz: str = "UTC") -> str:
    """The whole time with its zone."""
    return f"{moment.astimezone(ZoneInfo(tz)):%a %d %b %Y %H:%M:%S} {tz}"


def iso(moment: datetime) -> str:
    """A time for programs."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def duration(value: timedelta | float | None) -> str:
    """A duration in its two largest units; fractions of a second below a minute."""
    if value is None:
        return NOTHING
    return format_rough(value.total_seconds() if isinstance(value, timedelta) else value)


def command(*words: object) -> str:
    """A command line, quoted for the shell."""
    return shlex.join(["sched", *(str(each) for each in words)])


def pretty(stored: str | None) -> str:
    """Stored JSON for people, without secrets; a damaged row as it is."""
    if stored is None:
        return ""
    try:
        found = redacted(json.loads(stored), within=True)
    except (ValueError, RecursionError):
        return stored
    return json.dumps(found, indent=2, ensure_ascii=False)


def opened(stored: str | None) -> Any:
    """Stored JSON as a value, without secrets; None where there is none."""
    try:
        return redacted(json.loads(stored), within=True) if stored else None
    except (ValueError, RecursionError):
        return None


def cut(text: str) -> str:
    """A text that is no longer than a page can carry, its middle left out."""
    left_out = len(text) - _BEGINNING - _END
    if left_out <= 0:
        return text
    note = f"… {left_out:,} characters are left out here …"
    return f"{text[:_BEGINNING]}\n\n{note}\n\n{text[-_END:]}"


def verdict_kind(verdict: str | None) -> str:
    """The first word of a verdict: "skipped" of "skipped:overlap:12"."""
    return (verdict or "queued").partition(":")[0]


def _signer(request: Request) -> URLSafeSerializer:
    access: Access = request.app.state.access
    return URLSafeSerializer(access.secret, salt="told")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        duration=duration,
        pretty=pretty,
        opened=opened,
        cut=cut,
        kind=verdict_kind,
        iso=iso,
        part=lambda value: quote(str(value), safe=""),
        number=lambda value: f"{value:,}".replace(",", "\u202f"),
    )
    made.globals.update(command=command)
    return made
