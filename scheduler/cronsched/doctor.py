"""Doctor: what this installation rests on, and what of it will give trouble. Each finding has its remedy.

`health` tells what goes wrong now; this tells what it stands on.

database    its release, whether what it has accepted survives a crash
schema      whether it is this release's
clock       this machine's against the database's
zones       the zone data here, and schedules whose times others computed
versions    workers and daemons of another release
coverage    queues and priorities in which jobs wait and that no live worker takes
pooler      a pooler that nobody has told us of
log         what holds back the clearing of old rows, or of the write-ahead log
disk        room for the file
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import text

from cronqueue import schema
from cronqueue.clock import utcnow
from cronqueue.columns import Instant
from cronqueue.database import Database, read_now, shown
from cronqueue.durations import format_duration
from cronqueue.overview import WorkerStatus, list_workers, takes_priority, takes_queue
from cronqueue.version import __version__
from cronsched.computed_with import reason_to_recompute
from cronsched.health import SKEW_LIMIT, SKEW_WARNING

Verdict = Literal["ok", "warning", "wrong"]

# RETURNING came with this release of SQLite; of PostgreSQL, the oldest that is still looked after.
OLDEST_SQLITE = (3, 35)
OLDEST_POSTGRESQL = 14
# Longer than any transaction of ours: what is older than it cannot be cleared away.
LONG_TRANSACTION = timedelta(minutes=5)
# Ten times what SQLite keeps by itself: somebody reads for long, or nobody may write it back.
LARGE_WAL = 64 * 2**20
MANY_DEAD_ROWS = 500_000
LITTLE_ROOM, NO_ROOM = 2**30, 50 * 2**20


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    subject: str
    verdict: Verdict
    message: str
    remedy: str = ""


def examine(database: Database) -> list[Finding]:
    """Everything, in the order of the list above. Raises DatabaseUnreachable."""
    found = [*_database(database), *_schema(database)]
    if schema.current(database).fit != "ok":
        return found
    workers = [each for each in list_workers(database) if each.state != "silent"]
    found += [*_clock(database), *_zones(database), *_versions(workers)]
    found += [*_coverage(database, workers), *_pooler(database)]
    log = _log_postgresql if database.is_postgresql else _log_sqlite
    return [*found, *log(database), *_disk(database)]


_LOSES_AT_A_CRASH = text(
    "SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')"
    " AND setting = 'off' ORDER BY name"
)
_COMPUTED_WITH = text(
    "SELECT name, tz_fingerprint, croniter_major, definition FROM sched_schedules"
    " WHERE state = 'active' ORDER BY name"
)
_WAITING = text(
    "SELECT queue, priority, COUNT(*) AS jobs FROM sched_jobs WHERE state = 'queued' AND NOT gated"
    " GROUP BY queue, priority ORDER BY queue, priority DESC"
)
_OLDEST_TRANSACTION = text(
    "SELECT pid, application_name, xact_start FROM pg_stat_activity"
    " WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1"
).columns(xact_start=Instant())
_DEAD_ROWS = text(
    "SELECT n_live_tup AS live, n_dead_tup AS dead FROM pg_stat_user_tables WHERE relname = 'sched_jobs'"
)


def _database(database: Database) -> Iterator[Finding]:
    where = shown(database.url)
    with database.snapshot() as connection:
        if not database.is_postgresql:
            release = str(connection.exec_driver_sql("SELECT sqlite_version()").scalar())
            is_old = tuple(map(int, release.split(".")[:2])) < OLDEST_SQLITE
            name, oldest = f"SQLite {release}", ".".join(map(str, OLDEST_SQLITE))
            weak = []
        else:
            number = int(str(connection.exec_driver_sql("SHOW server_version_num").scalar()))
            is_old = number // 10_000 < OLDEST_POSTGRESQL
            name, oldest = (
                f"PostgreSQL {number // 10_000}.{number % 10_000}",
                str(OLDEST_POSTGRESQL),
            )
            weak = list(connection.execute(_LOSES_AT_A_CRASH).scalars())
    if is_old:
        yield Finding("database", "wrong", f"{name} at {where}", f"upgrade it to {oldest} or newer")
    elif weak:
        message = f"{name} at {where} may lose accepted jobs at a crash: {', '.join(weak)} off"
        yield Finding("database", "warning", message, "switch it on in postgresql.conf")
    else:
        yield Finding("database", "ok", f"{name} at {where}")


def _schema(database: Database) -> Iterator[Finding]:
    state = schema.current(database)
    if state.fit == "ok" or (state.fit == "empty" and not database.is_postgresql):
        yield Finding("schema", "ok", state.version or "none yet: it comes with the first use")
    else:
        yield Finding("schema", "wrong", schema.explain(database, state), "sched db upgrade")


def _clock(database: Database) -> Iterator[Finding]:
    """The database's answer lies between two looks at ours."""
    before, answer, after = utcnow(), database.server_now(), utcnow()
    skew = max(before - answer, answer - after, timedelta(0))
    message = f"this machine's is {_words(skew)} away from the database's"
    if skew > SKEW_WARNING:
        verdict: Verdict = "wrong" if skew > SKEW_LIMIT else "warning"
        yield Finding("clock", verdict, message, "let NTP keep the clocks of all machines")
    else:
        yield Finding("clock", "ok", message)


