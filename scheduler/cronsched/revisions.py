"""Revisions: the times of each schedule, and from when until when they were in force.

One is opened when the times of a schedule change, and closed when the next one opens or the schedule is
retired. What changes nothing of its times is written into the open one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, text

from cronqueue.columns import Instant
from cronqueue.database import Database
from cronsched.definition import Definition
from cronsched.errors import no_such_schedule

RevisionKind = Literal["added", "changed", "revived", "tzdata"]


@dataclass(frozen=True, slots=True)
class RevisionRow:
    """A schedule's times from one moment to another; `valid_until` None means that they hold."""

    revision: int
    kind: str
    words: str
    valid_from: datetime
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class Journal:
    """The revisions that a transaction opens, closes and amends: written together at its end."""

    opened: list[dict[str, Any]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    amended: list[dict[str, Any]] = field(default_factory=list)

    def open(self, definition: Definition, revision: int, kind: RevisionKind) -> None:
        """From now on these times hold; what held before ends."""
        self.closed.append(definition.name)
        row = {"schedule": definition.name, "definition": definition.to_json()}
        self.opened.append(row | {"revision": revision, "kind": kind})

    def close(self, name: str) -> None:
        """From now on the schedule promises nothing."""
        self.closed.append(name)

    def amend(self, definition: Definition) -> None:
        """The times stay; something else about the schedule is new."""
        row = {"schedule": definition.name, "definition": definition.to_json()}
        self.amended.append(row)

    def write(self, database: Database, connection: Connection, now: datetime) -> None:
        """Put it into the database."""
        moment = {"now": database.moment(now)}
        closed = [{"schedule": name} | moment for name in self.closed]
        opened = [row | moment for row in self.opened]
        for statement, rows in ((_CLOSE, closed), (_OPEN, opened), (_AMEND, self.amended)):
            if rows:
                connection.execute(text(statement), rows)


def list_revisions(database: Database, name: str) -> Sequence[RevisionRow]:
    """The schedule's revisions, the newest first; raises LookupError."""
    with database.snapshot() as connection:
        rows = connection.execute(_LIST, {"name": name}).all()
    if not rows:
        raise no_such_schedule(name)
    return [
        RevisionRow(row.revision, row.kind, _words(row.definition), row.valid_from, row.valid_until)
        for row in rows
    ]


_CLOSE = """
UPDATE sched_revisions SET valid_until = :now WHERE schedule = :schedule AND valid_until IS NULL
"""
# The number may be taken where the schedule's row was deleted by hand.
_OPEN = """
INSERT INTO sched_revisions (schedule, revision, definition, kind, valid_from)
VALUES (:schedule, :revision, :definition, :kind, :now)
ON CONFLICT (schedule, revision) DO UPDATE SET definition = excluded.definition, kind = excluded.kind,
    valid_from = excluded.valid_from, valid_until = NULL
"""
_AMEND = """
UPDATE sched_revisions SET definition = :definition WHERE schedule = :schedule AND valid_until IS NULL
"""
_LIST = text("""
SELECT revision, kind, definition, valid_from, valid_until FROM sched_revisions
WHERE schedule = :name ORDER BY revision DESC
""").columns(valid_from=Instant(), valid_until=Instant())


def _words(stored: str) -> str:
    try:
        made = Definition.from_json(stored)
    except Exception as error:  # anything may have been written there by hand
        return f"cannot be read: {error}"
    return made.trigger.describe() if made.enabled else f"disabled ({made.trigger.describe()})"
