"""What the buttons of the pages do. Each form brings the token of its page; the answer leads back to it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from cronqueue import operations
from cronqueue.columns import EARLIEST, LATEST
from cronqueue.durations import parse_duration
from cronqueue.errors import RunAtError
from cronqueue.registration import ask_to_drain
from cronsched import overrides, pausing, schedule_queries
from cronsched.alerts import muting
from cronsched.alerts.recent import send_audited_test
from cronsched.timezones import first_shown
from cronsched.web import bulk, schedule_bulk
from cronsched.web.access import is_form_ours
from cronsched.web.problems import Refused
from cronsched.web.rendering import absolute, done
from cronsched.web.requests import (
    actor_of,
    as_moment,
    database_of,
    job_id_of,
    memory_of,
    settings_of,
)
from cronsched.web.roles import Role, RoleRoute, require

# Does it, and says in words what has been done.
Act = Callable[[Request, FormData], str]


def retry_job(request: Request, form: FormData) -> str:
    job_id = job_id_of(request)
    operations.retry_job(database_of(request), job_id, actor=actor_of(request))
    return f"Job {job_id} is queued again."


def cancel_job(request: Request, form: FormData) -> str:
    job_id = job_id_of(request)
    answer = operations.cancel_job(
        database_of(request), job_id, actor=actor_of(request), reason=_text(form, "reason")
    )
    return f"Job {job_id} is {'cancelled' if answer == 'cancelled' else 'asked to stop'}."


def run_job_now(request: Request, form: FormData) -> str:
    job_id = job_id_of(request)
    operations.run_now(database_of(request), job_id, actor=actor_of(request))
    return f"Job {job_id} is due now."


def delete_job(request: Request, form: FormData) -> str:
    job_id = job_id_of(request)
    operations.delete_job(database_of(request), job_id, actor=actor_of(request))
    return f"Job {job_id} is deleted."


def edit_job(request: Request, form: FormData) -> str:
    job_id, priority = job_id_of(request), _text(form, "priority")
    if priority is not None and not priority.lstrip("-").isdigit():
        raise Refused(422, "invalid", "priority is a whole number; higher runs first")
    changed = operations.Edit(
        run_at=_moment(form, "run_at", settings_of(request).tz),
        priority=None if priority is None else int(priority[:20]),
        queue=_text(form, "queue"),
    )
    operations.edit_job(database_of(request), job_id, changed, actor=actor_of(request))
    return f"Job {job_id} is changed."


def act_on_many(request: Request, form: FormData) -> str:
    database = database_of(request)
    meant = bulk.meant_by(
        [(name, value) for name, value in form.multi_items()], database.server_now()
    )
    require(request, meant.act.needs)
    count = bulk.carry_out(database, meant, actor=actor_of(request))
    return f"{meant.act.label}: {count} job{'' if count == 1 else 's'}."


def pause_queue(request: Request, form: FormData) -> str:
    name = request.path_params["name"]
    operations.pause_queue(
        database_of(request),
        name,
        actor=actor_of(request),
        reason=_text(form, "reason"),
        until=_until(request, form),
    )
    return f"Queue {name} is paused."


def resume_queue(request: Request, form: FormData) -> str:
    name = request.path_params["name"]
    operations.resume_queue(database_of(request), name, actor=actor_of(request))
    return f"Queue {name} goes on."


def drain_worker(request: Request, form: FormData) -> str:
    worker = request.path_params["name"]
    name = ask_to_drain(database_of(request), worker, actor=actor_of(request))
    return f"Worker {name} is asked to drain: it ends what runs, and leaves."


def mute_alerts(request: Request, form: FormData) -> str:
    target, until = _text(form, "target") or "", _until(request, form)
    if until is None:
        raise Refused(422, "invalid", "for says how long: a mute ends by itself")
    muting.mute(
        database_of(request),
        target,
        until=until,
        actor=actor_of(request),
        reason=_text(form, "reason"),
    )
    return f"Nobody is told of {target} until {absolute(until)}."


def unmute_alerts(request: Request, form: FormData) -> str:
    target = _text(form, "target") or ""
    muting.unmute(database_of(request), target, actor=actor_of(request))
    return f"{target} is told again."


def send_test_alert(request: Request, form: FormData) -> str:
    channel = _text(form, "channel") or ""
    send_audited_test(database_of(request), settings_of(request), channel, actor=actor_of(request))
    return f"A test has been sent by {channel}."


def act_on_schedules(request: Request, form: FormData) -> str:
    database = database_of(request)
    meant = schedule_bulk.meant_by(form.multi_items(), schedule_queries.list_schedules(database))
    return schedule_bulk.carry_out(
        database,
        meant,
        settings_of(request),
        actor=actor_of(request),
        reason=_text(form, "reason"),
        until=_until(request, form),
        catch_up="catch_up" in form,
    )


def pause_schedule(request: Request, form: FormData) -> str:
    name = request.path_params["name"]
    held = pausing.pause(
        database_of(request),
        name,
        actor=actor_of(request),
        reason=_text(form, "reason"),
        until=_until(request, form),
    )
    return f"Schedule {name} is paused, {held} jobs are held."


def resume_schedule(request: Request, form: FormData) -> str:
    name = request.path_params["name"]
    found = pausing.resume(
        database_of(request), name, actor=actor_of(request), catch_up="catch_up" in form
    )
    return f"Schedule {name} goes on: {found.queued} jobs queued, {found.skipped} skipped."


def trigger_schedule(request: Request, form: FormData) -> str:
    name = request.path_params["name"]
    job_id = schedule_queries.trigger(
        database_of(request), name, settings_of(request), actor=actor_of(request)
    )
    return f"Schedule {name} runs as job {job_id}."


def skip_occurrence(request: Request, form: FormData) -> str:
    name = request.path_params["name"]
    moment = as_moment("planned_for", form.get("planned_for"))
    overrides.skip(database_of(request), name, moment, actor=actor_of(request))
    return f"{name} does not run at {moment:%Y-%m-%d %H:%M:%S} UTC."


def move_occurrence(request: Request, form: FormData) -> str:
    name = request.path_params["name"]
    moment = as_moment("planned_for", form.get("planned_for"))
    tz = schedule_queries.find_definition(database_of(request), name).tz
    to = _moment(form, "to", tz)
    if to is None:
        raise Refused(422, "invalid", "to says when it runs instead")
    overrides.move(database_of(request), name, moment, to, actor=actor_of(request))
    return f"{name} of {moment:%Y-%m-%d %H:%M:%S} UTC runs at {absolute(to, tz)}."


def restore_occurrence(request: Request, form: FormData) -> str:
    name = request.path_params["name"]
    moment = as_moment("planned_for", form.get("planned_for"))
    overrides.restore(
        database_of(request), name, moment, settings_of(request), actor=actor_of(request)
    )
    return f"{name} at {moment:%Y-%m-%d %H:%M:%S} UTC is as declared again."


def _text(form: FormData, name: str) -> str | None:
    value = form.get(name)
    return (value.replace("\0", "").strip() or None) if isinstance(value, str) else None


def _moment(form: FormData, name: str, tz: str) -> datetime | None:
    """A time from a field of a form: on the clock of a zone, unless it names an offset."""
    words = _text(form, name)
    if words is None:
        return None
    try:
        wall = datetime.fromisoformat(words)
    except ValueError:
        wall = None
    if wall is None or wall.utcoffset() is not None or not EARLIEST.year < wall.year < LATEST.year:
        return as_moment(name, words)
    return first_shown(tz, wall)


def _until(request: Request, form: FormData) -> Any:
    """The end of a pause that is given as its length."""
    length = _text(form, "for")
    if length is None:
        return None
    try:
        return database_of(request).server_now() + parse_duration(length)
    except ValueError as error:
        raise RunAtError(str(error)) from None


def _endpoint(act: Act) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def endpoint(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=2_000) as form:
            if not is_form_ours(request, form.get("form_token")):
                raise Refused(
                    403, "old_form", "this page has stood open for too long: load it again"
                )
            words = await run_in_threadpool(act, request, form)
            memory_of(request).forget()
            back = form.get("back")
        # A path of ours, or an attacker's form would lead elsewhere.
        inside = (
            isinstance(back, str) and back.startswith("/") and not back.startswith(("//", "/\\"))
        )
        return done(request, words, str(back) if inside else "/")

    return endpoint


ACTS: dict[str, Act] = {
    "/jobs/act": act_on_many,
    "/jobs/{job_id:int}/retry": retry_job,
    "/jobs/{job_id:int}/cancel": cancel_job,
    "/jobs/{job_id:int}/run-now": run_job_now,
    "/jobs/{job_id:int}/delete": delete_job,
    "/jobs/{job_id:int}/edit": edit_job,
    "/queues/{name:path}/pause": pause_queue,
    "/queues/{name:path}/resume": resume_queue,
    "/workers/{name:path}/drain": drain_worker,
    "/alerts/mute": mute_alerts,
    "/alerts/unmute": unmute_alerts,
    "/alerts/test": send_test_alert,
    "/acts/schedules": act_on_schedules,
    "/schedules/{name}/pause": pause_schedule,
    "/schedules/{name}/resume": resume_schedule,
    "/schedules/{name}/trigger": trigger_schedule,
    "/schedules/{name}/skip": skip_occurrence,
    "/schedules/{name}/move": move_occurrence,
    "/schedules/{name}/restore": restore_occurrence,
}

# An act that is not named here needs an operator.
_NEEDS: dict[Act, Role] = {delete_job: "admin"}

routes = [
    RoleRoute(path, _endpoint(act), {"POST": _NEEDS.get(act, "operator")}, name=act.__name__)
    for path, act in ACTS.items()
]
