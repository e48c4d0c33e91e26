"""The page of the plan: what the schedule files would change. They are loaded in a process of their own."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from cronqueue.errors import CronqueueError
from cronsched.daemon import Daemon, DaemonOptions
from cronsched.definition import Definition
from cronsched.planner import upcoming
from cronsched.plans import Effect
from cronsched.reconcile import plan
from cronsched.web.rendering import NOTHING, duration, render
from cronsched.web.requests import database_of, folder_of, settings_of

_NEXT = 2
_SIGNS = {"add": "+", "revive": "+", "change": "~", "rename": "~", "tzdata": "!", "remove": "-"}


def show_plan(request: Request) -> Response:
    """What would change, row by row. Nothing is written."""
    database, settings, folder = database_of(request), settings_of(request), folder_of(request)
    manifest = Daemon(database, DaemonOptions(settings, folder)).load()
    found = plan(database, manifest, settings)
    now = database.server_now()
    return render(
        request,
        "plan.html",
        now=now,
        plan=found,
        folder=settings.schedules,
        effects=[
            {
                "effect": each,
                "sign": _SIGNS[each.kind],
                "differences": _differences(each),
                "before": _next_runs(each.before, now),
                "after": _next_runs(each.after, now),
            }
            for each in found.effects
        ],
    )


def _differences(effect: Effect) -> dict[str, tuple[object, object]]:
    return {
        name.replace("_", " "): (_shown(was), _shown(becomes))
        for name, (was, becomes) in effect.differences().items()
    }


def _shown(value: object) -> object:
    if value is None:
        return NOTHING
    return duration(value) if hasattr(value, "total_seconds") else value  # type: ignore[arg-type]


def _next_runs(definition: Definition | None, now: datetime) -> list[datetime]:
    if definition is None:
        return []
    try:
        return [each.run_at for each in upcoming(definition, now, _NEXT)]
    except CronqueueError:  # only the process that loads its file can tell
        return []
