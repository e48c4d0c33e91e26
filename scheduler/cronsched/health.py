"""Health: what is wrong with schedules and queue, seen from any process, with or without a daemon.

late      a due job that no worker has claimed for too long
coverage  a schedule that is written less far ahead than it should be
missing   an instant of a schedule, within its range, that stands nowhere
paused    a schedule that its own failures have paused
daemon    no daemon has been heard of
clock     a machine whose clock is away from the database's
files     a schedule file with a fault, as the daemon last saw it
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from cronqueue.columns import Instant, to_text
from cronqueue.database import Database, read_now
from cronqueue.durations import format_duration
from cronqueue.overview import SILENT_AFTER, list_workers
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.failures import PAUSED_BY
from cronsched.planner import MOST_AHEAD
from cronsched.triggers import OpaqueTrigger

# Clocks differ by this much everywhere; by ten times as much something is wrong with one.
SKEW_WARNING = timedelta(seconds=1)
SKEW_LIMIT = timedelta(seconds=30)
# Below this share of its own range a schedule is about to run dry.
LEAST_COVERAGE = 0.25
# Missing instants are looked for so far around now, and of each schedule in so many before and after it at
# most: `sched audit` looks at all.
MISSING_WINDOW = timedelta(days=1)
MISSING_SAMPLE = 60
# Schedules that one statement compares with the ledger.
BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to do. A warning needs nobody at once."""

    kind: str
    subject: str
    message: str
    is_warning: bool = False


class _Window(NamedTuple):
    """Instants of a schedule that should stand in the ledger, all of those after `start` up to the last."""

    schedule: str
    start: datetime
    instants: tuple[datetime, ...]


def find_problems(
    database: Database, settings: Settings, late_after: timedelta = timedelta(minutes=1)
) -> list[Problem]:
    """Everything that is wrong now."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        found = [
            *_late(database, connection, now, late_after),
            *_schedules(database, connection, now, settings),
            *_paused(connection),
            *_files(connection),
        ]
        any_schedule = connection.execute(_ANY_SCHEDULE).scalar() is not None
    return [*found, *_processes(database, now, needs_daemon=any_schedule)]


_ANY_SCHEDULE = text("SELECT 1 FROM sched_schedules WHERE state = 'active' LIMIT 1")
_LATE = text("""
SELECT queue, COUNT(*) AS jobs, MIN(run_at) AS oldest FROM sched_jobs
WHERE state = 'queued' AND run_at < :edge AND queue NOT IN (
    SELECT name FROM sched_queues
    WHERE paused_at IS NOT NULL AND (paused_until IS NULL OR paused_until > :now))
GROUP BY queue ORDER BY queue
""").columns(oldest=Instant())
_SCHEDULES = text("""
SELECT name, definition, valid_from, materialized_until FROM sched_schedules
WHERE state = 'active' ORDER BY name
""").columns(valid_from=Instant(), materialized_until=Instant())
# By window: how many occurrences stand in the ledger, and the sum of their times in seconds.
_TOTALS = {
    True: text("""
SELECT CAST(w.pair ->> 0 AS int) AS number, written, total
FROM json_array_elements(CAST(:windows AS json)) AS w(pair)
CROSS JOIN LATERAL (
    SELECT COUNT(*) AS written, COALESCE(SUM(EXTRACT(EPOCH FROM planned_for)), 0) AS total
    FROM sched_occurrences WHERE schedule = w.pair ->> 1
        AND planned_for > CAST(w.pair ->> 2 AS timestamptz)
        AND planned_for <= CAST(w.pair ->> 3 AS timestamptz)
) AS found
"""),
    False: text("""
SELECT json_extract(w.value, '$[0]') AS number, COUNT(o.planned_for) AS written,
    COALESCE(SUM(CAST(strftime('%s', o.planned_for) AS integer)), 0) AS total
FROM json_each(:windows) AS w
LEFT JOIN sched_occurrences AS o ON o.schedule = json_extract(w.value, '$[1]')
    AND o.planned_for > json_extract(w.value, '$[2]')
    AND o.planned_for <= json_extract(w.value, '$[3]')
