"""What happened to every job, recorded by triggers in the database itself, and the rules that it must obey.

A change is recorded in its own transaction, so what was rolled back is not there, and what committed is,
whoever wrote it. `violations` holds it against the promises, together with what bodies have noted.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

from cronqueue.database import Database
from job_rows import execute, query

T = TypeVar("T")

# What is recorded whenever one of it changes. A renewal changes none.
COLUMNS = (
    "state", "lock_token", "attempts", "claims", "refunds", "max_attempts", "run_at", "gated", "slot",
)  # fmt: skip
ENDED = frozenset({"succeeded", "failed", "cancelled", "skipped"})
# The picture of the states, as pairs. A job that has ended stays so: nobody retries it here.
DRAWN = {
    "queued": {"queued", "held", "running", "cancelled", "skipped"},
    "held": {"held", "queued", "running", "cancelled", "skipped"},
    "running": {"queued", "held", "succeeded", "failed", "cancelled"},
}


@dataclass(frozen=True, slots=True)
class Change:
    """A job as it was after one change."""

    at: datetime
    job_id: int
    state: str
    lock_token: str | None
    attempts: int
    claims: int
    refunds: int
    max_attempts: int
    run_at: datetime


@dataclass(frozen=True, slots=True)
class Row:
    """A job at the end."""

    id: int
    task: str
    state: str
    attempts: int
    claims: int
    refunds: int
    result: Any
    schedule: str | None
    planned_for: datetime | None


@dataclass(frozen=True, slots=True)
class Line:
    """What a body has noted: that it began or ended, by which claim."""

    word: str
    job: int
    token: int
    at: float


def record(database: Database) -> None:
    """Make the table and the triggers."""
    for statement in _POSTGRESQL if database.is_postgresql else _SQLITE:
        execute(database, statement)


def changes(database: Database) -> list[Change]:
    """All that was recorded, in its order."""
    return _read(database, Change, "torture_history ORDER BY seq")


def rows(database: Database) -> list[Row]:
    """All jobs."""
    return _read(database, Row, "sched_jobs ORDER BY id")


def journal(path: Path) -> list[Line]:
    """What bodies have noted."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Line(**json.loads(line)) for line in lines]


def wrong_changes(recorded: Iterable[Change]) -> Iterator[str]:
    """Changes that the picture of the states does not have, or that claims do not make."""
    last: dict[int, Change] = {}
    tokens: dict[int, set[str]] = defaultdict(set)
    for change in recorded:
        before = last.get(change.job_id)
        last[change.job_id] = change
        if before is None:
            continue
        what = f"job {change.job_id}, claim {change.claims}, {before.state} -> {change.state}"
        if change.state not in DRAWN.get(before.state, ()):
            yield f"{what}: not in the picture"
        if change.state == "running":
            yield from (f"{what}: {fault}" for fault in _wrong_claim(before, change))
            if change.lock_token in tokens[change.job_id]:
                yield f"{what}: its token was used before"
            tokens[change.job_id].add(change.lock_token or "")
        elif change.claims != before.claims:
            yield f"{what}: claims went from {before.claims} to {change.claims}"
        elif change.attempts not in (
            before.attempts,
            before.attempts - (before.state == "running"),
        ):
            yield f"{what}: attempts went from {before.attempts} to {change.attempts}"


def _wrong_claim(before: Change, change: Change) -> Iterator[str]:
    if change.claims != before.claims + 1:
        yield f"claims went from {before.claims} to {change.claims}"
    if change.attempts != before.attempts + 1:
        yield f"attempts went from {before.attempts} to {change.attempts}"
    if change.attempts > change.max_attempts:
        yield f"attempt {change.attempts} of {change.max_attempts}"
    # SQLite's own clock, which the trigger reads, has milliseconds.
    if change.at < change.run_at - timedelta(milliseconds=2):
        yield f"claimed {change.run_at - change.at} before its time"


def wrong_runs(jobs: Iterable[Row], lines: Sequence[Line]) -> Iterator[str]:
    """Bodies that ran more often than attempts were spent, and results that are not the last claim's."""
    begun = Counter((line.job, line.token) for line in lines if line.word == "began")
    ended = {(line.job, line.token) for line in lines if line.word == "ended"}
    times = Counter(job for job, _ in begun.elements())
    yield from (
        f"job {job}: claim {token} ran {number} times"
        for (job, token), number in begun.items()
        if number > 1
    )
    for row in jobs:
        if times[row.id] > row.attempts + row.refunds:
            yield f"job {row.id} ({row.task}): {times[row.id]} runs, {row.attempts} attempts spent"
        if row.state != "succeeded":
            continue
        if row.result != row.claims:
            yield f"job {row.id} ({row.task}): claim {row.claims}, but the result of {row.result}"
        if (row.id, row.claims) not in ended:
            yield f"job {row.id} ({row.task}): succeeded by claim {row.claims}, which did not end"


