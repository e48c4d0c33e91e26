"""Applying: what each change does to a schedule and its rows, within the transaction of its source."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, text

from cronqueue.audit import record_all
from cronqueue.database import Database
from cronqueue.errors import StateError
from cronqueue.imports import Fault
from cronqueue.settings import Settings
from cronsched.changes import Change
from cronsched.computed_with import zone_mark
from cronsched.cronexpr import croniter_major
from cronsched.definition import Definition
from cronsched.ledger import Key, find_decisions, new_job, write
from cronsched.ledger_changes import amend, cancel, find_removable, read_written, renumber
from cronsched.manifest import Manifest
from cronsched.materializer import BATCH, is_paused, move_cursors, occurrences
from cronsched.planner import (
    REMOVED,
    SUPERSEDED,
    Extension,
    Planned,
    Revision,
    Written,
    owed,
    revise,
    upcoming,
)
from cronsched.plans import Action, Effect, RowChange
from cronsched.renaming import rename
from cronsched.revisions import Journal, RevisionKind
from cronsched.rowsets import bound

log = logging.getLogger("cronsched.daemon")

Done = tuple[list[Effect], list[Fault]]
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Applying:
    """One source's transaction. `rows`: the stored schedules by name, locked; `dry` reads and tells only."""

    database: Database
    connection: Connection
    manifest: Manifest
    settings: Settings
    now: datetime
    rows: Mapping[str, Row[Any]]
    dry: bool = False
    actor: str = ""
    journal: Journal = field(default_factory=Journal)

    def carry_out_all(self, changes: Sequence[Change]) -> Done:
        """Each of them; one whose times cannot be computed is refused."""
        refused = {
            change.name: fault
            for change in changes
            if (fault := self._incomputable(change.definition)) is not None
        }
        changes = [change for change in changes if change.name not in refused]
        if not self.dry:
            self._rename_all(changes)
        written = self._read_written(changes)
        decided = find_decisions(
            self.database, self.connection, [self._present_name(each) for each in changes]
        )
        effects: list[Effect] = []
        new: list[Change] = []
        for change in changes:
            if self._is_new(change) and not written.get(change.name):
                new.append(change)
            else:
                effects.append(self._carry_out(change, written, decided))
        for start in range(0, len(new), BATCH):
            effects += self._add(new[start : start + BATCH], decided)
        effects.sort(key=lambda effect: effect.name)
        if not self.dry:
            self.journal.write(self.database, self.connection, self.now)
            acts = [_act(effect) for effect in effects]
            record_all(self.database, self.connection, self.actor, acts)
        return effects, list(refused.values())

    def _incomputable(self, definition: Definition | None) -> Fault | None:
        if definition is None:
            return None
        try:
            upcoming(definition, self.now, 1)
        except Exception as error:  # a trigger may be the user's code
            return self.manifest.fault_of(definition, f"has times that cannot be computed: {error}")
        return None

    def _rename_all(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.renamed_from is not None:
                before = self._before(change)
                own_guard = before is None or before.overlap_key is None
                old, new = change.renamed_from, change.name
                rename(self.database, self.connection, old, new, own_guard=own_guard)

    def _present_name(self, change: Change) -> str:
        """Under which its rows stand now: a dry run has renamed nothing."""
        return change.stored_as if self.dry else change.name

    def _read_written(self, changes: Iterable[Change]) -> dict[str, list[Written]]:
        """What stands in the ledger after now, and of schedules that are behind after their cursor."""
        names: dict[datetime, list[str]] = {}
        for change in changes:
            since = min(self._reached(change), self.now)
            names.setdefault(since, []).append(self._present_name(change))
        found: dict[str, list[Written]] = {}
        for since, some in names.items():
            lock = not self.dry
            found |= read_written(self.database, self.connection, some, since, lock=lock)
        return found

    def _reached(self, change: Change) -> datetime:
        """How far the schedule is written out, if it is in force."""
        row = self.rows.get(change.stored_as)
        reached: datetime = (
            self.now if row is None or row.state != "active" else row.materialized_until
        )
        return reached

    def _before(self, change: Change) -> Definition | None:
        row = self.rows.get(change.stored_as)
        return None if row is None else readable(row)

    def _is_new(self, change: Change) -> bool:
        return change.definition is not None and change.stored_as not in self.rows

    def _add(self, changes: Sequence[Change], decided: Mapping[Key, Row[Any]]) -> list[Effect]:
        """Together: a statement for each would be most of the time that thousands take."""
        added = [
            (each, revise(each, (), self.now, each.horizon or self.settings.horizon))
            for change in changes
            if (each := change.definition) is not None
        ]
        if not self.dry:
            self._store_all([self._row(each, 1) for each, _ in added])
            new = []
            for each, revision in added:
                self.journal.open(each, 1, "added")
                extension = Extension(revision.add, revision.materialized_until, revision.refill_at)
                new += occurrences(each, 1, extension, self.settings, paused=False)
            write(self.database, self.connection, new)
            cursors = [
                (each.name, revision.materialized_until, revision.refill_at)
                for each, revision in added
            ]
            move_cursors(self.database, self.connection, cursors)
        return [
            Effect(
                "add",
                each.name,
                None,
                each,
                tuple(_Known(each.name, (), decided).added(revision.add)),
            )
            for each, revision in added
        ]

    def _carry_out(
        self,
        change: Change,
        written: Mapping[str, list[Written]],
        decided: Mapping[Key, Row[Any]],
    ) -> Effect:
        name = self._present_name(change)
        before, after = self._before(change), change.definition
        if after is None:
            rows, busy = self._remove(change, before)
        else:
            after = after if change.moved_by else after.continuing(before)
            known = _Known(name, written.get(name, []), decided)
            rows, busy = self._revise(change, after, before, known)
        return Effect(
            change.kind,
            change.name,
            before,
            after,
            tuple(sorted(rows, key=lambda row: row.planned_for)),
            busy,
            change.renamed_from,
            change.moved_by,
        )

    def _revise(
        self, change: Change, after: Definition, before: Definition | None, known: _Known
    ) -> tuple[list[RowChange], int]:
        """The new rule for all times after now. What the old one owes of the time before is due still."""
        row = self.rows.get(change.stored_as)
        due = self._owed(change, before)
        to_come = [each for each in known.written if each.planned_for > self.now]
        revision = revise(
            after,
            to_come,
            self.now,
            after.horizon or self.settings.horizon,
            is_retimed=_is_retimed(change, after, row),
        )
        rows = [*known.added((*due, *revision.add)), *_kept(revision), *_cancelled(revision)]
        if not self.dry:
            paused = row is not None and is_paused(row, self.now)
            if before is not None and row is not None:
                present = replace(before, name=after.name, renamed_from=None)
                self._write_owed(present, row, due, paused=paused)
            number = self._number(change, after, row)
            self._store(after, number, is_finished=not revision.busy)
            self._carry_out_revision(after, number, revision, paused=paused)
        return rows, len(revision.busy)

    def _owed(self, change: Change, before: Definition | None) -> tuple[Planned, ...]:
        """What was due by the old definition while nobody wrote."""
        reached = self._reached(change)
        if before is None or reached >= self.now:
            return ()
        try:
            return tuple(owed(before, reached, self.now))
        except Exception as error:  # a stored trigger that nobody can compute any more
            log.warning("schedule %s: what it owed cannot be computed: %s", change.stored_as, error)
            return ()

    def _number(self, change: Change, after: Definition, row: Row[Any] | None) -> int:
        """The revision that holds from now on, noted in the journal."""
        if row is None:
            kind: RevisionKind = "added"
            number = 1
        elif row.state != "active":
            kind, number = "revived", row.revision + 1
        elif row.timing_hash != after.timing_hash:
            kind, number = "changed", row.revision + 1
        elif change.moved_by is not None:
            kind, number = "tzdata", row.revision + 1
        else:
            self.journal.amend(after)
            return int(row.revision)
        self.journal.open(after, number, kind)
        return int(number)

    def _carry_out_revision(
        self, after: Definition, number: int, revision: Revision, *, paused: bool
    ) -> None:
        database, connection = self.database, self.connection
        superseded = [each.job_id for each in revision.cancel if each.job_id is not None]
        cancel(database, connection, superseded, SUPERSEDED)
        kept = {
            each.job_id: new_job(after, planned, self.settings, paused=False)
            for each, planned in revision.keep
            if each.job_id is not None
        }
        amend(database, connection, kept)
        if revision.keep or revision.busy:
            renumber(database, connection, {after.name: number})
        extension = Extension(revision.add, revision.materialized_until, revision.refill_at)
        write(database, connection, occurrences(after, number, extension, self.settings, paused))
        cursor = (after.name, extension.materialized_until, extension.refill_at)
        move_cursors(database, connection, [cursor])

    def _write_owed(
        self, before: Definition, row: Row[Any], due: tuple[Planned, ...], *, paused: bool
    ) -> None:
        extension = Extension(due, self.now, self.now)
        new = occurrences(before, row.revision, extension, self.settings, paused)
        write(self.database, self.connection, new)

    def _remove(self, change: Change, before: Definition | None) -> tuple[list[RowChange], int]:
        """What goes, and how many jobs somebody else was at; with those it goes on the next time.

        What it owes is not written out to be taken back at once: the ledger counts it.
        """
        name, drain = change.name, before is not None and before.on_remove == "drain"
        due = self._owed(change, before)
        find = partial(find_removable, self.database, self.connection, [name], drain=drain)
        ids = find(lock=not self.dry)
        rows = self._read_jobs(ids)
        if drain:
            rows += [RowChange("add", each.planned_for, each.run_at) for each in due]
        if self.dry:
            return rows, 0
        busy = set(find(lock=False)).difference(ids)
        if before is not None and drain:
            row = self.rows[name]
            self._write_owed(before, row, due, paused=is_paused(row, self.now))
        elif due:
            self._count_removed(name, due)
        cancel(self.database, self.connection, ids, REMOVED)
        self._execute(_RETIRE_LATER if busy else _RETIRE, {"name": name})
        if not busy:
            self.journal.close(name)
        return rows, len(busy)

    def _read_jobs(self, ids: Sequence[int]) -> list[RowChange]:
        statement = bound(self.database, _JOBS, "planned_for", "run_at")
        return [
            RowChange("cancel", row.planned_for, None, row.run_at, row.id)
            for row in self.connection.execute(statement, {"ids": json.dumps(ids)})
        ]

    def _count_removed(self, name: str, due: Sequence[Planned]) -> None:
        start, end = due[0].planned_for, due[-1].planned_for + _SECOND
        counted = {"name": name, "count": len(due), "verdict": REMOVED}
        moments = {"start": self.database.moment(start), "end": self.database.moment(end)}
        self._execute(_COUNT, counted | moments)

    def _store(self, definition: Definition, revision: int, *, is_finished: bool = True) -> None:
        """Write the definition; one that is not finished counts as changed the next time too."""
        row = self._row(definition, revision)
        self._store_all([row if is_finished else {**row, "fingerprint": ""}])

    def _store_all(self, rows: Sequence[dict[str, Any]]) -> None:
        if self.connection.execute(text(_UPSERT), rows).rowcount < len(rows):
            names = ", ".join(row["name"] for row in rows[:10])
            raise StateError(f"made at this moment by another owner: one of {names}")

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
            "tz_fingerprint": zone_mark(definition, self.now),
            "croniter_major": croniter_major(),
            "description": definition.description,
            "watched": definition.is_watched,
            "now": self.database.moment(self.now),
        }

    def _execute(self, statement: str, parameters: Mapping[str, Any]) -> int:
        now = self.database.moment(self.now)
        return self.connection.execute(text(statement), {**parameters, "now": now}).rowcount


