"""Reconcile: brings the database to what the schedule files declare.

One transaction for each source file, with one `now`. Locks are taken in the order source, schedules, jobs; a
job that somebody is changing at this moment is left alone. An edit never makes anything run by itself: what
was due stays due, and everything else is decided for times after now.

What cannot be carried out is refused and said; it stops nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue import wakeup
from cronqueue.audit import this_user
from cronqueue.columns import Instant
from cronqueue.database import Database, is_outage, read_now
from cronqueue.imports import Fault
from cronqueue.settings import Settings
from cronsched.applying import Applying, Done, readable
from cronsched.changes import Change, Stored, compare, fingerprint_of
from cronsched.computed_with import is_current, reason_to_recompute, zone_mark
from cronsched.definition import Definition
from cronsched.lints import lint
from cronsched.manifest import Manifest
from cronsched.plans import Effect, Plan, likely_renames
from cronsched.rowsets import names_of
from cronsched.surroundings import look_around

log = logging.getLogger("cronsched.daemon")


def plan(
    database: Database, manifest: Manifest, settings: Settings, *, allow_removals: bool = False
) -> Plan:
    """What `apply` would do now, and what is odd about the schedules; writes nothing."""
    with database.snapshot() as connection:
        now = read_now(database, connection)
        stored = _stored(connection, manifest)
        changes = compare(manifest, stored, allow_removals=allow_removals)
        rows = _schedules(connection, changes.changes, lock="")
        run = Applying(database, connection, manifest, settings, now, rows, dry=True)
        effects, refused = run.carry_out_all(changes.changes)
        moved = {each.name: each.moved_by for each in stored.values() if each.moved_by}
    known = look_around(database, manifest.schedules, moved)
    lints = [*likely_renames(effects), *lint(manifest.schedules, now, known)]
    return Plan(
        tuple(effects),
        changes,
        manifest,
        (*changes.refused, *refused),
        tuple(lints),
        fingerprint_of(stored),
    )


def apply(
    database: Database,
    manifest: Manifest,
    settings: Settings,
    *,
    allow_removals: bool = False,
    actor: str | None = None,
    may_go_on: Callable[[Connection], bool] = lambda connection: True,
) -> Plan:
    """Carry out the difference, file by file; returns what was done. Raises only for an outage.

    `actor` is whoever stands in the audit, by default the user of this process. `may_go_on` is asked at the
    begin of each file's transaction; it goes no further when that says no.
    """
    with database.snapshot() as connection:
        stored = _stored(connection, manifest)
        changes = compare(manifest, stored, allow_removals=allow_removals)
    effects: list[Effect] = []
    refused = list(changes.refused)
    was_overtaken = False
    run = _Run(database, manifest, settings, allow_removals, actor or this_user(), may_go_on)
    for source in changes.by_source():
        done = run.apply_source(source)
        if done is None:
            was_overtaken = True
            break
        effects += done[0]
        refused += done[1]
    effects.sort(key=lambda effect: effect.name)
    plan = Plan(
        tuple(effects),
        changes,
        manifest,
        tuple(refused),
        store=fingerprint_of(stored),
        was_overtaken=was_overtaken,
    )
    if not was_overtaken:
        database.write(lambda connection: _record_sources(database, connection, plan, may_go_on))
        _renew_marks(database, stored)
    if effects:
        wakeup.notify(database)
    return plan


def lock_source(database: Database, connection: Connection, source: str) -> None:
    """Hold what owns schedules, so that nobody else changes its own meanwhile."""
    connection.execute(text(_ADD_SOURCE), {"name": source})
    if database.is_postgresql:
        connection.execute(text(_LOCK_SOURCE), {"name": source})


def find_stored(connection: Connection, name: str) -> Stored | None:
    """One schedule as the database has it."""
    row = connection.execute(text(f"{_STORED} WHERE name = :name"), {"name": name}).one_or_none()
    return None if row is None else _as_stored(row)


def carry_out(
    database: Database,
    connection: Connection,
    manifest: Manifest,
    settings: Settings,
    changes: Sequence[Change],
    *,
    actor: str,
) -> Done:
    """Do the changes of one source, whose lock the caller holds, with one `now`."""
    lock = "FOR UPDATE" if database.is_postgresql else ""
    rows = _schedules(connection, changes, lock)
    now = read_now(database, connection)
    run = Applying(database, connection, manifest, settings, now, rows, actor=actor)
    return run.carry_out_all(changes)


_STORED = """
SELECT name, source, definition, fingerprint, timing_hash, state, tz_fingerprint, croniter_major
FROM sched_schedules
"""
_SCHEDULES = """
SELECT name, source, definition, timing_hash, revision, state, materialized_until, paused_at, paused_until
FROM sched_schedules WHERE name IN ({names}) ORDER BY name {lock}
"""
_ADD_SOURCE = "INSERT INTO sched_sources (name) VALUES (:name) ON CONFLICT (name) DO NOTHING"
_LOCK_SOURCE = "SELECT name FROM sched_sources WHERE name = :name FOR UPDATE"
_RECORD_SOURCE = """
INSERT INTO sched_sources (name, content_hash, applied_at, fault, fault_at)
VALUES (:name, :content_hash, :now, :fault, :fault_at)
ON CONFLICT (name) DO UPDATE SET
    content_hash = CASE WHEN excluded.fault IS NULL THEN excluded.content_hash
        ELSE sched_sources.content_hash END,
    applied_at = CASE WHEN excluded.fault IS NULL THEN excluded.applied_at ELSE sched_sources.applied_at END,
    fault = excluded.fault, fault_at = excluded.fault_at
