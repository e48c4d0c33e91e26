"""The timeline as a calendar (RFC 5545) to subscribe to: what is to come, and how long it takes.

An occurrence keeps its UID however often it is moved, so a calendar moves the event that it knows. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from cronqueue.durations import format_duration
from cronsched.timeline import Coming, Lane, Timeline

# Of one lane: what runs every minute would hide all others, and no calendar shows more.
MOST_EVENTS = 500
# Shorter events are no more than a line in most calendars.
_LEAST = timedelta(minutes=1)
# Octets of a line before it has to be folded.
_LINE = 75


def calendar(timeline: Timeline, site: str | None = None) -> str:
    """The calendar of what is to come; with the address of the dashboard its events link there."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//cronqueue//timeline//EN",
        "METHOD:PUBLISH",
        "X-WR-CALNAME:sched",
        "REFRESH-INTERVAL;VALUE=DURATION:PT15M",
    ]
    for lane in timeline.lanes:
        for each in lane.coming[:MOST_EVENTS]:
            lines += _event(lane, each, timeline.now, site)
    lines.append("END:VCALENDAR")
    return "".join(f"{part}\r\n" for line in lines for part in _folded(line))


def _event(lane: Lane, coming: Coming, now: datetime, site: str | None) -> Iterator[str]:
    begins = max(coming.run_at, now)
    yield "BEGIN:VEVENT"
    yield f"UID:{_uid(lane, coming)}"
    yield f"DTSTAMP:{_utc(now)}"
    yield f"DTSTART:{_utc(begins)}"
    yield f"DTEND:{_utc(begins + max(lane.expected, _LEAST))}"
    held = f" ({coming.held_reason})" if coming.held_reason else ""
    yield f"SUMMARY:{_text(lane.name + held)}"
    yield f"DESCRIPTION:{_text(_told(lane, coming))}"
    # Nobody is busy because a job runs.
    yield "TRANSP:TRANSPARENT"
    yield f"STATUS:{'TENTATIVE' if coming.held_reason or coming.job_id is None else 'CONFIRMED'}"
    if site is not None:
        page = f"/jobs/{coming.job_id}" if coming.job_id else f"/schedules/{quote(lane.name)}"
        yield f"URL:{site.rstrip('/')}{page}"
    yield "END:VEVENT"


def _uid(lane: Lane, coming: Coming) -> str:
    """An occurrence is known by its schedule and its planned time, any other job by its number."""
    if coming.planned_for is None:
        return f"job-{coming.job_id}@cronqueue"
    return f"{quote(lane.name)}-{_utc(coming.planned_for)}@cronqueue"


def _told(lane: Lane, coming: Coming) -> str:
    written = "not written yet" if coming.job_id is None else f"job {coming.job_id}"
    told = [lane.words or "a job of its own", f"queue {lane.queue}", written]
    if lane.took is not None:
        p50, p95 = (
            format_duration(timedelta(seconds=round(each, 1)))
            for each in (lane.took.p50, lane.took.p95)
        )
        told.append(f"takes {p50}, at most {p95} of 95 %")
    return "\n".join(told)


def _utc(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _text(words: str) -> str:
    escaped = re.sub(r"([\\;,])", r"\\\1", words).replace("\n", "\\n")
    return "".join(each for each in escaped if each.isprintable())


def _folded(line: str) -> Iterator[str]:
    """Lines of at most 75 octets; those that go on begin with a space. No letter is torn apart."""
    part, size = "", 0
    for letter in line:
        octets = len(letter.encode())
        if size + octets > _LINE:
            yield part
            part, size = " ", 1
        part += letter
        size += octets
    yield part
