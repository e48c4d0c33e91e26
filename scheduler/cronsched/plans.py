"""What a plan says: the effect on each schedule, row by row. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

from cronqueue.imports import Fault
from cronsched.changes import Changes, Kind
from cronsched.definition import Definition, canonical_json
from cronsched.lints import Lint
from cronsched.manifest import Manifest

# What a change of a definition is about, in words; where a schedule stands does not matter.
_UNTOLD = ("trigger", "name", "source", "line", "renamed_from")

Action = Literal["add", "move", "keep", "cancel"]


@dataclass(frozen=True, slots=True)
class RowChange:
    """One occurrence and its job: when it is due, and when it was. One that goes is not due any more."""

    action: Action
    planned_for: datetime
    run_at: datetime | None
    was: datetime | None = None
    job_id: int | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does to a schedule and its rows.

    `busy` ones were being changed by somebody else at that moment: the change is not finished. `because`
    says why times change that nobody has edited.
    """

    kind: Kind
    name: str
    before: Definition | None
    after: Definition | None
    rows: tuple[RowChange, ...]
    busy: int = 0
    renamed_from: str | None = None
    because: str | None = None

    @property
    def added(self) -> int:
        return self._count("add")

    @property
    def kept(self) -> int:
        """Those that stay, at their time or at another."""
        return self._count("keep") + self.moved

    @property
    def moved(self) -> int:
        return self._count("move")

    @property
    def cancelled(self) -> int:
        return self._count("cancel")

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Which parts of the definition change, from what to what; when it runs in words."""
        before, after = self.before, self.after
        if before is None or after is None:
            return {}
        found: dict[str, tuple[Any, Any]] = {}
        if before.trigger != after.trigger:
            found["when"] = (before.trigger.describe(), after.trigger.describe())
        for each in fields(after):
            was, becomes = getattr(before, each.name), getattr(after, each.name)
            if was != becomes and each.name not in _UNTOLD:
                found[each.name.removesuffix("_json")] = (was, becomes)
        return found

    def _count(self, action: Action) -> int:
        return sum(row.action == action for row in self.rows)


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a manifest would do, or has done.

    `store`: a fingerprint of the stored schedules that it was made for. `was_overtaken`: it was told to go
    no further.
    """

    effects: tuple[Effect, ...]
    changes: Changes
    manifest: Manifest
    refused: tuple[Fault, ...] = ()
    lints: tuple[Lint, ...] = ()
    store: str = ""
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


def likely_renames(effects: Iterable[Effect]) -> list[Lint]:
    """What comes under one name while the same goes under another, as far as it is the only one."""
    told = list(effects)
    added = {each.name: _meaning(each.after) for each in told if each.kind == "add"}
    removed = {each.name: _meaning(each.before) for each in told if each.kind == "remove"}
    counts = Counter(added.values()) + Counter(removed.values())
    return [
        Lint(new, f"looks like a rename of {old}: add renamed_from={old!r} and its history stays")
        for new, what in added.items()
        for old, was in removed.items()
        if what is not None and what == was and counts[what] == 2
    ]


def _meaning(definition: Definition | None) -> str | None:
    """What a schedule does and when; an `H` is drawn from its name."""
    if definition is None:
        return None
    trigger = {**definition.trigger.spec(), "hash_name": None}
    return canonical_json([definition.task, definition.args_json, trigger])
