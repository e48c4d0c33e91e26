"""The API's writes. Each is one act of `operations`, `pausing` or `overrides`, under the asker's name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request

from cronqueue import operations, queries, wakeup
from cronqueue.database import Database
from cronqueue.registration import ask_to_drain
from cronqueue.registry import Task, find_task
from cronqueue.requests import enqueue_once, store_asked
from cronsched import overrides, pausing, schedule_queries
from cronsched.alerts import muting
from cronsched.alerts.recent import send_audited_test
from cronsched.web.operations import Body, Operation, Parameter, Schema
from cronsched.web.problems import Refused
from cronsched.web.requests import actor_of, as_moment, database_of, job_id_of, settings_of

_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_DURATION: Schema = {
    "type": ["string", "number"],
    "description": "5m, 2h, or seconds",
}
_DONE: Schema = {
    "type": "object",
    "required": ["done"],
    "properties": {"done": {"type": "string"}},
}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    made: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return made | ({"required": list(required)} if required else {})


_REASON = _object(reason=_TEXT)
_PAUSE = _object(reason=_TEXT, until=_TIME)
_ONLY_COUNT: Schema = {"type": "boolean", "description": "only tell how many it would reach"}
_PAUSE_ALL = _object(reason=_TEXT, until=_TIME, dry_run=_ONLY_COUNT)
_RESUME_ALL = _object(catch_up={"type": "boolean"}, dry_run=_ONLY_COUNT)
_TARGET: Schema = {
    "type": "string",
    "pattern": "^(all|(schedule|task|cause):.+)$",
    "maxLength": 500,
}
_MUTE = _object(("target", "until"), target=_TARGET, until=_TIME, reason=_TEXT)
_UNMUTE = _object(("target",), target=_TARGET)
_TEST = _object(
    ("channel",),
    channel={"type": "string", "enum": ["email", "webhook", "command", "apprise"]},
)
_MOVE = _object(("planned_for", "to"), planned_for=_TIME, to=_TIME, reason=_TEXT)
_EDIT = {
    **_object(
        args={"type": "array"},
        kwargs={"type": "object"},
        run_at=_TIME,
        priority={"type": "integer"},
        queue=_TEXT,
    ),
    "minProperties": 1,
}
_ENQUEUE = _object(
    ("task",),
    task=_TEXT,
    args={"type": "array"},
    kwargs={"type": "object"},
    run_at=_TIME,
    delay=_DURATION,
    priority={"type": "integer"},
    queue=_TEXT,
    key=_TEXT,
    expires=_DURATION,
    tags={"type": "object", "additionalProperties": {"type": "string"}},
)


def enqueue_job(request: Request, body: Body) -> dict[str, Any]:
    """Store a job for a task that is marked for it."""
    chosen = _read(body, _ENQUEUE)
    task = _public_task(chosen.pop("task"))
    database = database_of(request)
    args, kwargs = chosen.pop("args", []), chosen.pop("kwargs", {})
    call = task.options(**chosen).call(*args, **kwargs)
    key = _idempotency_key(request)
    actor = actor_of(request)
    if key is None:
        job = database.write(lambda connection: store_asked(database, connection, call, actor))
        job_id, state, is_new = job.id, job.state, job.created
    else:
        job_id, state, is_new = enqueue_once(database, key, body, call, actor)
    wakeup.notify(database)
    return {"id": job_id, "state": state, "created": is_new}


def _public_task(name: str) -> Task[..., Any]:
    """The task, if its arguments may come from here."""
    task = find_task(name)
    if task is None or not task.is_public:
        raise Refused(
            403,
            "not_public",
            f"task {name!r} may not be enqueued here: @job(api=True) marks those that may",
        )
    return task


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise Refused(422, "invalid", "Idempotency-Key has 1 to 200 printable characters")
    return key


def retry_job(request: Request, body: Body) -> dict[str, Any]:
    """Queue an ended job again."""
    _read(body, _object())
    operations.retry_job(database_of(request), job_id_of(request), actor=actor_of(request))
    return {"done": "queued again"}


def cancel_job(request: Request, body: Body) -> dict[str, Any]:
    """Cancel a waiting job, or ask a running one to stop."""
    reason = _read(body, _REASON).get("reason")
    done = operations.cancel_job(
        database_of(request), job_id_of(request), actor=actor_of(request), reason=reason
    )
    return {"done": "cancelled" if done == "cancelled" else "asked to stop"}


def run_job_now(request: Request, body: Body) -> dict[str, Any]:
    """Make a waiting job due."""
    _read(body, _object())
    operations.run_now(database_of(request), job_id_of(request), actor=actor_of(request))
    return {"done": "due now"}


def edit_job(request: Request, body: Body) -> dict[str, Any]:
    """Change a waiting job; its arguments all at once, and only where its task may be enqueued here."""
    chosen = _read(body, _EDIT)
    if not chosen:
        raise Refused(422, "invalid", f"say what to change: {', '.join(_EDIT['properties'])}")
    database, job_id = database_of(request), job_id_of(request)
    if chosen.keys() & {"args", "kwargs"}:
        _public_task(queries.find_job(database, job_id).row.task)
        chosen["arguments"] = (chosen.pop("args", []), chosen.pop("kwargs", {}))
    operations.edit_job(database, job_id, operations.Edit(**chosen), actor=actor_of(request))
    return {"done": "changed"}


def delete_job(request: Request, body: Body) -> dict[str, Any]:
    """Delete a job that does not run."""
    _read(body, _object())
    operations.delete_job(database_of(request), job_id_of(request), actor=actor_of(request))
    return {"done": "deleted"}


def pause_queue(request: Request, body: Body) -> dict[str, Any]:
    """Let no worker claim from a queue."""
    chosen = _read(body, _PAUSE)
    name = request.path_params["name"]
    operations.pause_queue(database_of(request), name, actor=actor_of(request), **chosen)
    return {"done": "paused"}


def resume_queue(request: Request, body: Body) -> dict[str, Any]:
    """Let workers claim from it again."""
    _read(body, _object())
    name = request.path_params["name"]
    operations.resume_queue(database_of(request), name, actor=actor_of(request))
    return {"done": "resumed"}


def drain_worker(request: Request, body: Body) -> dict[str, Any]:
    """Ask a worker, by the id of one of its executors or by its name, to end what runs and leave."""
    _read(body, _object())
    name = ask_to_drain(database_of(request), request.path_params["name"], actor=actor_of(request))
    return {"done": "asked to drain", "name": name}


def mute_alerts(request: Request, body: Body) -> dict[str, Any]:
    """Tell nobody of something for a time."""
    chosen = _read(body, _MUTE)
    muting.mute(database_of(request), chosen.pop("target"), actor=actor_of(request), **chosen)
    return {"done": "muted"}


def unmute_alerts(request: Request, body: Body) -> dict[str, Any]:
    """Tell of it again."""
    target = _read(body, _UNMUTE)["target"]
    muting.unmute(database_of(request), target, actor=actor_of(request))
    return {"done": "told again"}


def send_test_alert(request: Request, body: Body) -> dict[str, Any]:
    """Send a message that says that it is a test, from where the web runs."""
    channel = _read(body, _TEST)["channel"]
    send_audited_test(database_of(request), settings_of(request), channel, actor=actor_of(request))
    return {"done": "sent"}


def pause_schedule(request: Request, body: Body) -> dict[str, Any]:
    """Hold a schedule's jobs."""
    chosen = _read(body, _PAUSE)
    name = request.path_params["name"]
    held = pausing.pause(database_of(request), name, actor=actor_of(request), **chosen)
    return {"done": "paused", "held": held}


