"""Changes: what declared schedules mean for the stored ones. Pure; `reconcile` carries it out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Literal

from cronqueue.imports import Fault
from cronsched.definition import Definition, canonical_json
from cronsched.manifest import Manifest

# Fewer than this may all go at once; of more, half must stay.
_FEW = 10

# "tzdata": nobody has edited it, but what computes its times has changed.
Kind = Literal["add", "change", "revive", "rename", "tzdata", "remove"]


@dataclass(frozen=True, slots=True)
class Stored:
    """A schedule as the database has it. `moved_by`: what would compute its times otherwise now."""

    name: str
    source: str
    fingerprint: str
    timing_hash: str
    is_active: bool
    definition: Definition | None = None
    moved_by: str | None = None
    zone_mark: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one schedule. `source` is the file under whose lock it is done."""

    kind: Kind
    name: str
    source: str
    definition: Definition | None = None
    renamed_from: str | None = None
    moved_by: str | None = None

    @property
    def stored_as(self) -> str:
        """The name under which the schedule stands in the database so far."""
        return self.renamed_from or self.name


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
    renames, doubtful = _renames(declared, stored, manifest)
    refused = (*_of_the_api(declared, stored, manifest), *doubtful.values())
    changes = [
        change
        for definition in declared
        if definition.name not in doubtful
        if (known := stored.get(definition.name)) is None or not _is_of_the_api(known)
        if (change := change_of(definition, known, renames)) is not None
    ]
    changes += _recomputed_of_the_api(stored.values())
    gone = {change.renamed_from for change in changes}
    removed = [each for each in _removed(manifest, stored.values()) if each.name not in gone]
    reason = None if allow_removals else _reason_to_keep(manifest, stored, len(removed))
    if reason is not None and removed:
        kept = tuple(each.name for each in removed)
        return Changes(_in_order(changes), refused, kept, reason)
    changes += [Change("remove", each.name, each.source) for each in removed]
    return Changes(_in_order(changes), refused)


def change_of(
    definition: Definition, known: Stored | None, renames: Mapping[str, str] = MappingProxyType({})
) -> Change | None:
    """What a declaration changes of the schedule of its name, if anything. `renames`: new names to old."""
    name, source = definition.name, definition.source
    if known is None and name in renames:
        return Change("rename", name, source, definition, renamed_from=renames[name])
    if known is None:
        return Change("add", name, source, definition)
    if not known.is_active:
        return Change("revive", name, source, definition)
    if known.source != source or not _is_known(definition, known):
        return Change("change", name, source, definition, moved_by=known.moved_by)
    if (moved_by := known.moved_by or _other_answers(definition, known)) is not None:
        return Change("tzdata", name, source, definition, moved_by=moved_by)
    return None


def _is_known(definition: Definition, known: Stored) -> bool:
    """Whether it means what is stored; without a fingerprint that counts as unfinished."""
    if known.definition == definition:
        return bool(known.fingerprint)
    return known.fingerprint == definition.fingerprint


def fingerprint_of(stored: Mapping[str, Stored]) -> str:
    """Equal as long as the stored schedules are: a saved plan is good for those only."""
    told = [[each.name, each.source, each.fingerprint, each.is_active] for each in stored.values()]
    return sha256(canonical_json(sorted(told)).encode()).hexdigest()


def _other_answers(definition: Definition, known: Stored) -> str | None:
    """A trigger of the user's own may answer otherwise, though nothing has changed that can be seen here."""
    if known.definition is None or not definition.contradicts(known.definition):
        return None
    return f"trigger: other answers {definition.trigger.describe()}"


def _in_order(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: change.name))


def _renames(
    declared: Iterable[Definition], stored: Mapping[str, Stored], manifest: Manifest
) -> tuple[dict[str, str], dict[str, Fault]]:
    """New names with the old ones, and what is wrong with some.

    A rename that was done once is done: `renamed_from` may stay in the file.
    """
    still = {each.name for each in manifest.schedules}
    renames: dict[str, str] = {}
    faults: dict[str, Fault] = {}
    for each in declared:
        old = each.renamed_from
        known = None if old is None else stored.get(old)
        if old is None or known is None or each.name in stored:
            continue
        if old in still:
            why = "is declared still: take it away there, or leave renamed_from out"
        elif _is_of_the_api(known):
            why = "was made through the API, which goes on owning it"
        elif old in renames.values():
            why = "is renamed to another one already"
        elif not manifest.complete:
            why = "may be declared still in a file with a fault: mend that first"
        else:
            renames[each.name] = old
            continue
        faults[each.name] = manifest.fault_of(each, f"has renamed_from={old!r}, which {why}")
    return renames, faults


def _recomputed_of_the_api(stored: Iterable[Stored]) -> Iterable[Change]:
    """No file declares them; what computes their times may have changed all the same."""
    for each in stored:
        if _is_of_the_api(each) and each.moved_by is not None and each.definition is not None:
            definition = replace(each.definition, source=each.source)
            yield Change("tzdata", each.name, each.source, definition, moved_by=each.moved_by)


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