def _zones(database: Database) -> Iterator[Finding]:
    with database.snapshot() as connection:
        rows = connection.execute(_COMPUTED_WITH).all()
    changed = []
    for row in rows:
        reason = reason_to_recompute(row.tz_fingerprint, row.croniter_major, row.definition)
        if reason is not None:
            changed.append(f"{row.name} ({reason})")
    if changed:
        message = f"computed with other data than is here: {_some(changed)}"
        yield Finding("zones", "warning", message, "sched plan, sched apply; or install the same")
    else:
        yield Finding("zones", "ok", f"tzdata {version('tzdata')}, croniter {version('croniter')}")


def _versions(workers: list[WorkerStatus]) -> Iterator[Finding]:
    others = [
        f"{each.kind} {each.name} has {each.version}"
        for each in workers
        if each.version != __version__
    ]
    if others:
        message = f"cronqueue {__version__} here, but {_some(others)}"
        yield Finding("versions", "warning", message, "upgrade them: a roll-out does not last")
    else:
        yield Finding("versions", "ok", f"cronqueue {__version__} everywhere")


def _coverage(database: Database, processes: list[WorkerStatus]) -> Iterator[Finding]:
    with database.snapshot() as connection:
        rows = connection.execute(_WAITING).all()
    workers = [each for each in processes if each.kind == "worker"]
    alone = [
        f"{row.jobs} of queue {row.queue} with priority {row.priority}"
        for row in rows
        if not any(takes_queue(w, row.queue) and takes_priority(w, row.priority) for w in workers)
    ]
    if alone:
        message = f"jobs wait that no live worker takes: {_some(alone)}"
        yield Finding("coverage", "wrong", message, "sched worker, with --queues or a wider band")
    else:
        yield Finding("coverage", "ok", "live workers take whatever waits")


def _pooler(database: Database) -> Iterator[Finding]:
    """A pooler gives the client a process number of its own making."""
    if not database.is_postgresql:
        return
    with database.autocommit() as connection:
        driver: Any = connection.connection.driver_connection
        told = driver.info.backend_pid
        real = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    if told != real and not database.is_pooled:
        yield Finding(
            "pooler",
            "wrong",
            "there is a pooler before the database that cronqueue was not told of",
            "add ?pooler=transaction to the database URL",
        )
    else:
        yield Finding("pooler", "ok", "told of" if database.is_pooled else "none")


def _log_postgresql(database: Database) -> Iterator[Finding]:
    with database.snapshot() as connection:
        oldest = connection.execute(_OLDEST_TRANSACTION).first()
        rows = connection.execute(_DEAD_ROWS).first()
        now = read_now(database, connection)
    if oldest is not None and now - oldest.xact_start > LONG_TRANSACTION:
        who = f"process {oldest.pid} ({oldest.application_name or 'unnamed'})"
        message = f"{who} has kept a transaction open for {_words(now - oldest.xact_start)}: old rows pile up"
        remedy = f"end it, or SELECT pg_terminate_backend({oldest.pid})"
        yield Finding("log", "warning", message, remedy)
    elif rows is not None and rows.dead > max(MANY_DEAD_ROWS, rows.live):
        message = f"sched_jobs has {rows.dead:,} dead rows beside {rows.live:,}"
        yield Finding("log", "warning", message, "VACUUM sched_jobs; is autovacuum on?")
    else:
        yield Finding("log", "ok", "old rows are cleared away")


def _log_sqlite(database: Database) -> Iterator[Finding]:
    with database.snapshot() as connection:
        mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())
    if mode != "wal":
        message = f"the journal is {mode}: readers and the writer shut each other out"
        yield Finding("log", "wrong", message, "put the file on a local disk")
        return
    log = Path(f"{database.url.database}-wal")
    size = log.stat().st_size if log.exists() else 0
    message = f"the write-ahead log has {size / 2**20:,.0f} MiB"
    if size > LARGE_WAL:
        remedy = "end programs that read for long; PRAGMA wal_checkpoint(TRUNCATE)"
        yield Finding("log", "warning", message, remedy)
    else:
        yield Finding("log", "ok", message)


def _disk(database: Database) -> Iterator[Finding]:
    if database.is_postgresql:
        return
    free = shutil.disk_usage(Path(str(database.url.database)).absolute().parent).free
    message = f"{free / 2**30:,.1f} GiB free for the file"
    verdict: Verdict = "wrong" if free < NO_ROOM else "warning" if free < LITTLE_ROOM else "ok"
    yield Finding(
        "disk", verdict, message, "" if verdict == "ok" else "make room, or sched db prune"
    )


def _some(things: list[str]) -> str:
    more = f" and {len(things) - 3} more" if len(things) > 3 else ""
    return f"{'; '.join(things[:3])}{more}"


def _words(duration: timedelta) -> str:
    return format_duration(timedelta(seconds=round(duration.total_seconds())))
