"""The API's reads: what pages and programs ask for. Writes are in `api_acts`, streams in `api_events`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cronqueue import audit, loglines, overview, queries
from cronqueue.failuregroups import FailureGroup, failures
from cronqueue.overview import QueueStats, Stats, WorkerStatus
from cronqueue.queries import JobRow
from cronqueue.registry import all_tasks
from cronqueue.states import STATES
from cronsched import explanation, health, schedule_queries
from cronsched.alerts.muting import Mute, list_mutes
from cronsched.alerts.recent import RecentAlert, RecentMessage, recent_alerts, recent_messages
from cronsched.alerts.rules import Rules, find_rules
from cronsched.errors import no_such_schedule
from cronsched.explanation import Reason
from cronsched.job_search import LOOKED_AT, Carried, find_page
from cronsched.schedule_queries import LedgerRow, ScheduleRow
from cronsched.timeline import Timeline, read_timeline
from cronsched.web import api_acts, api_events, openapi
from cronsched.web.operations import Listed, Operation, Parameter, routes_of
from cronsched.web.requests import (
    MOST_ROWS,
    as_text,
    database_of,
    filter_of,
    job_id_of,
    line_place_of,
    number_of,
    order_of,
    place_of,
    settings_of,
    text_of,
)

_LIMIT = Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST_ROWS}, "rows; 50")
_HOURS = {"type": "integer", "minimum": 0, "maximum": 168}
_AFTER = Parameter(
    "after",
    {"type": "string", "pattern": "^[1-9][0-9]{0,17}(~.+)?$"},
    "what `next` of the page before says",
)
_TEXT = {"type": "string", "minLength": 1}
_FILTERS = (
    Parameter(
        "state",
        {"type": "string", "pattern": f"^({'|'.join(STATES)})(,({'|'.join(STATES)}))*$"},
        "one state, or several with commas",
    ),
    *(
        Parameter(name, _TEXT, f"of this {name}")
        for name in ("queue", "task", "schedule", "worker", "key")
    ),
    *(
        Parameter(
            f"{end}_priority",
            {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
            f"at the {word} this priority; higher runs first",
        )
        for end, word in (("min", "least"), ("max", "most"))
    ),
    Parameter(
        "due", {"type": "string", "enum": ["1", "true", "yes"]}, "queued, and its time has come"
    ),
    Parameter("since", {"type": "string", "format": "date-time"}, "created from then on"),
)


@dataclass(frozen=True, slots=True)
class JobDocument(JobRow):
    """A job with its large columns and the tries that did not succeed."""

    args_json: str
    result_json: str | None
    last_error: str | None
    failed_attempts: tuple[queries.AttemptRow, ...]


@dataclass(frozen=True, slots=True)
class TaskDocument:
    """A task that can be enqueued here."""

    name: str
    queue: str
    priority: int
    signature: str
    description: str | None


@dataclass(frozen=True, slots=True)
class ScheduleDocument(ScheduleRow):
    """A schedule with what has become of its newest occurrences."""

    history: tuple[LedgerRow, ...]


def show_overview(request: Request) -> Stats:
    """Counts, ends of the last hour and day, waits and durations."""
    return overview.stats(database_of(request))


def list_jobs(request: Request) -> Listed:
    """Jobs in one of the orders, a page at a time.

    With `tag` or `argument` a page may be short, or empty, and have a `next`: no more are looked at for each.
    """
    asked = request.query_params
    found = find_page(
        database_of(request),
        filter_of(asked),
        Carried(text_of(asked, "tag"), text_of(asked, "argument")),
        order_of(asked),
        after=place_of(asked),
        limit=number_of(asked, "limit", 50),
    )
    return Listed(found.rows, as_text(found.next))


def show_job(request: Request) -> JobDocument:
    """One job."""
    details = queries.find_job(database_of(request), job_id_of(request))
    columns = {name: getattr(details.row, name) for name in JobRow.__dataclass_fields__}
    return JobDocument(
        **columns,
        args_json=details.args_json,
        result_json=details.result_json,
        last_error=details.last_error,
        failed_attempts=details.attempts,
    )


def explain_job(request: Request) -> list[Reason]:
    """Why a job does not run, or why it ran when it did."""
    return explanation.explain(database_of(request), job_id_of(request))[1]


def show_log(request: Request) -> Listed:
    """What a job has logged, of all its attempts, the oldest line first."""
    asked, job_id, database = request.query_params, job_id_of(request), database_of(request)
    with database.snapshot() as connection:
        queries.find_state(connection, job_id)
    limit = number_of(asked, "limit", 50)
    after = line_place_of(asked.get("after"))
    found = loglines.read_lines(database, job_id, after=after, limit=limit + 1)
    shown = found[:limit]
    return Listed(shown, str(shown[-1].place) if len(found) > limit else None)


def list_failures(request: Request) -> list[FailureGroup]:
    """Failed jobs by task and error."""
    return failures(database_of(request), filter_of(request.query_params))


def list_alerts(request: Request) -> list[RecentAlert]:
    """What was told lately or is about to be, the newest first."""
    return recent_alerts(database_of(request), number_of(request.query_params, "limit", 50))


def list_messages(request: Request) -> list[RecentMessage]:
    """The messages, each for one channel."""
    return recent_messages(database_of(request), number_of(request.query_params, "limit", 50))


def show_mutes(request: Request) -> list[Mute]:
    """What nobody is told of for a time."""
    return list_mutes(database_of(request))


def show_rules(request: Request) -> Rules:
    """What is told, to whom and how often."""
    return find_rules(database_of(request), settings_of(request))


def list_schedules(request: Request) -> list[ScheduleRow]:
    """All schedules, the one that runs next first."""
    return schedule_queries.list_schedules(database_of(request))


def show_schedule(request: Request) -> ScheduleDocument:
    """One schedule."""
    name = request.path_params["name"]
    database = database_of(request)
    row = schedule_queries.find_schedule(database, name)
    if row is None:
        raise no_such_schedule(name)
    columns = {each: getattr(row, each) for each in ScheduleRow.__dataclass_fields__}
    limit = number_of(request.query_params, "limit", 50)
    return ScheduleDocument(
        **columns, history=tuple(schedule_queries.history(database, name, limit))
    )


def show_timeline(request: Request) -> Timeline:
    """What ran, and what will run."""
    asked = request.query_params
    back, ahead = (
        timedelta(hours=number_of(asked, name, 24, 0, 168)) for name in ("back", "ahead")
    )
    return read_timeline(database_of(request), back, ahead)


def list_queues(request: Request) -> list[QueueStats]:
    """Every queue that has something to do, or is paused."""
    return overview.queue_stats(database_of(request))


def list_workers(request: Request) -> list[WorkerStatus]:
    """Workers and daemons that have been heard of within a day."""
    return overview.list_workers(database_of(request))


def list_problems(request: Request) -> list[health.Problem]:
    """What is wrong now, as `sched check` finds it."""
    return health.find_problems(database_of(request), settings_of(request))


def list_audit(request: Request) -> Listed:
    """Who did what, the newest first."""
    asked = request.query_params
    place = place_of(asked)
    found = audit.list_acts(
        database_of(request),
        before=None if place is None else place.id,
        limit=number_of(asked, "limit", 50) + 1,
    )
    shown = found[: number_of(asked, "limit", 50)]
    return Listed(shown, str(shown[-1].id) if len(found) > len(shown) else None)


def list_tasks(request: Request) -> list[TaskDocument]:
    """The tasks that may be enqueued here: those marked with `@job(api=True)`."""
    return [
        TaskDocument(
            each.name,
            each.queue,
            each.priority,
            str(each.signature),
            (each.__doc__ or "").strip().partition("\n")[0] or None,
        )
        for each in sorted(all_tasks().values(), key=lambda task: task.name)
        if each.is_public
    ]


def show_openapi(request: Request) -> Response:
    """This document."""
    prefix = request.scope.get("root_path", "")
    return JSONResponse(openapi.document(OPERATIONS, prefix))


OPERATIONS = [
    Operation("GET", "/openapi.json", "openapi", "This document", show_openapi, {}),
    Operation("GET", "/overview", "overview", "The whole at a glance", show_overview, Stats),
    Operation(
        "GET",
        "/jobs",
        "list_jobs",
        "Jobs, newest first",
        list_jobs,
        JobRow,
        (
            *_FILTERS,
            Parameter("tag", _TEXT, "with this tag: its name, its value, or name=value"),
            Parameter(
                "argument",
                _TEXT,
                "with this among its arguments, or name=value; a page that is short or empty and has"
                f" a `next` has looked at {LOOKED_AT} jobs",
            ),
            Parameter(
                "order",
                {"enum": ["newest", "next", "ended"]},
                "by id; waiting ones by their time; ended ones, the latest first",
            ),
            _LIMIT,
            _AFTER,
        ),
        is_list=True,
    ),
    Operation(
        "GET", "/jobs/{job_id:int}", "show_job", "State, progress, result", show_job, JobDocument
    ),
    Operation(
        "GET",
        "/jobs/{job_id:int}/explanation",
        "explain_job",
        "Why it does not run, or ran when it did",
        explain_job,
        Reason,
        is_list=True,
    ),
    Operation(
        "GET",
        "/jobs/{job_id:int}/log",
        "job_log",
        "What it has logged, the oldest line first",
        show_log,
        loglines.LogLineRow,
        (
            _LIMIT,
            Parameter(
                "after",
                {"type": "string", "pattern": r"^[0-9]{1,18}\.[0-9]{1,18}$"},
                "claim and number of the last line that is known: 3.17",
            ),
        ),
        is_list=True,
    ),
    Operation(
        "GET",
        "/failures",
        "list_failures",
        "Failed jobs in groups",
        list_failures,
        FailureGroup,
        _FILTERS,
        is_list=True,
    ),
    Operation(
        "GET",
        "/alerts",
        "list_alerts",
        "What was told, or is about to be",
        list_alerts,
        RecentAlert,
        (_LIMIT,),
        is_list=True,
    ),
    Operation(
        "GET",
        "/alerts/messages",
        "list_messages",
        "Messages of alerts: sent, waiting, given up",
        list_messages,
        RecentMessage,
        (_LIMIT,),
        is_list=True,
    ),
    Operation(
        "GET",
        "/alerts/mutes",
        "list_mutes",
        "What is muted, and until when",
        show_mutes,
        Mute,
        is_list=True,
    ),
    Operation(
        "GET",
        "/alerts/rules",
        "alert_rules",
        "What is told, to whom and how often",
        show_rules,
        Rules,
    ),
    Operation(
        "GET",
        "/schedules",
        "list_schedules",
        "Schedules, the next one first",
        list_schedules,
        ScheduleRow,
        is_list=True,
    ),
    Operation(
        "GET",
        "/schedules/{name}",
        "show_schedule",
        "One schedule with its history",
        show_schedule,
        ScheduleDocument,
        (_LIMIT,),
    ),
    Operation(
        "GET",
        "/timeline",
        "timeline",
        "What ran, and what will run",
        show_timeline,
        Timeline,
        (
            Parameter("back", _HOURS, "hours of the past; 24"),
            Parameter("ahead", _HOURS, "hours to come; 24"),
        ),
    ),
    Operation(
        "GET",
        "/queues",
        "list_queues",
        "Queues with what they hold",
        list_queues,
        QueueStats,
        is_list=True,
    ),
    Operation(
        "GET",
        "/workers",
        "list_workers",
        "Workers and daemons",
        list_workers,
        WorkerStatus,
        is_list=True,
    ),
    Operation(
        "GET",
        "/problems",
        "list_problems",
        "What is wrong now",
        list_problems,
        health.Problem,
        is_list=True,
    ),
    Operation(
        "GET",
        "/audit",
        "list_audit",
        "Who did what",
        list_audit,
        audit.ActRow,
        (_LIMIT, _AFTER),
        is_list=True,
    ),
    Operation(
        "GET",
        "/tasks",
        "list_tasks",
        "What may be enqueued here",
        list_tasks,
        TaskDocument,
        is_list=True,
    ),
    *api_acts.OPERATIONS,
    *api_events.OPERATIONS,
]

routes: list[Any] = routes_of(OPERATIONS)
