"""A shop's database at one moment of a working day: what the pictures of the dashboard show.

The schedules of `shop/` are applied three days before, and what they have promised since then has run,
as long as such jobs take, some of it badly. The same seed and the same moment make the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from cronqueue import operations
from cronqueue.clock import ManualClock
from cronqueue.database import Database
from cronqueue.queries import Filter, select_jobs
from cronqueue.settings import Settings
from cronqueue.version import __version__
from cronsched import overrides, pausing
from cronsched.loader import load
from cronsched.materializer import top_up
from cronsched.reconcile import apply
from job_rows import add, execute

SHOP = Path(__file__).parent / "shop"
PAST = timedelta(days=3)
_STEP = timedelta(hours=6)
_DAEMON = "d0"
# Of each worker: its name, queues, places, and how long ago it was heard of, in seconds.
WORKERS: tuple[tuple[str, str, list[str] | None, int, float], ...] = (
    ("w0", "web-1:4121", None, 3, 2),
    ("w1", "web-2:977", None, 3, 4),
    ("w2", "batch-1:2203", ["reports", "search", "imports"], 2, 1),
    ("w3", "batch-2:2207", ["reports", "search"], 2, 560),
)
# How long the jobs of a task take, in seconds: the least, mostly, the most.
TOOK = {
    "billing.capture": (4, 9, 40),
    "billing.settle": (60, 95, 260),
    "billing.reconcile": (600, 1100, 1900),
    "catalogue.reindex": (420, 640, 1080),
    "catalogue.stock": (70, 130, 380),
    "catalogue.prices": (30, 55, 140),
    "catalogue.osaka": (240, 330, 400),
    "mail.newsletter": (900, 1260, 1700),
    "mail.reminders": (25, 45, 90),
    "mail.welcome": (0.2, 0.4, 2),
    "reports.sales": (120, 210, 420),
    "reports.morning": (300, 420, 700),
    "reports.export": (200, 420, 900),
    "upkeep.backup": (340, 360, 420),
    "upkeep.look_around": (2, 3, 9),
}
_USUAL = (1, 5, 20)
# What they say meanwhile: after so many seconds, at a level.
_SAID = {
    "catalogue.stock": (
        (0.3, "info", "hallmark: 1,204 articles, 31 of them changed"),
        (9.4, "info", "bergmann: 860 articles, none of them changed"),
        (21.0, "info", "nordwind: 2,411 articles, 118 of them changed"),
    ),
    "reports.export": (
        (0.2, "info", "2025: 48,120 orders"),
        (94.0, "info", "January to May are written"),
        (183.5, "warning", "order 77310 has no address: left out"),
    ),
}
_PATHS = "/srv/shop/lib/python3.13/site-packages"
_FAULTS = {
    "catalogue.stock": (
        0.06,
        f"""Traceback (most recent call last):
  File "/srv/shop/schedules/catalogue.py", line 15, in stock
    for line in suppliers.read(feed):
  File "/srv/shop/suppliers.py", line 88, in read
    answer = client.get(feed.address, timeout=20)
  File "{_PATHS}/httpx/_client.py", line 1053, in get
    return self.request("GET", url, timeout=timeout)
httpx.ConnectTimeout: no answer from feeds.nordwind.example within 20 s""",
    ),
    "mail.reminders": (
        0.05,
        """Traceback (most recent call last):
  File "/srv/shop/schedules/mail.py", line 16, in reminders
    letter = render(basket)
  File "/srv/shop/letters.py", line 41, in render
    return template.format(name=customer["first_name"])
KeyError: 'first_name'""",
    ),
    "mail.welcome": (
        0.18,
        f"""Traceback (most recent call last):
  File "/srv/shop/schedules/mail.py", line 22, in welcome
    post.send(letter)
  File "{_PATHS}/aiosmtplib/smtp.py", line 1218, in sendmail
    raise SMTPRecipientsRefused(errors)