def resume_schedule(request: Request, body: Body) -> dict[str, Any]:
    """Let a schedule go on."""
    chosen = _read(body, _object(catch_up={"type": "boolean"}))
    name = request.path_params["name"]
    done = pausing.resume(database_of(request), name, actor=actor_of(request), **chosen)
    return {"done": "resumed", "queued": done.queued, "skipped": done.skipped}


def pause_all(request: Request, body: Body) -> dict[str, Any]:
    """Hold the jobs of every schedule that is not paused; or only tell how many there are."""
    chosen = _read(body, _PAUSE_ALL)
    database = database_of(request)
    names = _names(database, "active")
    if chosen.pop("dry_run", False):
        return {"done": "nothing", "schedules": len(names)}
    done = pausing.pause_all(database, names, actor=actor_of(request), **chosen)
    return {"done": "paused", "schedules": done.schedules, "held": done.held}


def resume_all(request: Request, body: Body) -> dict[str, Any]:
    """Let every schedule that is paused go on; or only tell how many there are."""
    chosen = _read(body, _RESUME_ALL)
    database = database_of(request)
    names = _names(database, "paused")
    if chosen.pop("dry_run", False):
        return {"done": "nothing", "schedules": len(names)}
    done = pausing.resume_all(database, names, actor=actor_of(request), **chosen)
    queued, skipped = sum(each.queued for each in done), sum(each.skipped for each in done)
    return {"done": "resumed", "schedules": len(done), "queued": queued, "skipped": skipped}


def _names(database: Database, state: str) -> list[str]:
    return [each.name for each in schedule_queries.list_schedules(database) if each.state == state]


def trigger_schedule(request: Request, body: Body) -> dict[str, Any]:
    """Run a schedule's task now."""
    _read(body, _object())
    name = request.path_params["name"]
    job_id = schedule_queries.trigger(
        database_of(request), name, settings_of(request), actor=actor_of(request)
    )
    return {"done": "triggered", "id": job_id}


def skip_occurrence(request: Request, body: Body) -> dict[str, Any]:
    """Do not run one occurrence."""
    chosen = _read(body, _object(("planned_for",), planned_for=_TIME, reason=_TEXT))
    reached = overrides.skip(
        database_of(request),
        request.path_params["name"],
        chosen["planned_for"],
        actor=actor_of(request),
        reason=chosen.get("reason"),
    )
    return {"done": "skipped", "reached": reached}


