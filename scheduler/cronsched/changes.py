"""Changes: what declared schedules mean for the stored ones. Pure; `reconcile` carries it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cronqueue.imports import Fault
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
    """All of them, by name; the schedules that would go but stay, with the reason; and what is refused."""

    changes: tuple[Change, ...] = ()
    refused: tuple[Fault, ...] = ()
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
    empty most of the calendar at once (a wrong path, an empty folder) removes nothing either. A name that
    belongs to the API is not taken over.
    """
    faulty = manifest.faulty_sources
    declared = [each for each in manifest.schedules if each.source not in faulty]
    refused = tuple(_of_the_api(declared, stored, manifest))
    changes = [
        change
        for definition in declared
        if (known := stored.get(definition.name)) is None or not _is_of_the_api(known)
        if (change := _change(definition, known)) is not None
    ]
    removed = list(_removed(manifest, stored.values()))
    reason = None if allow_removals else _reason_to_keep(manifest, stored, len(removed))
    if reason is not None and removed:
        return Changes(tuple(changes), refused, tuple(each.name for each in removed), reason)
    changes += [Change("remove", each.name, each.source) for each in removed]
    return Changes(tuple(sorted(changes, key=lambda change: change.name)), refused)


def _change(definition: Definition, known: Stored | None) -> Change | None:
    if known is None:
        return Change("add", definition.name, definition.source, definition)
    if not known.is_active:
        return Change("revive", definition.name, definition.source, definition)
    if known.fingerprint == definition.fingerprint and known.source == definition.source:
        return None
    return Change("change", definition.name, definition.source, definition)


def _is_of_the_api(known: Stored) -> bool:
    return known.is_active and known.source == "api"


def _of_the_api(
    declared: Iterable[Definition], stored: Mapping[str, Stored], manifest: Manifest
) -> Iterable[Fault]:
    for definition in declared:
        known = stored.get(definition.name)
        if known is not None and _is_of_the_api(known):
            yield manifest.fault_of(
                definition,
                "was made through the API, which goes on owning it: give this one another name=",
            )


def _removed(manifest: Manifest, stored: Iterable[Stored]) -> Iterable[Stored]:
    declared = {definition.name for definition in manifest.schedules}
    for each in sorted(stored, key=lambda known: known.name):
        if each.is_active and not _is_of_the_api(each) and each.name not in declared:
            yield each


def _reason_to_keep(manifest: Manifest, stored: Mapping[str, Stored], removed: int) -> str | None:
    if not manifest.complete:
        return "a file has a fault: what it declares is not known"
    ours = [each.source for each in stored.values() if each.is_active and each.source != "api"]
    active, declaring = len(ours), [made.source for made in manifest.schedules]
    if (active >= 2 and not declaring) or (_in_files(ours) >= 2 and not _in_files(declaring)):
        return "the files declare nothing at all: a wrong folder?"
    if active >= _FEW and removed * 2 > active:
        return f"{removed} of {active} schedules would go at once"
    return None


def _in_files(sources: Iterable[str]) -> int:
    """How many of the sources are files of the folder; the others are modules."""
    return sum(source.endswith(".py") for source in sources)
