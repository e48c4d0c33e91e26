"""A schedule's state as a small picture, for pages elsewhere."""

from __future__ import annotations

from datetime import datetime, timedelta

from markupsafe import escape
from starlette.requests import Request
from starlette.responses import Response

from cronsched.errors import no_such_schedule
from cronsched.schedule_queries import ScheduleRow, find_schedule
from cronsched.web.requests import database_of

_GOOD, _BAD, _WARNING, _NEUTRAL = "#16734a", "#b3261e", "#8a5a00", "#5d6778"
_COLOURS = {
    "ok": _GOOD,
    "running": "#1d5fbf",
    "failing": _BAD,
    "missed": _BAD,
    "late": _BAD,
    "paused": _WARNING,
}
# A letter of the picture's font, on average; what is shorter stands in the middle.
_LETTER = 6.6
# Due for longer than this, it is late: workers look every few seconds.
_LATE = timedelta(minutes=1)
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{told}">\
<title>{told}</title><clipPath id="r"><rect width="{width}" height="20" rx="4"/></clipPath>\
<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#3b4252"/>\
<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>\
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">\
<text x="{left_middle}" y="14">{name}</text><text x="{right_middle}" y="14">{word}</text></g></svg>
"""


def show_badge(request: Request) -> Response:
    """How a schedule stands, in a word."""
    name = request.path_params["name"]
    database = database_of(request)
    row = find_schedule(database, name)
    if row is None:
        raise no_such_schedule(name)
    return Response(
        draw(row.name, word_of(row, database.server_now())),
        media_type="image/svg+xml",
        headers={
            "cache-control": "max-age=60",
            # To be shown on pages of other sites is what it is for.
            "cross-origin-resource-policy": "cross-origin",
        },
    )


def word_of(row: ScheduleRow, now: datetime) -> str:
    """How it stands: ok, running, failing, missed, late, paused, retired, or what became of its last run."""
    verdict = (row.last_verdict or "").partition(":")[0]
    if row.state != "active":
        return row.state
    if verdict in ("failed", "missed"):
        return "failing" if verdict == "failed" else verdict
    if row.next_run is not None and row.next_run < now - _LATE:
        return "late"
    return {"succeeded": "ok", "": "not yet", "queued": "due"}.get(verdict, verdict)


def draw(name: str, word: str) -> str:
    """The picture: the name to the left, the word on its colour to the right."""
    left, right = (round(len(each) * _LETTER + 12) for each in (name, word))
    return _SVG.format(
        width=left + right,
        left=left,
        right=right,
        left_middle=left / 2,
        right_middle=left + right / 2,
        colour=_COLOURS.get(word, _NEUTRAL),
        name=escape(name),
        word=escape(word),
        told=escape(f"{name}: {word}"),
    )
