"""The pages, and which function shows each. All of them read; what changes something is in `page_acts`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cronqueue import audit, failuregroups, overview, queries
from cronqueue.overview import QueueStats, WorkerStatus
from cronqueue.queries import Filter
from cronsched import health, schedule_queries
from cronsched.alerts.muting import list_mutes
from cronsched.alerts.recent import recent_alerts, recent_messages
from cronsched.alerts.rules import find_rules
from cronsched.web import (
    badges,
    calendar_feed,
    charts,
    job_pages,
    page_acts,
    plan_page,
    schedule_pages,
    timeline_page,
)
from cronsched.web.rendering import render
from cronsched.web.requests import database_of, memory_of, place_of, settings_of
from cronsched.web.roles import page

_MINUTE = timedelta(minutes=1)
_SHOWN = 10
_AUDIT_ROWS = 50
_ALERTS, _MESSAGES = 100, 50


def show_now(request: Request) -> Response:
    """Is it healthy, and what needs me?"""
    database, memory = database_of(request), memory_of(request)
    settings = settings_of(request)
    now = database.server_now()
    start = now.replace(second=0, microsecond=0) - 59 * _MINUTE
    ended = overview.ended_by_minute(database, start)
    return render(
        request,
        "now.html",
        now=now,
        stats=memory.ask("stats", lambda: overview.stats(database)),
        silent=sum(each.state == "silent" for each in overview.list_workers(database)),
        problems=memory.ask("problems", lambda: health.find_problems(database, settings)),
        chart=charts.stacked(
            ended, start, _MINUTE, 60, ("succeeded", "failed", "cancelled", "skipped")
        ),
        start=start,
        coming=schedule_queries.soonest(
            memory.ask("schedules", lambda: schedule_queries.list_schedules(database)), _SHOWN
        ),
        running=queries.select_jobs(database, Filter(states=("running",)), _SHOWN),
        failed=queries.select_page(database, Filter(states=("failed",)), "ended", limit=5).rows,
        paused=overview.paused_queues(database),
    )


def list_failures(request: Request) -> Response:
    """What is broken, not which row."""
    database = database_of(request)
    now = database.server_now()
    start = failuregroups.first_hour(now)
    groups = memory_of(request).ask("failures", lambda: failuregroups.failures(database))
    return render(
        request,
        "failures.html",
        now=now,
        groups=[(each, charts.hourly(each.by_hour, start, "failed")) for each in groups],
    )


def list_alerts(request: Request) -> Response:
    """Who is told of what, and has it arrived?"""
    database = database_of(request)
    found = recent_alerts(database, _ALERTS)
    return render(
        request,
        "alerts.html",
        now=database.server_now(),
        rules=find_rules(database, settings_of(request)),
        alerts=[each for each in found if each.state != "over"],
        over=[each for each in found if each.state == "over"],
        messages=recent_messages(database, _MESSAGES),
        mutes=list_mutes(database),
    )


def list_queues(request: Request) -> Response:
    """Where is the jam, and does somebody take what waits there?"""
    database = database_of(request)
    workers = [each for each in overview.list_workers(database) if each.kind == "worker"]
    alive = [each for each in workers if each.state == "running"]
    found = memory_of(request).ask("queues", lambda: overview.queue_stats(database))
    return render(
        request,
        "queues.html",
        now=database.server_now(),
        queues=[(each, _takers(each, alive)) for each in found],
    )


def list_workers(request: Request) -> Response:
    """Who is alive, and at what."""
    database = database_of(request)
    running = queries.select_jobs(database, Filter(states=("running",)), 500)
    jobs: dict[str | None, list[Any]] = {}
    for row in running:
        jobs.setdefault(row.worker_id, []).append(row)
    return render(
        request,
        "workers.html",
        now=database.server_now(),
        workers=overview.list_workers(database),
        jobs=jobs,
    )


def list_audit(request: Request) -> Response:
    """Who did what."""
    database = database_of(request)
    asked = request.query_params
    place = place_of(asked)
    found = audit.list_acts(
        database,
        target=asked.get("target") or None,
        before=None if place is None else place.id,
        limit=_AUDIT_ROWS + 1,
    )
    shown = found[:_AUDIT_ROWS]
    return render(
        request,
        "audit.html",
        now=database.server_now(),
        acts=shown,
        target=asked.get("target", ""),
        next=shown[-1].id if len(found) > len(shown) else None,
    )


def show_help(request: Request) -> Response:
    """Keys, the search language, commands."""
    return render(request, "help.html")


def _takers(queue: QueueStats, alive: list[WorkerStatus]) -> list[WorkerStatus]:
    return [each for each in alive if overview.takes_queue(each, queue.name)]


routes = [
    page("/", show_now),
    page("/jobs", job_pages.list_jobs),
    page("/jobs/{job_id:int}", job_pages.show_job),
    page("/jobs.{format}", job_pages.export),
    page("/jobs/confirm", job_pages.confirm, "operator"),
    page("/failures", list_failures),
    page("/alerts", list_alerts),
    page("/timeline", timeline_page.show_timeline),
    page(calendar_feed.PATH, calendar_feed.show_calendar),
    page("/schedules", schedule_pages.list_schedules),
    page("/schedules/{name}", schedule_pages.show_schedule),
    page("/schedules/{name}/occurrence", schedule_pages.show_occurrence),
    page("/badge/{name}.svg", badges.show_badge),
    page("/acts/schedules", schedule_pages.confirm, "operator"),
    page("/queues", list_queues),
    page("/plan", plan_page.show_plan),
    page("/workers", list_workers),
    page("/audit", list_audit),
    page("/help", show_help),
    *page_acts.routes,
]
