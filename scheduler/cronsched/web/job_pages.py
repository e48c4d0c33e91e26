"""Pages of jobs: the list, one job, and the question before an act on many."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cronqueue import audit, loglines, overview, queries
from cronqueue.database import Database
from cronqueue.queries import JobDetails, JobRow
from cronqueue.states import TERMINAL
from cronqueue.tracebacks import error_line
from cronsched import explanation, schedule_queries
from cronsched.job_export import FORMATS
from cronsched.job_search import LOOKED_AT, NOTHING, Carried, find_all, find_page
from cronsched.redaction import redacted_json
from cronsched.web.bulk import ACTS, count_of, meant_by
from cronsched.web.problems import Refused
from cronsched.web.rendering import command, render
from cronsched.web.requests import (
    as_text,
    database_of,
    job_id_of,
    memory_of,
    place_of,
    settings_of,
)
from cronsched.web.roles import require
from cronsched.web.searching import as_search, carried_as_search, read_search, take_carried

_ROWS = 50
_EXPORTED = 100_000
_LINES = 200
# Seconds from refresh to refresh of one job's page.
_REFRESH = 5
_REFRESH_ENDED = 60


def list_jobs(request: Request) -> Response:
    """Find any job. Without a filter what is nearest to now."""
    database = database_of(request)
    now = database.server_now()
    asked = request.query_params
    try:
        chosen, carried = _meant_by(asked.get("q", ""), now)
        fault = None
    except Refused as refused:
        chosen, carried, fault = queries.Filter(), NOTHING, refused.problem.detail
    place = place_of(asked)
    if (chosen, carried, place) == (queries.Filter(), NOTHING, None):
        page = queries.Page(queries.select_jobs(database, chosen, _ROWS), None)
    else:
        page = find_page(database, chosen, carried, chosen.natural_order, after=place, limit=_ROWS)
    stats = memory_of(request).ask("stats", lambda: overview.stats(database))
    return render(
        request,
        "jobs.html",
        now=now,
        rows=page.rows,
        next=as_text(page.next),
        chosen=chosen,
        looked_at=LOOKED_AT if page.next and len(page.rows) < _ROWS else None,
        is_for_acts=carried == NOTHING,
        search=_as_search(chosen, carried) if fault is None else asked.get("q", ""),
        fault=fault,
        by_state=stats.by_state,
        due=stats.due,
        without_state=_as_search(replace(chosen, states=(), due=False), carried),
        acts=ACTS,
        formats=FORMATS,
        most_exported=_EXPORTED,
    )


def export(request: Request) -> Response:
    """The jobs of a search as a file, streamed: the first hundred thousand."""
    database, kind = database_of(request), request.path_params["format"]
    if kind not in FORMATS:
        raise Refused(404, "not_found", f"there are {', '.join(FORMATS)}")
    chosen, carried = _meant_by(request.query_params.get("q", ""), database.server_now())
    lines, media_type = FORMATS[kind]
    rows = find_all(database, chosen, carried, limit=_EXPORTED)
    return StreamingResponse(
        _in_pieces(lines(rows)),
        media_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="jobs.{kind}"'},
    )


def show_job(request: Request) -> Response:
    """What happened to this one, and why."""
    database, job_id = database_of(request), job_id_of(request)
    details = queries.find_job(database, job_id)
    row, reasons = explanation.explain(database, job_id)
    tz = settings_of(request).tz
    return render(
        request,
        "job.html",
        now=database.server_now(),
        every=_REFRESH_ENDED if row.state in TERMINAL else _REFRESH,
        row=row,
        details=details,
        reasons=reasons,
        steps=steps_of(row),
        tz=tz,
        occurrence_tz=_zone_of_occurrence(database, row),
        error=error_line(details.last_error),
        error_line=error_line,
        lines=loglines.last_lines(database, job_id, _LINES),
        acts=audit.list_acts(database, target=f"job {job_id}", limit=20),
        as_command=_as_command(details),
    )


def confirm(request: Request) -> Response:
    """How many jobs an act would reach, before it does."""
    database = database_of(request)
    meant = meant_by(request.query_params.multi_items(), database.server_now())
    require(request, meant.act.needs)
    return render(request, "confirm.html", meant=meant, count=count_of(database, meant))


def steps_of(row: JobRow) -> list[dict[str, Any]]:
    """The way of a job: its moments in order, each with what passed since the one before."""
    moments: list[tuple[str, datetime | None, str]] = [("created", row.created_at, "past")]
    if row.planned_for is not None and row.planned_for != row.run_at:
        moments.append(("planned for", row.planned_for, "past"))
    waits = row.state in ("queued", "held")
    due = "due again" if waits and row.started_at is not None else "due"
    moments.append((due, row.run_at, "later" if waits else "past"))
    if row.started_at is not None:
        word = "started" if row.attempts <= 1 else f"attempt {row.attempts} started"
        moments.append((word, row.started_at, "past"))
    if row.cancel_requested_at is not None:
        moments.append(("asked to stop", row.cancel_requested_at, "past"))
    if row.finished_at is not None:
        moments.append((row.state, row.finished_at, row.state))
    ordered = sorted(
        moments, key=lambda each: each[1] or datetime.max.replace(tzinfo=row.run_at.tzinfo)
    )
    steps: list[dict[str, Any]] = []
    before: datetime | None = None
    for word, moment, kind in ordered:
        gap = moment - before if moment and before else None
        steps.append({"word": word, "at": moment, "kind": kind, "gap": _worth_telling(gap)})
        before = moment
    return steps


def _in_pieces(lines: Iterator[str]) -> Iterator[str]:
    """Each piece of a stream goes through a thread of its own: a line would be too little for that."""
    while piece := "".join(islice(lines, 500)):
        yield piece


def _meant_by(text: str, now: datetime) -> tuple[queries.Filter, Carried]:
    rest, carried = take_carried(text)
    return read_search(rest, now), carried


def _as_search(chosen: queries.Filter, carried: Carried) -> str:
    return f"{as_search(chosen)} {carried_as_search(carried)}".strip()


def _zone_of_occurrence(database: Database, row: JobRow) -> str | None:
    """The zone of the schedule whose occurrence waits here: what is decided about it is kept by its time."""
    if row.origin != "schedule" or row.state not in ("queued", "held") or row.started_at:
        return None
    found = schedule_queries.find_schedule(database, row.schedule or "")
    return None if found is None or found.state == "retired" else found.tz


def _worth_telling(gap: timedelta | None) -> timedelta | None:
    return gap if gap and gap >= timedelta(milliseconds=1) else None


def _as_command(details: JobDetails) -> str | None:
    """The command that enqueues the same again; None where its arguments are unreadable, long or secret."""
    try:
        stored = json.loads(details.args_json)
    except ValueError:
        return None
    if redacted_json(details.args_json) != details.args_json:
        return None
    words: list[object] = ["enqueue", details.row.task]
    for name in ("args", "kwargs"):
        if isinstance(stored, dict) and stored.get(name):
            words += [f"--{name}", json.dumps(stored[name])]
    return command(*words) if len(details.args_json) < 2_000 else None