"""
# Files that are gone, and the folder itself, have no fault any more.
_FORGET_FAULTS = """
UPDATE sched_sources SET fault = NULL, fault_at = NULL WHERE fault IS NOT NULL AND name NOT IN ({names})
"""
_RENEW = """
UPDATE sched_schedules SET tz_fingerprint = :mark
WHERE name = :name AND fingerprint = :fingerprint
"""


@dataclass(frozen=True, slots=True)
class _Run:
    """One apply."""

    database: Database
    manifest: Manifest
    settings: Settings
    allow_removals: bool
    actor: str
    may_go_on: Callable[[Connection], bool]

    def apply_source(self, source: str) -> Done | None:
        """One file; what the database refuses of it does not stop the others. None: go no further."""
        try:
            return self.database.write(lambda connection: self._apply_source(connection, source))
        except Exception as error:
            if is_outage(error):
                raise
            log.error("%s could not be applied", source, exc_info=error)
            return [], [Fault(source, None, f"could not be applied: {error}")]

    def _apply_source(self, connection: Connection, source: str) -> Done | None:
        """The changes of one file, decided again under the lock of its row."""
        if not self.may_go_on(connection):
            return None
        lock_source(self.database, connection, source)
        stored = _stored(connection, self.manifest)
        changes = compare(self.manifest, stored, allow_removals=self.allow_removals)
        mine = changes.by_source().get(source, [])
        return carry_out(
            self.database, connection, self.manifest, self.settings, mine, actor=self.actor
        )


def _stored(connection: Connection, manifest: Manifest) -> dict[str, Stored]:
    declared = {each.name: each for each in manifest.schedules}
    return {
        row.name: _as_stored(row, declared.get(row.name))
        for row in connection.execute(text(_STORED))
    }


def _as_stored(row: Row[Any], declared: Definition | None = None) -> Stored:
    """What is stored just as it is declared need not be read: that is most of a start with no news."""
    is_the_same = declared is not None and declared.to_json() == row.definition
    definition = declared if is_the_same else readable(row)
    return Stored(
        row.name,
        row.source,
        row.fingerprint if definition else "",
        row.timing_hash,
        row.state == "active",
        definition,
        reason_to_recompute(row.tz_fingerprint, row.croniter_major, row.definition),
        row.tz_fingerprint,
    )


def _schedules(connection: Connection, changes: Iterable[Change], lock: str) -> dict[str, Row[Any]]:
    names = [change.stored_as for change in changes]
    if not names:
        return {}
    marks = ", ".join(f":name{index}" for index in range(len(names)))
    statement = text(_SCHEDULES.format(names=marks, lock=lock)).columns(
        materialized_until=Instant(), paused_at=Instant(), paused_until=Instant()
    )
    parameters = {f"name{index}": name for index, name in enumerate(names)}
    return {row.name: row for row in connection.execute(statement, parameters)}


def _renew_marks(database: Database, stored: Mapping[str, Stored]) -> None:
    """Once a year; those of schedules that are changed at the same time are new already."""
    now = database.server_now()
    rows = [
        {"name": each.name, "fingerprint": each.fingerprint, "mark": zone_mark(made, now)}
        for each in stored.values()
        if (made := each.definition) is not None and each.moved_by is None
        if not is_current(each.zone_mark, now)
    ]
    if rows:
        database.write(lambda connection: connection.execute(text(_RENEW), rows))


def _record_sources(
    database: Database,
    connection: Connection,
    plan: Plan,
    may_go_on: Callable[[Connection], bool],
) -> None:
    """Write down which version of each file was applied, and what is wrong with the others."""
    if not may_go_on(connection):
        return
    now = database.moment(read_now(database, connection))
    faults: dict[str, list[str]] = {}
    names = {source.path: source.name for source in plan.manifest.sources}
    for fault in plan.faults:
        faults.setdefault(names.get(fault.file, fault.file), []).append(str(fault))
    known = {source.name: source.content_hash for source in plan.manifest.sources}
    rows = [
        {
            "name": name,
            "content_hash": known.get(name),
            "fault": "\n".join(faults[name]) if name in faults else None,
            "fault_at": now if name in faults else None,
            "now": now,
        }
        for name in sorted(known.keys() | faults.keys())
    ]
    if rows:
        connection.execute(text(_RECORD_SOURCE), rows)
    listed = text(_FORGET_FAULTS.format(names=names_of(database)))
    connection.execute(listed, {"names": json.dumps([row["name"] for row in rows])})
