"""Almanacs renewed: what the files' own triggers answer is written into the stored definitions again in time.

It changes no schedule: only where the files mean what is stored, and answer what is known already. So a
follower may do it as well. Where the answers are others, applying the files makes that a change.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, text

from cronqueue.database import Database, read_now
from cronsched.definition import Definition
from cronsched.manifest import Manifest

# A reload sooner than this would be most of what a daemon does.
_SHORTEST = timedelta(seconds=30)


def renew_almanacs(database: Database, manifest: Manifest) -> int:
    """Write on the almanacs of the stored schedules; returns of how many."""
    declared = [each for each in manifest.schedules if each.almanacs]
    return sum(database.write(partial(_renew, database, declared=each)) for each in declared)


def renewal_due(manifest: Manifest, now: datetime) -> timedelta | None:
    """After how long the files are to be asked again: when half of the shortest almanac is used up."""
    almanacs = [almanac for each in manifest.schedules for almanac in each.almanacs]
    ends = [each.until for each in almanacs if each.until is not None]
    return max((min(ends) - now) / 2, _SHORTEST) if ends else None


_STORED = """
SELECT definition FROM sched_schedules WHERE name = :name AND fingerprint = :fingerprint AND state = 'active'
"""
_RENEW = "UPDATE sched_schedules SET definition = :definition, refill_at = :now WHERE name = :name"
_RENEW_REVISION = """
UPDATE sched_revisions SET definition = :definition WHERE schedule = :name AND valid_until IS NULL
"""


def _renew(database: Database, connection: Connection, *, declared: Definition) -> bool:
    key = {"name": declared.name, "fingerprint": declared.fingerprint}
    lock = " FOR UPDATE" if database.is_postgresql else ""
    stored = connection.execute(text(_STORED + lock), key).scalar()
    if stored is None:
        return False
    before = Definition.from_json(stored)
    renewed = declared.continuing(before).to_json()
    if declared.contradicts(before) or renewed == stored or not _reaches_further(declared, before):
        return False
    values = {"name": declared.name, "definition": renewed}
    now = database.moment(read_now(database, connection))
    connection.execute(text(_RENEW), values | {"now": now})
    connection.execute(text(_RENEW_REVISION), values)
    return True


def _reaches_further(declared: Definition, before: Definition) -> bool:
    pairs = zip(declared.almanacs, before.almanacs, strict=True)
    return any(
        was.until is not None and (new.until is None or new.until > was.until) for new, was in pairs
    )
