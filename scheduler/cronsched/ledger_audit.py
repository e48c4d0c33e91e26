"""Audit of the ledger: every promised occurrence has exactly one verdict, and none is there unpromised.

What was promised is computed again from the revisions of the schedules, each for the time in which it was
in force. What stands in the ledger, and what its jobs say, is held against that.

    missing      promised, and stands nowhere
    unpromised   stands there as if it had been promised; nobody took it back
    lost         its job was deleted behind our back
    contradicted what the ledger says of it and what its job says cannot both be
    doubled      two unfinished jobs for one occurrence, or two that wait of a chain

What a chain (`after`) promises is nothing at any given time: what stands there is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database
from cronsched.acts import Acts, read_acts
from cronsched.definition import Definition
from cronsched.retention import Counted, is_counted, read_counted
from cronsched.triggers import After

# Verdicts of occurrences that a plan or an operator has taken out of what is promised.
TAKEN_BACK = ("superseded", "removed", "cancelled", "skipped:override")
_SECOND = timedelta(seconds=1)
# How the verdict that was written down, if one was, must agree with the job's state, if the job is there.
_STATE_OF = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
    "superseded": "cancelled",
    "removed": "cancelled",
    "skipped": "skipped",
    "missed": "skipped",
    "coalesced": "skipped",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One occurrence that does not add up."""

    kind: str
    schedule: str
    planned_for: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class Audited:
    """How many occurrences were looked at, and what is wrong with some.

    `unknown`: schedules of which not everything that was promised can be computed here.
    """

    occurrences: int
    findings: tuple[Finding, ...]
    unknown: tuple[str, ...] = ()


def audit(database: Database, start: datetime, end: datetime) -> Audited:
    """Account for every occurrence in [start, end)."""
    with database.snapshot() as connection:
        span = {"start": database.moment(start), "end": database.moment(end)}
        stored = _stored(connection, span)
        revisions = _revisions(connection)
        unknown = _unknown(revisions, start, end)
        revisions = [each for each in revisions if each.schedule not in unknown]
        promised = _promised(revisions, start, end)
        foreseen = _foreseen(revisions, stored) | _chained(revisions, stored)
        counted = read_counted(database, connection, start, end)
        acts = read_acts(connection)
        findings = [
            *_compare(promised | foreseen, unknown, stored, acts),
            *_missing(promised, stored, counted),
            *_doubled(connection, span),
            *_forked(database, connection, revisions),
        ]
    findings.sort(key=lambda found: (found.schedule, found.planned_for, found.kind))
    return Audited(len(promised | stored.keys()), tuple(findings), tuple(sorted(unknown)))


Key = tuple[str, datetime]


@dataclass(frozen=True, slots=True)
class _Revision:
    """A schedule's times, and how far they are written: to `last`."""

    schedule: str
    definition: Definition
    valid_from: datetime
    valid_until: datetime | None
    last: datetime

    @property
    def first(self) -> datetime:
        return self.valid_from.replace(microsecond=0) + _SECOND

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Its instants in [start, end), as far as it had come into force."""
        return self.definition.occurrences(max(start, self.first), end)


_REVISIONS = text("""
SELECT r.schedule, r.definition, r.valid_from, r.valid_until, s.materialized_until
FROM sched_revisions r JOIN sched_schedules s ON s.name = r.schedule
ORDER BY r.schedule, r.revision
""").columns(valid_from=Instant(), valid_until=Instant(), materialized_until=Instant())
_STORED = text("""
SELECT o.schedule, o.planned_for, o.verdict, o.job_id, j.state, j.origin, j.pinned, v.action
FROM sched_occurrences o LEFT JOIN sched_jobs j ON j.id = o.job_id
LEFT JOIN sched_overrides v ON v.schedule = o.schedule AND v.planned_for = o.planned_for
WHERE o.planned_for >= :start AND o.planned_for < :end
""").columns(planned_for=Instant())
_DOUBLED = text("""
SELECT schedule, planned_for, COUNT(*) AS jobs FROM sched_jobs
WHERE schedule IS NOT NULL AND origin IN ('schedule', 'backfill') AND batch_id IS NULL
    AND state IN ('queued', 'held', 'running') AND planned_for >= :start AND planned_for < :end