aiosmtplib.errors.SMTPRecipientsRefused: 550 5.1.1 no such mailbox""",
    ),
}


def fill(database: Database, now: datetime) -> None:
    """Everything, as it stands at `now`."""
    clock = ManualClock(now - PAST)
    usual, database.clock = database.clock, clock
    settings = Settings()
    try:
        apply(database, load(SHOP), settings)
        while clock.time < now:
            clock.time = min(clock.time + _STEP, now)
            top_up(database, settings)
        _add_processes(database, now)
        _add_adhoc(database, now, Random(7))
        _run(database, now, Random(11))
        _decide(database, now)
    finally:
        database.clock = usual


def _add_processes(database: Database, now: datetime) -> None:
    for key, name, queues, places, silent in WORKERS:
        _add_process(database, now, key, "worker", name, queues, places, silent)
    _add_process(database, now, _DAEMON, "daemon", "web-1:4102", None, None, 3)


def _add_process(
    database: Database,
    now: datetime,
    key: str,
    kind: str,
    name: str,
    queues: list[str] | None,
    places: int | None,
    silent: float,
) -> None:
    host, pid = name.split(":")
    execute(
        database,
        "INSERT INTO sched_workers (id, kind, name, host, pid, version, queues, state,"
        " concurrency, running, started_at, heartbeat_at)"
        " VALUES (:id, :kind, :name, :host, :pid, :version, :queues, 'running',"
        " :places, 0, :started_at, :heartbeat_at)",
        id=key,
        kind=kind,
        name=name,
        host=host,
        pid=int(pid),
        version=__version__,
        queues=None if queues is None else ",".join(queues),
        places=places,
        started_at=database.moment(now - timedelta(days=2, hours=3)),
        heartbeat_at=database.moment(now - timedelta(seconds=silent)),
    )


def _add_adhoc(database: Database, now: datetime, random: Random) -> None:
    """What the shop itself has put into the queue."""
    for number in range(90):
        _add_job(
            database,
            "mail.welcome",
            "mail",
            now - timedelta(minutes=1 + number * 9 + random.random() * 6),
            args=[58_210 - number],
        )
    for part in range(9):
        when = now + timedelta(minutes=50)
        _add_job(database, "reports.export", "reports", when, priority=-10, args=[2018 + part])
    for hours in (3, 7, 22, 30):
        past = now - timedelta(hours=hours, minutes=17)
        _add_job(database, "reports.export", "reports", past, args=[2025])
    _add_job(database, "reports.export", "reports", now - timedelta(minutes=4), args=[2025, "csv"])
    for number in range(3):
        due = now - timedelta(minutes=12 - number)
        _add_job(
            database,
            "crm.push_contact",
            "default",
            due,
            args=[58_204 + number],
            state="held",
            held_reason="unknown_task",
            reason="no worker knows the task crm.push_contact",
        )
    for number in range(2):
        due = now - timedelta(seconds=20 - number * 7)
        _add_job(database, "billing.refund", "billing", due, args=[90_117 + number, "19.90"])


def _add_job(
    database: Database, task: str, queue: str, run_at: datetime, *, args: list[Any], **more: Any
) -> int:
    return add(
        database,
        task=task,
        queue=queue,
        run_at=run_at,
        created_at=run_at - timedelta(seconds=1),
        args_json=json.dumps({"args": args, "kwargs": {}}),
        **more,
    )


def _run(database: Database, now: datetime, random: Random) -> None:
    """All that was due has run; what would last beyond now is at it."""
    queued = select_jobs(database, Filter(states=("queued",)), 100_000)
    for row in sorted(queued, key=lambda each: (each.run_at, each.id)):
        if row.run_at >= now or row.task == "billing.refund":
            continue
        least, mostly, most = TOOK.get(row.task, _USUAL)
        took = timedelta(seconds=random.triangular(least, most, mostly))
        begins = row.run_at + timedelta(seconds=random.expovariate(1 / 1.5))
        _, name, _, _, _ = worker = WORKERS[random.randrange(3)]
        values: dict[str, Any] = {
            "attempts": 1,
            "locked_by": name,
            "worker_id": worker[0],
            "started_at": begins,
        }
        share, fault = _FAULTS.get(row.task, (0.0, ""))
        if begins + took > now:
            values |= _running(row.task, begins, now, row.id)
        elif random.random() < share:
            values |= _failed(database, row, begins, took, fault, random)
        else:
            values |= {"state": "succeeded", "finished_at": begins + took}
            values["result_json"] = json.dumps({"rows": random.randrange(20, 9000)})
        _update(database, row.id, values)
        _say(database, row.id, row.task, begins, values["state"])


def _say(database: Database, job_id: int, task: str, begins: datetime, state: str) -> None:
    """What the job has written into its log."""
    said = list(_SAID.get(task, ()))
    if state == "failed" and said:
        said[-1] = (said[-1][0], "warning", "feeds.nordwind.example does not answer, once more")
    for number, (seconds, level, message) in enumerate(said):
        execute(
            database,
            "INSERT INTO sched_log_lines (job_id, claim, number, attempt, at, level, message)"
            " VALUES (:job_id, 0, :number, 1, :at, :level, :message)",
            job_id=job_id,
            number=number,
            at=database.moment(begins + timedelta(seconds=seconds)),
            level=level,
            message=message,
        )


def _running(task: str, begins: datetime, now: datetime, job_id: int) -> dict[str, Any]:
    done = {"catalogue.reindex": 41_230, "reports.export": 61}.get(task)
    told: dict[str, object] = {"done": done, "total": 68_400 if task == "catalogue.reindex" else 96}
    told |= {"message": "shoes" if task == "catalogue.reindex" else "October"}
    return {
        "state": "running",
        "lock_token": f"token-{job_id}",
        "locked_at": begins,
        "locked_until": now + timedelta(seconds=22),
        "progress_json": json.dumps(told) if done else None,
    }


def _failed(
    database: Database, row: Any, begins: datetime, took: timedelta, fault: str, random: Random
) -> dict[str, Any]:
    """Its last attempt, and the ones before; the newest wait for their next."""
    tries = row.max_attempts if row.schedule is None else 1
    tries = min(tries, 3)
    ended = begins + took
    for attempt in range(1, tries + 1):
        execute(
            database,
            "INSERT INTO sched_attempts"
            " (job_id, attempt, worker, started_at, finished_at, outcome, error)"
            " VALUES (:job_id, :attempt, :worker, :begins, :ended, 'failed', :error)",
            job_id=row.id,
            attempt=attempt,
            worker=WORKERS[attempt % 3][1],
            begins=database.moment(begins - timedelta(minutes=2 * (tries - attempt))),
            ended=database.moment(ended - timedelta(minutes=2 * (tries - attempt))),
            error=fault,
        )
    values: dict[str, Any] = {"attempts": tries, "last_error": fault, "started_at": begins}
    if database.clock.now() - ended < timedelta(minutes=12):
        again = timedelta(minutes=random.uniform(1, 25))
        return values | {"state": "queued", "run_at": database.clock.now() + again}
    return values | {
        "state": "failed",
        "finished_at": ended,
        "failed_at": ended,
        "max_attempts": tries,
    }


def _update(database: Database, job_id: int, values: dict[str, Any]) -> None:
    names = {"result_json": "result", "progress_json": "progress"}
    stored = {
        names.get(name, name): database.moment(value) if isinstance(value, datetime) else value
        for name, value in values.items()
    }
    assignments = ", ".join(f"{name} = :{name}" for name in stored)
    execute(database, f"UPDATE sched_jobs SET {assignments} WHERE id = :id", id=job_id, **stored)


def _decide(database: Database, now: datetime) -> None:
    """What people have done, and one night on which nobody was there."""
    pausing.pause(database, "catalogue.osaka", actor="mika", reason="the warehouse moves")
    operations.pause_queue(
        database,
        "mail",
        actor="ann",
        reason="the provider is down",
        until=now + timedelta(minutes=35),
    )
    ahead = {each.schedule: each for each in _ahead(database)}
    reports = ahead["reports.morning"]
    to = reports.planned_for + timedelta(minutes=45)
    overrides.move(
        database,
        reports.schedule,
        reports.planned_for,
        to,
        actor="ann",
        reason="the numbers are late",
    )
    backup = ahead["upkeep.prune_images"]
    overrides.skip(
        database,
        backup.schedule,
        backup.planned_for,
        actor="mika",
        reason="an audit of the pictures",
    )
    failed = select_jobs(database, Filter(states=("failed",), task="mail.welcome"), 3)
    operations.retry_jobs(database, [each.id for each in failed[:2]], actor="ann")
    operations.cancel_jobs(
        database,
        [
            each.id
            for each in select_jobs(database, Filter(states=("queued",), task="reports.export"), 1)
        ],
        actor="ann",
    )
    missed = now.replace(hour=2, minute=0, second=0, microsecond=0)
    _miss(database, "reports.sales", missed + timedelta(minutes=30))
    _miss(database, "catalogue.reindex", missed)


def _ahead(database: Database) -> Iterator[Any]:
    rows = select_jobs(database, Filter(states=("queued",)), 100_000)
    ordered = sorted(rows, key=lambda each: each.run_at, reverse=True)
    return (each for each in ordered if each.schedule and not each.started_at)


def _miss(database: Database, schedule: str, planned_for: datetime) -> None:
    moment = database.moment(planned_for)
    execute(
        database,
        "UPDATE sched_jobs SET state = 'skipped', reason = 'missed:late', started_at = NULL,"
        " attempts = 0, locked_by = NULL, worker_id = NULL, result = NULL, last_error = NULL,"
        " finished_at = :late"
        " WHERE schedule = :schedule AND planned_for = :moment",
        schedule=schedule,
        moment=moment,
        late=database.moment(planned_for + timedelta(hours=1, minutes=4)),
    )
    execute(
        database,
        "UPDATE sched_occurrences SET verdict = 'missed:late', decided_at = :late"
        " WHERE schedule = :schedule AND planned_for = :moment",
        schedule=schedule,
        moment=moment,
        late=database.moment(planned_for + timedelta(hours=1, minutes=4)),
    )
