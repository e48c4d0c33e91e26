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
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue import wakeup
from cronqueue.columns import Instant
from cronqueue.database import Database, is_outage, read_now
from cronqueue.imports import Fault
from cronqueue.settings import Settings
from cronsched.changes import Change, Changes, Kind, Stored, compare
from cronsched.cronexpr import croniter_major
from cronsched.definition import Definition
from cronsched.ledger import new_job, write
from cronsched.ledger_changes import amend, cancel, find_removable, read_written, renumber
from cronsched.manifest import Manifest
from cronsched.materializer import BATCH, is_paused, move_cursors, occurrences
from cronsched.planner import (
    REMOVED,
    SUPERSEDED,
    Ahead,
    Extension,
    Revision,
    extend,
    owed,
    revise,
    upcoming,
)
from cronsched.rowsets import names_of

log = logging.getLogger("cronsched.daemon")


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does to rows: occurrences written, kept and cancelled.

    `busy` ones were being changed by somebody else at that moment: the change is not finished.
    """

    kind: Kind
    name: str
    before: Definition | None
    after: Definition | None
    added: int
    kept: int
    cancelled: int
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a manifest would do, or has done. `was_overtaken`: it was told to go no further."""

    effects: tuple[Effect, ...]
    changes: Changes
    manifest: Manifest
    refused: tuple[Fault, ...] = ()
    was_overtaken: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.effects

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is wrong with the files, and what of them was refused."""
        return (*self.manifest.faults, *self.refused)

    @property
    def is_unfinished(self) -> bool:
        """Whether it has to be applied again, because somebody else was at some of the rows."""
        return any(effect.busy for effect in self.effects)


def plan(
    database: Database, manifest: Manifest, settings: Settings, *, allow_removals: bool = False
) -> Plan:
    """What `apply` would do now; writes nothing."""
    with database.snapshot() as connection:
        changes = compare(manifest, _stored(connection), allow_removals=allow_removals)
        now = read_now(database, connection)
        rows = _schedules(connection, [change.name for change in changes.changes], lock="")
        run = _Run(database, connection, manifest, settings, now, rows, dry=True)
        done, refused = run.carry_out_all(changes.changes)
    return Plan(tuple(done), changes, manifest, (*changes.refused, *refused))


def apply(
    database: Database,
    manifest: Manifest,
    settings: Settings,
    *,
    allow_removals: bool = False,
    may_go_on: Callable[[Connection], bool] = lambda connection: True,
) -> Plan:
    """Carry out the difference, file by file; returns what was done. Raises only for an outage.

    `may_go_on` is asked at the begin of each file's transaction; it goes no further when that says no.
    """
    with database.snapshot() as connection:
        changes = compare(manifest, _stored(connection), allow_removals=allow_removals)
    effects: list[Effect] = []
    refused = list(changes.refused)
    was_overtaken = False
    for source in changes.by_source():

        def work(connection: Connection, source: str = source) -> _Done | None:
            if not may_go_on(connection):
                return None
            return _apply_source(database, connection, manifest, settings, source, allow_removals)

        done = _attempt(database, source, work)
        if done is None:
            was_overtaken = True
            break
        effects += done[0]
        refused += done[1]
    effects.sort(key=lambda effect: effect.name)
    plan = Plan(tuple(effects), changes, manifest, tuple(refused), was_overtaken)
    if not was_overtaken:
        database.write(lambda connection: _record_sources(database, connection, plan, may_go_on))
    if effects:
        wakeup.notify(database)
    return plan


_STORED = "SELECT name, source, definition, fingerprint, timing_hash, state FROM sched_schedules"
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
_UPSERT = """
INSERT INTO sched_schedules (name, source, definition, fingerprint, timing_hash, payload_hash, revision,
    state, tz, croniter_major, valid_from, materialized_until, refill_at, description, created_at, updated_at)
VALUES (:name, :source, :definition, :fingerprint, :timing_hash, :payload_hash, :revision, 'active', :tz,
    :croniter_major, :now, :now, :now, :description, :now, :now)
ON CONFLICT (name) DO UPDATE SET
    source = excluded.source, definition = excluded.definition, fingerprint = excluded.fingerprint,
    timing_hash = excluded.timing_hash, payload_hash = excluded.payload_hash, state = 'active',
    valid_from = CASE WHEN sched_schedules.revision = excluded.revision THEN sched_schedules.valid_from
        ELSE excluded.valid_from END,
    revision = excluded.revision, tz = excluded.tz, croniter_major = excluded.croniter_major,
    description = excluded.description, retired_at = NULL, updated_at = excluded.updated_at
