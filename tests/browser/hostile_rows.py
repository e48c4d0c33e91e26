"""Rows whose every text wants to be a program: what a task, a caller or another system may have written."""

from __future__ import annotations

import json
from datetime import timedelta

from cronqueue import operations
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched import pausing
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from job_rows import add, execute, now

# What it would do is told to the test: `owned` is a function of its own.
_RUN = "owned()"
CORPUS = (
    f"<script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"<ScRiPt>{_RUN}</sCrIpT>",
    f"<scr<script>ipt>{_RUN}</scr</script>ipt>",
    f"<script/x>{_RUN}</script >",
    f'<script src="data:text/javascript,{_RUN}"></script>',
    "<script src=//127.0.0.1:1/x.js></script>",
    f"<img src=x onerror={_RUN}>",
    f'<img src=x onerror="{_RUN}">',
    f"<img/src=x/onerror={_RUN}>",
    f'"><img src=x onerror={_RUN}>',
    f"'><img src=x onerror={_RUN}>",
    f'" autofocus onfocus={_RUN} x="',
    f"' autofocus onfocus={_RUN} x='",
    f'" onmouseover={_RUN} "',
    f"` onmouseover={_RUN} `",
    f"<svg onload={_RUN}>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<svg><animate onbegin={_RUN} attributeName=x dur=1s>",
    f'<svg><a xlink:href="javascript:{_RUN}"><text x=20 y=20>x</text></a></svg>',
    f"<math><mtext></mtext><mglyph><style><img src=x onerror={_RUN}></style></mglyph></math>",
    f"<body onload={_RUN}>",
    f"<details open ontoggle={_RUN}>",
    f"<video><source onerror={_RUN}></video>",
    f"<input autofocus onfocus={_RUN}>",
    f"<marquee onstart={_RUN}>",
    f'<iframe src="javascript:parent.{_RUN}"></iframe>',
    f'<iframe srcdoc="<script>parent.{_RUN}</script>"></iframe>',
    f'<object data="javascript:{_RUN}"></object>',
    f'<embed src="javascript:{_RUN}">',
    f'<form action="javascript:{_RUN}"><button>x</button></form>',
    f'<a href="javascript:{_RUN}">x</a>',
    f"javascript:{_RUN}",
    f"JaVaScRiPt:{_RUN}",
    f"java\tscript:{_RUN}",
    f"data:text/html,<script>opener.{_RUN}</script>",
    "//127.0.0.1:1/elsewhere",
    f'<base href="javascript:{_RUN}//">',
    f'<meta http-equiv=refresh content="0;url=javascript:{_RUN}">',
    f'<link rel=stylesheet href="data:text/css,*{{x:expression({_RUN})}}">',
    "<style>@import '//127.0.0.1:1/x.css';</style>",
    '<div style="background:url(//127.0.0.1:1/x)">x</div>',
    f"<template><script>{_RUN}</script></template>",
    f'<noscript><p title="</noscript><img src=x onerror={_RUN}>">',
    f"<!--><img src=x onerror={_RUN}>-->",
    f"<![CDATA[><img src=x onerror={_RUN}>]]>",
    f"</title><img src=x onerror={_RUN}>",
    f"</textarea><img src=x onerror={_RUN}>",
    f"</pre><img src=x onerror={_RUN}>",
    f"</time><svg onload={_RUN}>",
    "{{7*7}}{% raw %}{{ config }}",
    "${7*7}#{7*7}<%= 7*7 %>",
    f"&lt;script&gt;{_RUN}&lt;/script&gt;",
    f"&#60;img src=x onerror={_RUN}&#62;",
    f"%3Cscript%3E{_RUN}%3C/script%3E",
    f"\\u003cscript\\u003e{_RUN}\\u003c/script\\u003e",
    f"\u2028\u2029<img src=x onerror={_RUN}>",
    f"\u202e<img src=x onerror={_RUN}>",
    f"\x0c<img\x0csrc=x\x0conerror={_RUN}>",
    f"\u00bcscript\u00be{_RUN}\u00bc/script\u00be",
    f'<div hx-get="/" hx-trigger=load hx-on:load="{_RUN}" hx-on::load="{_RUN}">x</div>',
    f'" hx-on:click="{_RUN}" hx-trigger="load[{_RUN}]" hx-vals="js:{{x:{_RUN}}}" x="',
    f'<div data-copy="x" id=live data-live=1 hx-get="data:text/html,<script>{_RUN}</script>">x</div>',
    "<div id=live></div><div id=live-switch></div>",
    f"<x-a onclick={_RUN} contenteditable onfocus={_RUN} tabindex=1 id=x>x</x-a>",
)

_NAMES = (
    ("sched_schedules", "name"),
    ("sched_occurrences", "schedule"),
    ("sched_jobs", "schedule"),
)


