"""Changes: what declared schedules mean for the stored ones. Pure; `reconcile` carries it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cronsched.definition import Definition
from cronsched.manifest import Manifest

# Fewer than this may all go at once; of more, half must stay.
_FEW = 10

Kind = Literal["add", "change", "revive", "remove"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A schedule as the database has it."""

    name: str
    source: str
    fingerprint: str
    timing_hash: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one schedule. `source` is the file under whose lock it is done."""

    kind: Kind
    name: str
    source: str
    definition: Definition | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """All of them, by name; and the schedules that would go but stay, with the reason."""

    changes: tuple[Change, ...] = ()
    kept: tuple[str, ...] = ()
    kept_because: str | None = None

    def by_source(self) -> dict[str, list[Change]]:
        """Grouped by file, the files in order: the order in which their rows are locked."""
        groups: dict[str, list[Change]] = {}
        for change in self.changes:
            groups.setdefault(change.source, []).append(change)
        return dict(sorted(groups.items()))


def compare(
    manifest: Manifest, stored: Mapping[str, Stored], *, allow_removals: bool = False
) -> Changes:
    """The difference between the files and the database.

    A file with a fault changes nothing of its own, and while there is one nothing is removed. What would
    empty most of the calendar at once (a wrong path, an empty folder) removes nothing either.
    """
    faulty = manifest.faulty_sources
    changes = [
        change
        for definition in manifest.schedules
        if definition.source not in faulty
        and (change := _change(definition, stored.get(definition.name))) is not None
    ]
    removed = list(_removed(manifest, stored.values()))
    reason = None if allow_removals else _reason_to_keep(manifest, stored, len(removed))
    if reason is not None and removed:
        return Changes(tuple(changes), tuple(each.name for each in removed), reason)
    changes += [Change("remove", each.name, each.source) for each in removed]
    return Changes(tuple(sorted(changes, key=lambda change: change.name)))


def _change(definition: Definition, known: Stored | None) -> Change | None:
    if known is None:
        return Change("add", definition.name, definition.source, definition)
    if not known.is_active:
        return Change("revive", definition.name, definition.source, definition)
    if known.fingerprint == definition.fingerprint and known.source == definition.source:
        return None
    return Change("change", definition.name, definition.source, definition)


def _removed(manifest: Manifest, stored: Iterable[Stored]) -> Iterable[Stored]:
    declared = {definition.name for definition in manifest.schedules}
    for each in sorted(stored, key=lambda known: known.name):
        if each.is_active and each.source != "api" and each.name not in declared:
            yield each


def _reason_to_keep(manifest: Manifest, stored: Mapping[str, Stored], removed: int) -> str | None:
    if not manifest.complete:
        return "a file has a fault: what it declares is not known"
    active = sum(each.is_active and each.source != "api" for each in stored.values())
    if not manifest.schedules and active >= 2:
        return "the files declare nothing at all: a wrong folder?"
    if active >= _FEW and removed * 2 > active:
        return f"{removed} of {active} schedules would go at once"
    return None