"""
_RETIRE = """
UPDATE sched_schedules SET state = 'retired', retired_at = :now, updated_at = :now WHERE name = :name
"""


@dataclass(frozen=True, slots=True)
class _Run:
    """One source's transaction; `dry` reads and counts only."""

    database: Database
    connection: Connection
    manifest: Manifest
    settings: Settings
    now: datetime
    rows: Mapping[str, Row[Any]]
    dry: bool

    def carry_out_all(self, changes: Iterable[Change]) -> _Done:
        """Each of them; one whose times cannot be computed is refused."""
        effects: list[Effect] = []
        refused: list[Fault] = []
        new: list[Definition] = []
        for change in changes:
            definition = change.definition
            fault = None if definition is None else self._incomputable(definition)
            if fault is not None:
                refused.append(fault)
            elif definition is not None and change.name not in self.rows:
                new.append(definition)
            else:
                effects.append(self._carry_out(change))
        for start in range(0, len(new), BATCH):
            effects += self._add(new[start : start + BATCH])
        return effects, refused

    def _incomputable(self, definition: Definition) -> Fault | None:
        try:
            upcoming(definition, self.now, 1)
        except Exception as error:  # a trigger may be the user's code
            return self.manifest.fault_of(definition, f"has times that cannot be computed: {error}")
        return None

    def _carry_out(self, change: Change) -> Effect:
        row = self.rows.get(change.name)
        before = None if row is None else _readable(row)
        if change.definition is None or row is None:
            cancelled, busy = self._remove(change.name, before)
            return Effect(change.kind, change.name, before, None, 0, 0, cancelled, busy)
        revision = self._revise(change, row, before)
        return Effect(
            change.kind,
            change.name,
            before,
            change.definition,
            len(revision.add),
            len(revision.keep),
            len(revision.cancel),
            len(revision.busy),
        )

    def _add(self, definitions: Sequence[Definition]) -> list[Effect]:
        """Together: a statement for each would be most of the time that thousands take."""
        added = [
            (each, extend(each, self.now, self.now, Ahead(), self._horizon(each)))
            for each in definitions
        ]
        if not self.dry:
            self.connection.execute(text(_UPSERT), [self._row(each, 1) for each in definitions])
            new = [
                occurrence
                for definition, extension in added
                for occurrence in occurrences(definition, 1, extension, self.settings, paused=False)
            ]
            write(self.database, self.connection, new)
            cursors = [
                (definition.name, extension.materialized_until, extension.refill_at)
                for definition, extension in added
            ]
            move_cursors(self.database, self.connection, cursors)
        return [
            Effect("add", definition.name, None, definition, len(extension.occurrences), 0, 0)
            for definition, extension in added
        ]

    def _revise(self, change: Change, row: Row[Any], before: Definition | None) -> Revision:
        definition = change.definition
        assert definition is not None
        name, lock = change.name, not self.dry
        if before is not None and row.state == "active" and not self.dry:
            self._write_owed(before, row)
        written = read_written(self.database, self.connection, [name], self.now, lock=lock)
        revision = revise(definition, written.get(name, []), self.now, self._horizon(definition))
        if self.dry:
            return revision
        is_retimed = row.timing_hash != definition.timing_hash or change.kind == "revive"
        number = row.revision + (1 if is_retimed else 0)
        self._store(definition, number, is_finished=not revision.busy)
        superseded = [each.job_id for each in revision.cancel if each.job_id is not None]
        cancel(self.database, self.connection, superseded, SUPERSEDED)
        kept = {
            each.job_id: new_job(definition, planned, self.settings, paused=False)
            for each, planned in revision.keep
            if each.job_id is not None
        }
        amend(self.database, self.connection, kept)
        if is_retimed:
            renumber(self.database, self.connection, {name: number})
        extension = Extension(revision.add, revision.materialized_until, revision.refill_at)
        self._write(definition, number, extension, paused=is_paused(row, self.now))
        return revision

    def _write_owed(self, before: Definition, row: Row[Any]) -> None:
        """What was due by the old definition while nobody wrote is due still."""
        paused = is_paused(row, self.now)
        try:
            due = tuple(owed(before, row.materialized_until, self.now))
        except Exception as error:  # a stored trigger that nobody can compute any more
            log.warning("schedule %s: what it owed cannot be computed: %s", row.name, error)
            return
        extension = Extension(due, self.now, self.now)
        new = occurrences(before, row.revision, extension, self.settings, paused)
        write(self.database, self.connection, new)

    def _remove(self, name: str, before: Definition | None) -> tuple[int, int]:
        """How many jobs were cancelled, and how many somebody else was at; with those it goes on."""
        drain = before is not None and before.on_remove == "drain"
        find = partial(find_removable, self.database, self.connection, [name], drain=drain)
        ids = find(lock=not self.dry)
        if self.dry:
            return len(ids), 0
        busy = set(find(lock=False)).difference(ids)
        cancel(self.database, self.connection, ids, REMOVED)
        if not busy:
            now = self.database.moment(self.now)
            self.connection.execute(text(_RETIRE), {"name": name, "now": now})
        return len(ids), len(busy)

    def _store(self, definition: Definition, revision: int, *, is_finished: bool = True) -> None:
        """Write the definition; one that is not finished counts as changed the next time too."""
        row = self._row(definition, revision)
        self.connection.execute(text(_UPSERT), row if is_finished else {**row, "fingerprint": ""})

    def _row(self, definition: Definition, revision: int) -> dict[str, Any]:
        return {
            "name": definition.name,
            "source": definition.source,
            "definition": definition.to_json(),
            "fingerprint": definition.fingerprint,
            "timing_hash": definition.timing_hash,
            "payload_hash": definition.payload_hash,
            "revision": revision,
            "tz": definition.tz,
            "croniter_major": croniter_major(),
            "description": definition.description,
            "now": self.database.moment(self.now),
        }

    def _write(
        self, definition: Definition, revision: int, extension: Extension, *, paused: bool
    ) -> None:
        new = occurrences(definition, revision, extension, self.settings, paused)
        write(self.database, self.connection, new)
        cursor = (definition.name, extension.materialized_until, extension.refill_at)
        move_cursors(self.database, self.connection, [cursor])

    def _horizon(self, definition: Definition) -> Any:
        return definition.horizon or self.settings.horizon


