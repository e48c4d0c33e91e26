"""The timeline as a picture: boxes in units of the drawing, which its template draws as SVG. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsched.timeline import Coming, Lane, Load, Run, Timeline
from cronsched.web.rendering import absolute, duration

WIDTH = 1200.0
LEFT = 190.0  # for the names
LANE = 30
TOP = 34
HEADING = 26  # above the lanes of a queue
BAND = 74
# Bars nearer than this become one: nobody could tell them apart.
_NEAR = 1.5
_LEAST = 3.0
# What is drawn later lies upon what is drawn before: a failure is never covered.
_ORDER = ("queued", "held", "beyond", "succeeded", "running", "skipped", "cancelled", "failed")
_WORDS = {"queued": "to come", "beyond": "to come, not written yet"}
# A label needs so much room on either side.
_LABEL = 32.0
_STEPS = tuple(
    timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)
)


@dataclass(frozen=True, slots=True)
class Box:
    """A bar of one job, or of several that lie too near: `count`. `wait`: where its waiting began.

    `whisker`: where it ends at its 95th percentile. `planned_for`: what is no row yet is known by its time.
    """

    kind: str
    x: float
    width: float
    title: str
    job_id: int | None
    count: int = 1
    wait: float | None = None
    whisker: float | None = None
    planned_for: datetime | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A lane with its boxes, and where what is written ends. `heading`: of the group that begins with it."""

    lane: Lane
    y: int
    boxes: tuple[Box, ...]
    covered: float | None
    heading: str | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """A line with its time; `is_day`: a day begins, or clocks change."""

    x: float
    label: str
    is_day: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the load band; `over`: the part for which places are missing."""

    x: float
    width: float
    y: float
    height: float
    over: float
    title: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is drawn."""

    width: float
    height: float
    left: float
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    now: float
    band_top: float
    columns: tuple[Column, ...]
    places_y: float
    scale: float


def draw(timeline: Timeline, load: Sequence[Load], tz: str) -> Picture:
    """The picture of a timeline with its load, on the clock of a zone."""
    axis = _Axis(timeline)
    rows = tuple(_rows(timeline, axis))
    band_top = (rows[-1].y + LANE if rows else TOP) + 26
    scale = max([each.wanted for each in load] + [timeline.places, 1]) * 1.1
    return Picture(
        WIDTH,
        band_top + BAND + 8,
        LEFT,
        rows,
        tuple(_ticks(timeline, axis, tz)),
        axis.x(timeline.now),
        band_top,
        tuple(_columns(timeline, load, axis, band_top, scale)),
        round(band_top + BAND * (1 - timeline.places / scale), 1),
        scale,
    )


def _rows(timeline: Timeline, axis: _Axis) -> Iterator[Row]:
    """The lanes from top to bottom, under headings where there is more than one group."""
    y, before = TOP, None
    is_grouped = len({_heading(lane) for lane in timeline.lanes}) > 1
    for lane in timeline.lanes:
        heading = _heading(lane) if is_grouped else None
        is_first = heading != before
        y += HEADING if is_first else 0
        boxes = tuple(_boxes(lane, timeline, axis))
        yield Row(lane, y, boxes, _covered(lane, axis), heading if is_first else None)
        y, before = y + LANE, heading


def _heading(lane: Lane) -> str:
    return f"queue {lane.queue}" if lane.is_schedule else "jobs without a schedule"


class _Axis:
    def __init__(self, timeline: Timeline) -> None:
        self._start = timeline.start
        self._unit = (WIDTH - LEFT) / (timeline.end - timeline.start).total_seconds()

    def x(self, moment: datetime) -> float:
        """Where a moment is; what lies outside is put at the edge."""
        place = LEFT + (moment - self._start).total_seconds() * self._unit
        return round(min(max(place, LEFT), WIDTH), 1)


def _boxes(lane: Lane, timeline: Timeline, axis: _Axis) -> Iterator[Box]:
    """The lane's bars, kind by kind. What stands alone is told about: of a day there may be thousands."""
    sources: list[Run | Coming] = [*lane.runs, *lane.coming]
    places = [_place(each, lane, timeline, axis) for each in sources]
    order = sorted(range(len(sources)), key=lambda number: places[number].x)
    for kind in _ORDER:
        alike = ((places[number], number) for number in order if places[number].kind == kind)
        for box, number in _merged(alike):
            if box.count > 1:
                yield replace(box, title=f"{box.count} jobs {_WORDS.get(kind, kind)}")
            else:
                yield replace(box, title=_told(sources[number], lane, timeline))