def fill(database: Database) -> None:
    """Every text of the corpus in every field of a job of each state, and in all that stands beside jobs."""
    _add_schedules(database)
    for number, each in enumerate(CORPUS):
        for state in ("queued", "held", "running", "succeeded", "failed", "cancelled"):
            _add_job(database, number, each, state)
        operations.pause_queue(database, f"q{number}", actor=each, reason=each)
        execute(
            database,
            "UPDATE sched_queues SET name = :text WHERE name = :old",
            text=each,
            old=f"q{number}",
        )
        _add_worker(database, number, each)
        _add_alert(database, number, each)


def _add_job(database: Database, number: int, text: str, state: str) -> None:
    present = now()
    has_run = state not in ("queued", "held")
    has_ended = has_run and state != "running"
    job_id = add(
        database,
        task=text,
        queue=text,
        key=text,
        state=state,
        reason=text,
        last_error=f"Traceback (most recent call last):\n  {text}\n{text}: {text}",
        args_json=json.dumps({"args": [text, {text: [text]}], "kwargs": {text: text}}),
        result_json=json.dumps({text: text}) if state == "succeeded" else None,
        progress_json=json.dumps({"done": 1, "total": 3, "message": text}),
        tags_json=json.dumps({text: text}),
        guard=text,
        batch_id=text,
        locked_by=text if has_run else None,
        worker_id=f"w{number}" if has_run else None,
        held_reason="paused" if state == "held" else None,
        attempts=1 if has_run else 0,
        created_at=present - timedelta(minutes=9),
        run_at=present + timedelta(minutes=-5 if has_run else 30),
        started_at=present - timedelta(minutes=5) if has_run else None,
        finished_at=present - timedelta(minutes=4) if has_ended else None,
        failed_at=present - timedelta(minutes=4) if state == "failed" else None,
        **(_lock(database, number, state)),
    )
    execute(
        database,
        "INSERT INTO sched_attempts (job_id, attempt, worker, finished_at, outcome, error)"
        " VALUES (:job_id, 1, :text, :at, 'failed', :text)",
        job_id=job_id,
        text=text,
        at=database.moment(present),
    )
    execute(
        database,
        "INSERT INTO sched_log_lines (job_id, claim, number, attempt, at, level, message)"
        " VALUES (:job_id, 1, 1, 1, :at, :text, :text)",
        job_id=job_id,
        text=text,
        at=database.moment(present),
    )


def _lock(database: Database, number: int, state: str) -> dict[str, object]:
    if state != "running":
        return {}
    return {
        "lock_token": f"token{number}",
        "locked_at": now(),
        "locked_until": now() + timedelta(hours=1),
    }


def _add_worker(database: Database, number: int, text: str) -> None:
    execute(
        database,
        "INSERT INTO sched_workers (id, kind, name, host, pid, version, queues, state, tags,"
        " concurrency, running, started_at, heartbeat_at)"
        " VALUES (:id, 'worker', :text, :text, 1, :text, :names, 'running', :tags, 1, 1, :at, :at)",
        id=f"w{number}",
        text=text,
        names=json.dumps([text]),
        tags=json.dumps({text: text}),
        at=database.moment(now()),
    )


def _add_alert(database: Database, number: int, text: str) -> None:
    """What was told about it, and a message that nobody has taken."""
    alert = {"kind": "failed", "status": "firing", "subject": text, "message": text, "count": 1}
    execute(
        database,
        "INSERT INTO sched_alerts (cause, kind, subject, message, facts, count, untold, first_at, last_at)"
        " VALUES (:cause, 'failed', :text, :text, :facts, 1, 1, :at, :at)",
        cause=f"failed:{number}",
        text=text,
        facts=json.dumps({"task": text, "queue": text, "named": [number + 1]}),
        at=database.moment(now()),
    )
    execute(
        database,
        "INSERT INTO sched_alert_messages (channel, body, error, created_at, due_at, expires_at)"
        " VALUES (:text, :body, :text, :at, :at, :at)",
        text=text,
        body=json.dumps({"alerts": [alert]}),
        at=database.moment(now()),
    )


def _add_schedules(database: Database) -> None:
    """Names are checked where they are declared: every other one was put into the table by another hand."""
    made = [
        Definition(
            f"s{number}",
            "t",
            cron_trigger("5 * * * *"),
            source=each,
            description=each,
            tags=(("tag", each),),
            args_json=json.dumps({"args": [each], "kwargs": {each: each}}),
        )
        for number, each in enumerate(CORPUS)
    ]
    apply(database, make_manifest(made, [], []), Settings())
    for number, each in enumerate(CORPUS):
        if number % 4 == 2:
            pausing.pause(database, f"s{number}", actor=each, reason=each)
        for table, column in _NAMES if number % 2 else ():
            statement = f"UPDATE {table} SET {column} = :text WHERE {column} = :old"
            execute(database, statement, text=each, old=f"s{number}")
