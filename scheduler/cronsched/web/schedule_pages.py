"""Pages of schedules: the list, and one with its past and its future."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cronqueue import audit, overview, queries
from cronqueue.database import Database
from cronqueue.queries import Filter, JobRow
from cronsched import overrides, schedule_queries
from cronsched.alerts.muting import list_mutes
from cronsched.definition import Definition
from cronsched.errors import no_such_schedule
from cronsched.planner import Planned, upcoming
from cronsched.revisions import list_revisions
from cronsched.schedule_queries import ScheduleRow
from cronsched.triggers import OpaqueTrigger, SearchExhausted
from cronsched.web import schedule_bulk
from cronsched.web.links import link_of
from cronsched.web.problems import Refused
from cronsched.web.rendering import iso, render
from cronsched.web.requests import as_moment, database_of, memory_of, number_of

_ROWS = 100
_STRIP = 30
_COMING = 20
_RUNS = 60
_SECOND = timedelta(seconds=1)
# What is told elsewhere on the page.
_UNTOLD = ("name", "trigger", "task", "source", "line", "description", "args_json", "tz")


def list_schedules(request: Request) -> Response:
    """One row each: when, how it went, what comes."""
    database = database_of(request)
    asked = request.query_params
    wanted, words = asked.get("state", ""), asked.get("q", "").strip()
    found = schedule_queries.list_schedules(database, retired=wanted == "retired")
    counts = {"active": 0, "paused": 0, "failing": 0}
    for each in found:
        counts["paused" if each.state == "paused" else "active"] += each.state != "retired"
        counts["failing"] += schedule_bulk.is_failing(each)
    shown = schedule_bulk.matching(found, wanted, words)
    page = number_of(asked, "page", 1, most=100_000)
    rows = shown[(page - 1) * _ROWS : page * _ROWS]
    return render(
        request,
        "schedules.html",
        now=database.server_now(),
        rows=rows,
        strips=schedule_queries.recent_verdicts(database, [each.name for each in rows], _STRIP),
        durations=memory_of(request).ask("durations", lambda: overview.durations_by_task(database)),
        counts=counts,
        wanted=wanted,
        words=words,
        page=page,
        total=len(shown),
        has_more=len(shown) > page * _ROWS,
        acts=schedule_bulk.ACTS,
    )


def confirm(request: Request) -> Response:
    """Which schedules an act would reach, before it does."""
    rows = schedule_queries.list_schedules(database_of(request))
    meant = schedule_bulk.meant_by(request.query_params.multi_items(), rows)
    return render(request, "confirm_schedules.html", meant=meant)


def show_schedule(request: Request) -> Response:
    """Why, when, how well."""
    database = database_of(request)
    name = request.path_params["name"]
    row = schedule_queries.find_schedule(database, name)
    if row is None:
        raise no_such_schedule(name)
    definition = schedule_queries.find_definition(database, name)
    now = database.server_now()
    stored = queries.select_page(
        database, Filter(schedule=name, states=("queued", "held")), "next", limit=_COMING
    ).rows
    runs = queries.select_page(
        database, Filter(schedule=name, states=("succeeded", "failed")), "ended", limit=_RUNS
    ).rows
    return render(
        request,
        "schedule.html",
        now=now,
        row=row,
        definition=definition,
        options=_options(definition),
        standing=schedule_queries.find_standing(database, name),
        stored=stored,
        beyond=_beyond(database, definition, row, stored),
        history=schedule_queries.history(database, name, _STRIP),
        runs=runs,
        runs_chart=_durations_chart(runs),
        took=overview.percentiles(
            [each.total_seconds() for row in runs if (each := _took(row)) is not None]
        ),
        badge=link_of(request.state.access, f"/badge/{name}.svg"),
        muted_until=_muted_until(database, name),
        overrides=overrides.list_overrides(database, name),
        revisions=list_revisions(database, name),
        acts=audit.list_acts(database, target=f"schedule {name}", limit=10),
    )


def show_occurrence(request: Request) -> Response:
    """One occurrence, written or not, and what can be decided about it."""
    database = database_of(request)
    name = request.path_params["name"]
    planned_for = as_moment("planned_for", request.query_params.get("planned_for"))
    definition = schedule_queries.find_definition(database, name)
    found = schedule_queries.find_occurrence(database, name, planned_for)
    decided = [
        each for each in overrides.list_overrides(database, name) if each.planned_for == planned_for
    ]
    planned = None if found else _planned(definition, planned_for)
    ids = (found.job_id,) if found is not None and found.job_id is not None else ()
    jobs = queries.select_jobs(database, Filter(ids=ids), 1) if ids else []
    return render(
        request,
        "occurrence.html",
        now=database.server_now(),
        name=name,
        tz=definition.tz,
        words=definition.trigger.describe(),
        planned_for=planned_for,
        found=found,
        job=jobs[0] if jobs else None,
        run_at=jobs[0].run_at if jobs else planned or planned_for,
        decided=decided[0] if decided else None,
        took=memory_of(request)
        .ask("durations", lambda: overview.durations_by_task(database))
        .get(definition.task),
    )


def _muted_until(database: Database, name: str) -> datetime | None:
    """Until when nobody is told of this schedule; not of it alone, where all is muted."""
    ends = (each.until for each in list_mutes(database) if each.target == f"schedule:{name}")
    return next(ends, None)


def _beyond(
    database: Database, definition: Definition, row: ScheduleRow, stored: list[JobRow]
) -> Sequence[Planned]:
    """The occurrences that follow what is written, computed: they are no rows yet."""
    count = _COMING - len(stored)
    if count <= 0 or row.state == "retired":
        return []
    start = max(row.covered_until, database.server_now())
    try:
        return schedule_queries.next_occurrences(database, definition.name, count, start)
    except (OpaqueTrigger, SearchExhausted):  # only the process that loads its file can tell
        return []


def _planned(definition: Definition, planned_for: datetime) -> datetime:
    """When an occurrence that is not written yet will be due; raises Refused where there is none."""
    with suppress(OpaqueTrigger, SearchExhausted):
        for each in upcoming(definition, planned_for - _SECOND, 1):
            if each.planned_for == planned_for:
                return each.run_at
    words = f"schedule {definition.name!r} has no occurrence at {iso(planned_for)}"
    raise Refused(404, "not_found", words)


def _options(definition: Definition) -> dict[str, Any]:
    """What it says of itself beside the defaults."""
    told: dict[str, Any] = {}
    for each in fields(definition):
        value = getattr(definition, each.name)
        if each.name not in _UNTOLD and value != each.default:
            told[each.name.replace("_", " ")] = _shown(value)
    return told


def _shown(value: Any) -> Any:
    if isinstance(value, tuple):
        return ", ".join(
            "=".join(map(str, each)) if isinstance(each, tuple) else str(each) for each in value
        )
    if value is None:
        return "no"
    return value


def _durations_chart(runs: list[JobRow]) -> list[dict[str, Any]]:
    """The newest runs from left to right, as high as they were long."""
    took = [(row, each) for row in reversed(runs) if (each := _took(row)) is not None]
    longest = max((each for _, each in took), default=timedelta(0)) or timedelta(seconds=1)
    return [
        {"row": row, "took": each, "x": number, "height": max(round(each / longest * 40, 2), 1)}
        for number, (row, each) in enumerate(took)
    ]


def _took(row: JobRow) -> timedelta | None:
    if row.started_at is None or row.finished_at is None:
        return None
    return row.finished_at - row.started_at