@dataclass(frozen=True, slots=True)
class _Known:
    """What stands in the ledger of one schedule, and what operators have decided about it."""

    name: str
    written: Sequence[Written]
    decided: Mapping[Key, Row[Any]]

    def added(self, planned: Iterable[Planned]) -> Iterable[RowChange]:
        """The rows that writing these makes, as far as they are not there or skipped by hand."""
        known = {each.planned_for: each for each in self.written}
        for each in planned:
            there = known.get(each.planned_for)
            decision = self.decided.get((self.name, each.planned_for))
            if there is not None and not there.is_revivable:
                continue
            if decision is not None and decision.action == "skip":
                continue
            run_at = each.run_at if decision is None else decision.run_at or each.run_at
            job_id = None if there is None else there.job_id
            yield RowChange("add", each.planned_for, run_at, job_id=job_id)


# Files and the API never take a name over from one another while it is in use.
_UPSERT = """
INSERT INTO sched_schedules (name, source, definition, fingerprint, timing_hash, payload_hash, revision,
    state, tz, tz_fingerprint, croniter_major, valid_from, materialized_until, refill_at, description,
    watched, created_at, updated_at)
VALUES (:name, :source, :definition, :fingerprint, :timing_hash, :payload_hash, :revision, 'active', :tz,
    :tz_fingerprint, :croniter_major, :now, :now, :now, :description, :watched, :now, :now)
ON CONFLICT (name) DO UPDATE SET
    source = excluded.source, definition = excluded.definition, fingerprint = excluded.fingerprint,
    timing_hash = excluded.timing_hash, payload_hash = excluded.payload_hash, state = 'active',
    valid_from = CASE WHEN sched_schedules.revision = excluded.revision THEN sched_schedules.valid_from
        ELSE excluded.valid_from END,
    revision = excluded.revision, tz = excluded.tz, tz_fingerprint = excluded.tz_fingerprint,
    croniter_major = excluded.croniter_major,
    description = excluded.description, watched = excluded.watched, retired_at = NULL,
    updated_at = excluded.updated_at
WHERE sched_schedules.state = 'retired' OR (sched_schedules.source = 'api') = (excluded.source = 'api')
"""
# All that it owed has been dealt with.
_TO_NOW = """
materialized_until = CASE WHEN materialized_until < :now THEN :now ELSE materialized_until END
"""
_RETIRE = f"""
UPDATE sched_schedules SET state = 'retired', retired_at = :now, updated_at = :now, {_TO_NOW}
WHERE name = :name
"""
# Should it be declared again before all of it is gone, it counts as changed: what went comes back.
_RETIRE_LATER = f"""
UPDATE sched_schedules SET fingerprint = '', updated_at = :now, {_TO_NOW} WHERE name = :name
"""
_COUNT = """
INSERT INTO sched_occurrence_ranges (schedule, starts_at, ends_at, verdict, count)
VALUES (:name, :start, :end, :verdict, :count)
ON CONFLICT (schedule, starts_at, ends_at, verdict) DO NOTHING
"""
_JOBS = "SELECT id, planned_for, run_at FROM sched_jobs WHERE id IN ({ids})"