GROUP BY number
"""),
}
_WRITTEN = text("""
SELECT planned_for FROM sched_occurrences
WHERE schedule = :name AND planned_for > :start AND planned_for <= :end
""").columns(planned_for=Instant())
_PAUSED = text("""
SELECT name, paused_reason FROM sched_schedules
WHERE state = 'active' AND watched AND paused_at IS NOT NULL AND paused_by = :actor ORDER BY name
""")
_FAULTS = text("SELECT name, fault FROM sched_sources WHERE fault IS NOT NULL ORDER BY name")


def _late(
    database: Database, connection: Connection, now: datetime, late_after: timedelta
) -> Iterator[Problem]:
    times = {"edge": database.moment(now - late_after), "now": database.moment(now)}
    for row in connection.execute(_LATE, times):
        yield Problem(
            "late",
            f"queue {row.queue}",
            f"{row.jobs} due jobs are not claimed, the oldest for {_words(now - row.oldest)}:"
            " is a worker there for this queue?",
        )


def _schedules(
    database: Database, connection: Connection, now: datetime, settings: Settings
) -> Iterator[Problem]:
    windows: list[_Window] = []
    for row in connection.execute(_SCHEDULES).all():
        try:
            definition = Definition.from_json(row.definition)
            yield from _coverage(definition, row, now, settings)
            windows += _windows(definition, row, now)
        except Exception as error:  # one that cannot be computed must not hide the others
            yield Problem("coverage", f"schedule {row.name}", f"cannot be computed: {error}")
    yield from _missing(database, connection, windows)


def _coverage(
    definition: Definition, row: Any, now: datetime, settings: Settings
) -> Iterator[Problem]:
    """Its own range: the horizon, or what as many rows as are written at most cover."""
    horizon = definition.horizon or settings.horizon
    reach = now + horizon
    if row.materialized_until >= now + horizon * LEAST_COVERAGE:
        return  # computing what the rows cover would only ask for less
    count = 0
    for instant in definition.occurrences(now, reach):
        count += 1
        if count > MOST_AHEAD:
            reach = instant
            break
    if count == 0 or row.materialized_until >= now + (reach - now) * LEAST_COVERAGE:
        return
    yield Problem(
        "coverage",
        f"schedule {row.name}",
        f"is written until {row.materialized_until:%Y-%m-%d %H:%M:%S} UTC only: is a daemon running?",
    )


def _windows(definition: Definition, row: Any, now: datetime) -> Iterator[_Window]:
    """Its instants around now: as far back as those ahead reach, so that there are about as many."""
    ahead = _instants(definition, now, min(row.materialized_until, now + MISSING_WINDOW))
    reach = ahead[-1] - now if len(ahead) == MISSING_SAMPLE else MISSING_WINDOW
    behind = _instants(definition, max(row.valid_from, now - reach), now)
    for start, instants in ((max(row.valid_from, now - reach), behind), (now, ahead)):
        if instants:
            yield _Window(row.name, start, tuple(instants))


def _instants(definition: Definition, after: datetime, until: datetime) -> list[datetime]:
    second = timedelta(seconds=1)
    found: list[datetime] = []
    if after < until:
        expected = definition.occurrences(after.replace(microsecond=0) + second, until + second)
        with suppress(OpaqueTrigger):  # what lies there cannot be told here; the rest can
            found.extend(each for each in islice(expected, MISSING_SAMPLE) if each <= until)
    return found


def _missing(
    database: Database, connection: Connection, windows: list[_Window]
) -> Iterator[Problem]:
    missing: dict[str, list[datetime]] = {}
    for start in range(0, len(windows), BATCH):
        for each in _differing(database, connection, windows[start : start + BATCH]):
            span = {
                "name": each.schedule,
                "start": database.moment(each.start),
                "end": database.moment(each.instants[-1]),
            }
            written = set(connection.execute(_WRITTEN, span).scalars())
            gone = [instant for instant in each.instants if instant not in written]
            if gone:
                missing.setdefault(each.schedule, []).extend(gone)
    for name, instants in missing.items():
        yield Problem(
            "missing",
            f"schedule {name}",
            f"{len(instants)} occurrences stand nowhere, the first of {instants[0]:%Y-%m-%d %H:%M:%S} UTC:"
            " `sched audit` tells more",
        )


def _differing(
    database: Database, connection: Connection, windows: list[_Window]
) -> Iterator[_Window]:
    """Those in which the ledger does not hold as many occurrences, or not the same."""
    asked = [
        (number, each.schedule, to_text(each.start), to_text(each.instants[-1]))
        for number, each in enumerate(windows)
    ]
    statement = _TOTALS[database.is_postgresql]
    for row in connection.execute(statement, {"windows": json.dumps(asked)}):
        instants = windows[row.number].instants
        if (row.written, row.total) != (
            len(instants),
            sum(int(each.timestamp()) for each in instants),
        ):
            yield windows[row.number]


def _paused(connection: Connection) -> Iterator[Problem]:
    for row in connection.execute(_PAUSED, {"actor": PAUSED_BY}):
        yield Problem(
            "paused",
            f"schedule {row.name}",
            f"{row.paused_reason}: sched schedules resume {row.name} lets it go on",
        )


def _files(connection: Connection) -> Iterator[Problem]:
    for row in connection.execute(_FAULTS):
        yield Problem("files", row.name, str(row.fault).splitlines()[0])


def _processes(database: Database, now: datetime, *, needs_daemon: bool) -> Iterator[Problem]:
    workers = list_workers(database)
    alive = [each for each in workers if now - each.heartbeat_at <= SILENT_AFTER]
    if needs_daemon and not any(each.kind == "daemon" for each in alive):
        yield Problem(
            "daemon",
            "daemon",
            "no daemon has been heard of: what is written runs on, no more comes",
        )
    for each in alive:
        skew = abs(timedelta(seconds=each.clock_skew or 0.0))
        if skew > SKEW_WARNING:
            yield Problem(
                "clock",
                f"{each.kind} {each.name}",
                f"its clock is {_words(skew)} away from the database's",
                is_warning=skew <= SKEW_LIMIT,
            )


def _words(duration: timedelta) -> str:
    return format_duration(timedelta(seconds=round(duration.total_seconds())))