GROUP BY schedule, planned_for HAVING COUNT(*) > 1
""").columns(planned_for=Instant())


def _revisions(connection: Connection) -> list[_Revision]:
    return [
        _Revision(
            row.schedule,
            Definition.from_json(row.definition),
            row.valid_from,
            row.valid_until,
            min(row.valid_until or row.materialized_until, row.materialized_until),
        )
        for row in connection.execute(_REVISIONS)
    ]


def _unknown(revisions: list[_Revision], start: datetime, end: datetime) -> set[str]:
    return {
        each.schedule
        for each in revisions
        if (since := max(start, each.first)) < (until := min(end, each.last))
        if not each.definition.is_known(since, until + _SECOND)
    }


def _promised(revisions: list[_Revision], start: datetime, end: datetime) -> set[Key]:
    """The instants of each revision, from the moment after it came into force to its last."""
    return {
        (each.schedule, instant)
        for each in revisions
        for instant in each.between(start, min(end, each.last + _SECOND))
        if instant <= each.last
    }


def _foreseen(revisions: list[_Revision], stored: dict[Key, Any]) -> set[Key]:
    """What the times in force yield beyond what is promised: a longer horizon has written it once."""
    latest: dict[str, datetime] = {}
    for schedule, planned_for in stored:
        latest[schedule] = max(latest.get(schedule, planned_for), planned_for)
    return {
        (each.schedule, instant)
        for each in revisions
        if each.valid_until is None and each.schedule in latest
        for instant in each.between(each.last, latest[each.schedule] + _SECOND)
    }


_FORKED = """
SELECT schedule, MAX(planned_for) AS planned_for, COUNT(*) AS jobs FROM sched_jobs
WHERE schedule {among} AND origin = 'schedule' AND state IN ('queued', 'held') AND schedule IS NOT NULL
    AND started_at IS NULL
GROUP BY schedule HAVING COUNT(*) > 1
"""


def _chained(revisions: list[_Revision], stored: dict[Key, Any]) -> set[Key]:
    """What chains have written while they were in force: each when its run before had ended."""
    chains: dict[str, list[_Revision]] = {}
    for each in revisions:
        if isinstance(each.definition.trigger, After):
            chains.setdefault(each.schedule, []).append(each)
    return {
        (schedule, planned_for)
        for schedule, planned_for in stored
        for each in chains.get(schedule, ())
        if each.valid_from < planned_for and planned_for <= (each.valid_until or planned_for)
    }


def _stored(connection: Connection, span: dict[str, Any]) -> dict[Key, Any]:
    rows = connection.execute(_STORED, span)
    return {(row.schedule, row.planned_for): row for row in rows}


def _missing(promised: set[Key], stored: dict[Key, Any], counted: Counted) -> Iterator[Finding]:
    for schedule, planned_for in promised - stored.keys():
        if not is_counted(counted, schedule, planned_for):
            yield Finding("missing", schedule, planned_for, "promised, and stands nowhere")


def _compare(
    allowed: set[Key], unknown: set[str], stored: dict[Key, Any], acts: Acts
) -> Iterator[Finding]:
    for key, row in stored.items():
        if row.state is None and row.verdict is None:
            yield Finding("lost", *key, f"job {row.job_id} was deleted behind the ledger's back")
        elif detail := _contradiction(row):
            yield Finding("contradicted", *key, detail)
        elif not (
            key in allowed
            or key[0] in unknown
            or _is_taken_back(row)
            or acts.reach(*key, row.job_id)
        ):
            yield Finding("unpromised", *key, f"no revision promised it; it is {_verdict(row)}")


def _contradiction(row: Any) -> str | None:
    if row.verdict is None or row.state is None:
        return None
    expected = _STATE_OF.get(row.verdict.partition(":")[0], row.verdict)
    if row.state == expected:
        return None
    return f"the ledger says {row.verdict!r}, job {row.job_id} is {row.state}"


def _is_taken_back(row: Any) -> bool:
    """Whether a plan or an operator has decided on it, as far as its rows tell."""
    by_hand = row.pinned or row.origin == "backfill" or row.action is not None
    return bool(by_hand) or _verdict(row).startswith(TAKEN_BACK)


def _verdict(row: Any) -> str:
    verdict: str = row.verdict or row.state
    return verdict


def _doubled(connection: Connection, span: dict[str, Any]) -> Iterator[Finding]:
    for row in connection.execute(_DOUBLED, span):
        yield Finding("doubled", row.schedule, row.planned_for, f"{row.jobs} unfinished jobs")


def _forked(
    database: Database, connection: Connection, revisions: list[_Revision]
) -> Iterator[Finding]:
    chains = {
        each.schedule
        for each in revisions
        if each.valid_until is None and isinstance(each.definition.trigger, After)
    }
    statement = text(_FORKED.format(among=database.among("names"))).columns(planned_for=Instant())
    for row in connection.execute(statement, {"names": database.listed(sorted(chains))}):
        detail = f"{row.jobs} runs wait, where one comes after the other"
        yield Finding("doubled", row.schedule, row.planned_for, detail)
