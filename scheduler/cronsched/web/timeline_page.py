"""The page of the timeline."""

from __future__ import annotations

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from cronsched.timeline import herds_of, load_of, quiet_of, read_timeline
from cronsched.web import calendar_feed
from cronsched.web.links import link_of
from cronsched.web.problems import Refused
from cronsched.web.rendering import render
from cronsched.web.requests import database_of, memory_of, settings_of
from cronsched.web.timeline_picture import draw

RANGES = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
# The longer the range, the less changes in a picture of it, and the more it costs.
_REFRESH = {"1h": 10, "6h": 30, "24h": 60, "7d": 300}
# Columns of the load band.
_COLUMNS = 160


def show_timeline(request: Request) -> Response:
    """What ran, what will run, will it fit? Now stands at one third."""
    name = request.query_params.get("range") or "1h"
    if name not in RANGES:
        raise Refused(422, "invalid", f"range is one of {', '.join(RANGES)}")
    length = RANGES[name]
    database = database_of(request)
    timeline = memory_of(request).ask(
        f"timeline {name}", lambda: read_timeline(database, length / 3, length * 2 / 3)
    )
    load = load_of(timeline, length * 2 / 3 / _COLUMNS)
    worst = max(load, key=lambda each: each.delay, default=None)
    return render(
        request,
        "timeline.html",
        now=timeline.now,
        timeline=timeline,
        picture=draw(timeline, load, settings_of(request).tz),
        ranges=RANGES,
        chosen=name,
        every=_REFRESH[name],
        tz=settings_of(request).tz,
        worst=worst if worst is not None and worst.delay else None,
        peak=max((each.wanted for each in load), default=0.0),
        herds=herds_of(timeline),
        quiet=quiet_of(timeline),
        feed=link_of(request.state.access, calendar_feed.PATH),
    )