def readable(row: Row[Any]) -> Definition | None:
    """The stored definition; None for one that nobody can read: it is replaced."""
    try:
        return Definition.from_json(row.definition)
    except Exception as error:  # anything may have been written there by hand
        log.warning("schedule %s: what is stored of it cannot be read: %s", row.name, error)
        return None


def _is_retimed(change: Change, after: Definition, row: Row[Any] | None) -> bool:
    """Whether its times are others from now on, and not only what it runs or how."""
    if row is None or row.state != "active":
        return True
    return row.timing_hash != after.timing_hash or change.moved_by is not None


def _kept(revision: Revision) -> Iterable[RowChange]:
    for each, planned in revision.keep:
        action: Action = "keep" if each.run_at == planned.run_at else "move"
        yield RowChange(action, each.planned_for, planned.run_at, each.run_at, each.job_id)


def _cancelled(revision: Revision) -> Iterable[RowChange]:
    for each in revision.cancel:
        yield RowChange("cancel", each.planned_for, None, each.run_at, each.job_id)


def _act(effect: Effect) -> tuple[str, str, dict[str, Any]]:
    """What the audit says of it."""
    told: dict[str, Any] = {
        "renamed_from": effect.renamed_from,
        "because": effect.because,
        "added": effect.added,
        "kept": effect.kept,
        "cancelled": effect.cancelled,
    }
    return effect.kind, f"schedule {effect.name}", told