def _place(each: Run | Coming, lane: Lane, timeline: Timeline, axis: _Axis) -> Box:
    if isinstance(each, Coming):
        return _place_of_coming(each, lane, timeline, axis)
    begins = each.started_at or each.finished_at or each.due_at
    x, due = axis.x(begins), axis.x(each.due_at)
    wait = due if x - due > 1 and each.started_at is not None else None
    width = max(axis.x(each.finished_at or timeline.now) - x, _LEAST)
    return Box(each.state, x, width, "", each.job_id, wait=wait)


def _place_of_coming(each: Coming, lane: Lane, timeline: Timeline, axis: _Axis) -> Box:
    begins = max(each.run_at, timeline.now)
    x = axis.x(begins)
    width = max(axis.x(begins + lane.expected) - x, _LEAST)
    kind = "held" if each.held_reason else "queued" if each.job_id else "beyond"
    whisker = None
    if lane.took is not None:
        far = axis.x(begins + timedelta(seconds=lane.took.p95))
        whisker = far if far > x + width + 1 else None
    unwritten = each.planned_for if each.job_id is None else None
    return Box(kind, x, width, "", each.job_id, whisker=whisker, planned_for=unwritten)


def _told(each: Run | Coming, lane: Lane, timeline: Timeline) -> str:
    if isinstance(each, Run):
        return _told_run(each, timeline)
    told = f"job {each.job_id}" if each.job_id else "not written yet"
    if each.held_reason:
        told += f", held: {each.held_reason}"
    if lane.took is not None:
        told += f", takes {duration(lane.took.p50)}, at most {duration(lane.took.p95)} of 95 %"
    return f"{told} · {absolute(each.run_at)}"


def _told_run(run: Run, timeline: Timeline) -> str:
    begins = run.started_at or run.finished_at or run.due_at
    took = duration((run.finished_at or timeline.now) - begins)
    told = f"job {run.job_id} {run.state}"
    if run.started_at is not None:
        told += f" after {took}" if run.finished_at else f" for {took}"
        told += f", waited {duration(max(begins - run.due_at, timedelta(0)))}"
    elif run.reason:
        told += f": {run.reason}"
    return f"{told} · {absolute(begins)}"


def _merged(boxes: Iterator[tuple[Box, int]]) -> Iterator[tuple[Box, int]]:
    """Neighbours that lie too near as one, with the number of the first."""
    waiting: tuple[Box, int] | None = None
    for box, number in boxes:
        if waiting is None:
            waiting = box, number
            continue
        known = waiting[0]
        end = known.x + known.width
        if box.x - end < _NEAR:
            width = round(max(end, box.x + box.width) - known.x, 1)
            waiting = Box(known.kind, known.x, width, "", None, known.count + 1), waiting[1]
        else:
            yield waiting
            waiting = box, number
    if waiting is not None:
        yield waiting


def _covered(lane: Lane, axis: _Axis) -> float | None:
    if lane.covered_until is None:
        return None
    x = axis.x(lane.covered_until)
    return x if LEFT < x < WIDTH else None


def _ticks(timeline: Timeline, axis: _Axis, tz: str) -> Iterator[Tick]:
    zone = ZoneInfo(tz)
    span = timeline.end - timeline.start
    step = next((each for each in _STEPS if span / each <= 13), _STEPS[-1])
    # On the clock of the zone: a day begins at its midnight, however long the one before was.
    shown = timeline.start.astimezone(zone).replace(
        hour=0, minute=0, second=0, microsecond=0, tzinfo=None
    )
    before, offset = timeline.start, None
    while (at := shown.replace(tzinfo=zone).astimezone(UTC)) < timeline.end:
        shown += step
        if at <= before:
            continue
        local = at.astimezone(zone)
        is_day = local.hour == local.minute == 0
        label = f"{local:%a %d}" if is_day else f"{local:%H:%M}"
        if offset is not None and offset != local.utcoffset():
            is_day, label = True, f"{label} clocks change"
        before, offset = at, local.utcoffset()
        x = axis.x(at)
        if abs(x - axis.x(timeline.now)) < _LABEL or x > WIDTH - _LABEL / 2:
            label = ""  # no room
        yield Tick(x, label, is_day)


def _columns(
    timeline: Timeline, load: Sequence[Load], axis: _Axis, top: float, scale: float
) -> Iterator[Column]:
    for number, each in enumerate(load):
        ends = load[number + 1].at if number + 1 < len(load) else timeline.end
        x = axis.x(each.at)
        height = BAND * each.wanted / scale
        over = BAND * max(each.wanted - timeline.places, 0) / scale
        told = f"{absolute(each.at)}: {each.wanted:.1f} of {timeline.places} places"
        if each.delay:
            told += f", jobs start {duration(each.delay)} late"
        width = max(axis.x(ends) - x - 0.5, 0.5)
        yield Column(
            x,
            round(width, 1),
            round(top + BAND - height, 1),
            round(height, 1),
            round(over, 1),
            told,
        )