def wrong_effects(database: Database, jobs: Iterable[Row], task: str) -> Iterator[str]:
    """What jobs wrote by their sessions: once, by the claim that succeeded, or not at all."""
    written: dict[int, list[int]] = defaultdict(list)
    for job_id, token in query(database, "SELECT job_id, token FROM torture_effects"):
        written[job_id].append(token)
    for row in jobs:
        expected = [row.claims] if row.state == "succeeded" and row.task == task else []
        if written[row.id] != expected:
            yield f"job {row.id} ({row.task}, {row.state}): wrote {written[row.id]}, not {expected}"


def overlaps(recorded: Iterable[Change], jobs: Iterable[Row], schedule: str) -> Iterator[str]:
    """Occurrences of one schedule that held their claims at the same time."""
    own = {row.id for row in jobs if row.schedule == schedule}
    running: set[int] = set()
    for change in recorded:
        if change.job_id not in own:
            continue
        if change.state != "running":
            running.discard(change.job_id)
            continue
        running.add(change.job_id)
        if len(running) > 1:
            yield f"{schedule}: jobs {sorted(running)} ran at the same time"


def gaps(jobs: Iterable[Row], schedule: str, period: timedelta) -> Iterator[str]:
    """Occurrences that are missing or there twice."""
    planned = sorted(
        row.planned_for for row in jobs if row.schedule == schedule and row.planned_for
    )
    for earlier, later in pairwise(planned):
        if later - earlier != period:
            yield f"{schedule}: after {earlier} comes {later}"


def _read(database: Database, kind: type[T], source: str) -> list[T]:
    names = [field.name for field in fields(cast(Any, kind))]
    found = query(database, f"SELECT {', '.join(names)} FROM {source}")
    return [
        kind(**{name: _decoded(name, value) for name, value in zip(names, row, strict=True)})
        for row in found
    ]


def _decoded(name: str, value: Any) -> Any:
    """A value of either database as Python's."""
    if name in ("at", "run_at", "planned_for") and value is not None:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.astimezone(UTC)
    return json.loads(value) if name == "result" and isinstance(value, str) else value


def make_effects(database: Database) -> None:
    """The table that jobs write to by their sessions."""
    kind = "bigserial" if database.is_postgresql else "INTEGER"
    execute(
        database,
        f"CREATE TABLE torture_effects (id {kind} PRIMARY KEY, job_id bigint, token bigint)",
    )


_NEW = ", ".join(f"NEW.{name}" for name in COLUMNS)
_CHANGED = " OR ".join(f"NEW.{name} IS {{distinct}} OLD.{name}" for name in COLUMNS)
_POSTGRESQL = (
    "CREATE TABLE torture_history AS SELECT CAST(0 AS bigint) AS seq, clock_timestamp() AS at,"
    f" id AS job_id, {', '.join(COLUMNS)} FROM sched_jobs WITH NO DATA",
    "CREATE SEQUENCE torture_seq",
    f"""CREATE FUNCTION torture_record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO torture_history VALUES (nextval('torture_seq'), clock_timestamp(), NEW.id, {_NEW});
    RETURN NULL;
    END $$""",
    "CREATE TRIGGER torture_added AFTER INSERT ON sched_jobs FOR EACH ROW EXECUTE FUNCTION torture_record()",
    f"""CREATE TRIGGER torture_changed AFTER UPDATE ON sched_jobs FOR EACH ROW
    WHEN ({_CHANGED.format(distinct="DISTINCT FROM")}) EXECUTE FUNCTION torture_record()""",
)
_INSERT = (
    f"INSERT INTO torture_history (at, job_id, {', '.join(COLUMNS)})"
    f" VALUES (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), NEW.id, {_NEW});"
)
_SQLITE = (
    f"CREATE TABLE torture_history (seq INTEGER PRIMARY KEY, at, job_id, {', '.join(COLUMNS)})",
    f"CREATE TRIGGER torture_added AFTER INSERT ON sched_jobs BEGIN {_INSERT} END",
    f"""CREATE TRIGGER torture_changed AFTER UPDATE ON sched_jobs
    WHEN {_CHANGED.format(distinct="NOT")} BEGIN {_INSERT} END""",
)