_Done = tuple[list[Effect], list[Fault]]


def _attempt(
    database: Database, source: str, work: Callable[[Connection], _Done | None]
) -> _Done | None:
    """What the database refuses of one file does not stop the others."""
    try:
        return database.write(work)
    except Exception as error:
        if is_outage(error):
            raise
        log.error("%s could not be applied", source, exc_info=error)
        return [], [Fault(source, None, f"could not be applied: {error}")]


def _apply_source(
    database: Database,
    connection: Connection,
    manifest: Manifest,
    settings: Settings,
    source: str,
    allow_removals: bool,
) -> _Done:
    """The changes of one file, decided again under the lock of its row."""
    connection.execute(text(_ADD_SOURCE), {"name": source})
    if database.is_postgresql:
        connection.execute(text(_LOCK_SOURCE), {"name": source})
    changes = compare(manifest, _stored(connection), allow_removals=allow_removals)
    mine = changes.by_source().get(source, [])
    lock = "FOR UPDATE" if database.is_postgresql else ""
    rows = _schedules(connection, [change.name for change in mine], lock)
    now = read_now(database, connection)
    run = _Run(database, connection, manifest, settings, now, rows, dry=False)
    return run.carry_out_all(mine)


def _stored(connection: Connection) -> dict[str, Stored]:
    return {row.name: _as_stored(row) for row in connection.execute(text(_STORED))}


def _as_stored(row: Row[Any]) -> Stored:
    fingerprint = row.fingerprint if _readable(row) else ""
    return Stored(row.name, row.source, fingerprint, row.timing_hash, row.state == "active")


def _schedules(connection: Connection, names: Sequence[str], lock: str) -> dict[str, Row[Any]]:
    if not names:
        return {}
    marks = ", ".join(f":name{index}" for index in range(len(names)))
    statement = text(_SCHEDULES.format(names=marks, lock=lock)).columns(
        materialized_until=Instant(), paused_at=Instant(), paused_until=Instant()
    )
    parameters = {f"name{index}": name for index, name in enumerate(names)}
    return {row.name: row for row in connection.execute(statement, parameters)}


def _readable(row: Row[Any]) -> Definition | None:
    """The stored definition; None for one that nobody can read: it is replaced."""
    try:
        return Definition.from_json(row.definition)
    except Exception as error:  # anything may have been written there by hand
        log.warning("schedule %s: what is stored of it cannot be read: %s", row.name, error)
        return None


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