def move_occurrence(request: Request, body: Body) -> dict[str, Any]:
    """Run one occurrence at another time."""
    chosen = _read(body, _MOVE)
    reached = overrides.move(
        database_of(request),
        request.path_params["name"],
        chosen["planned_for"],
        chosen["to"],
        actor=actor_of(request),
        reason=chosen.get("reason"),
    )
    return {"done": "moved", "reached": reached}


def restore_occurrence(request: Request, body: Body) -> dict[str, Any]:
    """Take back what was decided about one occurrence."""
    chosen = _read(body, _object(("planned_for",), planned_for=_TIME))
    reached = overrides.restore(
        database_of(request),
        request.path_params["name"],
        chosen["planned_for"],
        settings_of(request),
        actor=actor_of(request),
    )
    return {"done": "restored", "reached": reached}


def _read(body: Body, schema: Schema) -> dict[str, Any]:
    """The values that the schema knows, times as moments. Raises Refused for others."""
    properties = schema["properties"]
    for name in body:
        if name not in properties:
            known = ", ".join(properties) or "none"
            raise Refused(422, "invalid", f"{name!r} is not known: there are {known}")
    missing = [name for name in schema.get("required", ()) if name not in body]
    if missing:
        raise Refused(422, "invalid", f"{', '.join(missing)} is missing")
    return {name: _value(name, each, properties[name]) for name, each in body.items()}


_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def _value(name: str, value: Any, schema: Schema) -> str | datetime | Any:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    fits = any(isinstance(value, _KINDS[kind]) for kind in kinds)
    if not fits or (isinstance(value, bool) and "boolean" not in kinds):
        raise Refused(422, "invalid", f"{name} is no {' or '.join(kinds)}")
    if isinstance(value, str) and not _is_text(value):
        raise Refused(422, "invalid", f"{name} is no text")
    return as_moment(name, value) if schema.get("format") == "date-time" else value


def _is_text(value: str) -> bool:
    """Without what no database takes."""
    return "\0" not in value and not any("\ud800" <= each <= "\udfff" for each in value)


def _act(
    path: str, name: str, summary: str, function: Callable[..., Any], body: Schema | None = None
) -> Operation:
    return Operation("POST", path, name, summary, function, _DONE, body=body, needs="operator")


OPERATIONS = [
    Operation(
        "POST",
        "/jobs",
        "enqueue_job",
        "Store a job",
        enqueue_job,
        _object(
            ("id", "state", "created"),
            id={"type": "integer"},
            state=_TEXT,
            created={"type": "boolean"},
        ),
        (
            Parameter(
                "Idempotency-Key",
                _TEXT,
                "sent again within a day, the same request enqueues nothing more",
                place="header",
            ),
        ),
        body=_ENQUEUE,
        status=201,
        needs="operator",
    ),
    _act("/jobs/{job_id:int}/retry", "retry_job", "Queue it again", retry_job),
    _act("/jobs/{job_id:int}/cancel", "cancel_job", "Cancel it", cancel_job, _REASON),
    _act("/jobs/{job_id:int}/run-now", "run_job_now", "Make it due", run_job_now),
    _act("/jobs/{job_id:int}/edit", "edit_job", "Change it while it waits", edit_job, _EDIT),
    Operation(
        "DELETE", "/jobs/{job_id:int}", "delete_job", "Delete it", delete_job, _DONE, needs="admin"
    ),
    _act("/queues/{name:path}/pause", "pause_queue", "Pause a queue", pause_queue, _PAUSE),
    _act("/queues/{name:path}/resume", "resume_queue", "Resume a queue", resume_queue),
    _act("/workers/{name:path}/drain", "drain_worker", "Ask a worker to leave", drain_worker),
    _act("/pause", "pause_all", "Pause all schedules", pause_all, _PAUSE_ALL),
    _act("/resume", "resume_all", "Resume all schedules", resume_all, _RESUME_ALL),
    _act("/alerts/mute", "mute_alerts", "Tell nobody of it for a time", mute_alerts, _MUTE),
    _act("/alerts/unmute", "unmute_alerts", "Tell of it again", unmute_alerts, _UNMUTE),
    _act("/alerts/test", "send_test_alert", "Send a test by a channel", send_test_alert, _TEST),
    _act("/schedules/{name}/pause", "pause_schedule", "Pause a schedule", pause_schedule, _PAUSE),
    _act(
        "/schedules/{name}/resume",
        "resume_schedule",
        "Resume a schedule",
        resume_schedule,
        _object(catch_up={"type": "boolean"}),
    ),
    _act("/schedules/{name}/trigger", "trigger_schedule", "Run it now", trigger_schedule),
    _act(
        "/schedules/{name}/skip",
        "skip_occurrence",
        "Skip one occurrence",
        skip_occurrence,
        _object(("planned_for",), planned_for=_TIME, reason=_TEXT),
    ),
    _act(
        "/schedules/{name}/move", "move_occurrence", "Move one occurrence", move_occurrence, _MOVE
    ),
    _act(
        "/schedules/{name}/restore",
        "restore_occurrence",
        "Take back what was decided about one occurrence",
        restore_occurrence,
        _object(("planned_for",), planned_for=_TIME),
    ),
]
