"""All schedules of one set of files, with everything that is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from cronqueue.imports import Fault
from cronsched.definition import Definition, canonical_json


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was seen, by its name within the folder or its module's; no hash: it was unreadable."""

    name: str
    path: str
    content_hash: str | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the files declare. With faults it is incomplete: nothing may be retired because of it."""

    schedules: tuple[Definition, ...]
    faults: tuple[Fault, ...]
    sources: tuple[SourceFile, ...]

    @property
    def complete(self) -> bool:
        return not self.faults

    @property
    def faulty_sources(self) -> frozenset[str]:
        """The sources that a fault lies in: what they declare stays as it was applied last."""
        names = {source.path: source.name for source in self.sources}
        return frozenset(names.get(fault.file, fault.file) for fault in self.faults)

    def fault_of(self, definition: Definition, message: str) -> Fault:
        """What is wrong with a declaration, at its place."""
        paths = {source.name: source.path for source in self.sources}
        file = paths.get(definition.source, definition.source)
        return Fault(file, definition.line, f"schedule {definition.name!r} {message}")

    @property
    def hash(self) -> str:
        """Equal for files that mean the same, wherever in them the declarations stand."""
        meanings = [[made.name, made.source, made.fingerprint] for made in self.schedules]
        return hashlib.sha256(canonical_json(meanings).encode()).hexdigest()

    def to_json(self) -> str:
        """The manifest as canonical JSON."""
        return canonical_json(
            {
                "schedules": [json.loads(made.to_json()) for made in self.schedules],
                "faults": [[fault.file, fault.line, fault.message] for fault in self.faults],
                "sources": [[seen.name, seen.path, seen.content_hash] for seen in self.sources],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The manifest that `to_json` wrote."""
        values = json.loads(text)
        return make_manifest(
            (Definition.from_json(json.dumps(made)) for made in values["schedules"]),
            (Fault(*fault) for fault in values["faults"]),
            (SourceFile(*seen) for seen in values["sources"]),
        )


def make_manifest(
    schedules: Iterable[Definition] = (),
    faults: Iterable[Fault] = (),
    sources: Iterable[SourceFile] = (),
) -> Manifest:
    """A manifest in its one order: schedules and sources by name, faults by place."""
    return Manifest(
        tuple(sorted(schedules, key=lambda made: made.name)),
        tuple(sorted(faults, key=lambda fault: (fault.file, fault.line or 0, fault.message))),
        tuple(sorted(set(sources), key=lambda seen: seen.name)),
    )


def with_unsteady(manifest: Manifest, again: Manifest) -> Manifest:
    """The manifest, with a fault for each schedule that another loading of the same files declares otherwise.

    Such a schedule is a new one to every daemon that starts.
    """
    meanings = {made.name: made.fingerprint for made in again.schedules}
    faults = [
        manifest.fault_of(
            made,
            "is another one whenever the files are loaded: give it fixed values,"
            " not what now() or random() return, nor a set's order",
        )
        for made in manifest.schedules
        if meanings.get(made.name) != made.fingerprint
    ]
    return replace(manifest, faults=(*manifest.faults, *faults))


def source_file(name: str, path: Path) -> SourceFile:
    """A file as it is now."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError:
        digest = None
    return SourceFile(name, str(path), digest)
