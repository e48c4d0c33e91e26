"""Where declarations go while schedule files are loaded, and which line of which file made them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from cronqueue.imports import Fault
from cronsched.definition import Definition

_NOT_THE_USERS = ("cronsched.", "cronqueue.", "importlib.")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a user's file. `source` is what owns the schedule, `file` what a message shows."""

    source: str
    file: str
    line: int | None
    # The module's names: another dict where a file is executed again.
    namespace: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(slots=True)
class Collector:
    """The definitions and faults of one load.

    `folder` is absolute, `shown` how messages call it; `tz` is the zone of schedules that name none.
    """

    folder: Path | None = None
    shown: Path | None = None
    tz: str = "UTC"
    definitions: dict[str, Definition] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def add(self, definition: Definition, place: Place) -> None:
        """Take a definition, unless its name is declared elsewhere too: then nobody has it."""
        if not self.clashes(definition.name, place):
            self.definitions[definition.name] = definition
            self.places[definition.name] = place

    def clashes(self, name: str, place: Place) -> bool:
        """Whether the name is declared already: a fault at both places, each of which names the other."""
        first = self.places.get(name)
        if first is None or _is_again(first, place):
            return False
        for here, there in ((first, place), (place, first)):
            self.fault(
                here,
                f"schedule {name!r} is declared at {there} too: give one of them another name=",
            )
        self.definitions.pop(name, None)
        return True

    def file_of_folder(self, path: str) -> Path | None:
        """The schedule file at that path, as messages show it; None where it is no file of the folder."""
        name = Path(path).name
        if self.folder is None or Path(path).parent != self.folder or name[:1] in ("", "_", "."):
            return None
        return (self.shown or self.folder) / name

    def fault(self, place: Place, message: str) -> None:
        fault = Fault(place.file, place.line, message)
        if fault not in self.faults:
            self.faults.append(fault)


@contextmanager
def collecting(folder: Path | None = None, tz: str = "UTC") -> Iterator[Collector]:
    """Gather what is declared inside the block, and its faults instead of raising them."""
    global _active
    before = _active
    _active = collector = Collector(folder.absolute() if folder else None, folder, tz)
    try:
        yield collector
    finally:
        _active = before


def active_collector() -> Collector | None:
    """The collector of the load that goes on, if there is one."""
    return _active


def calling_place() -> Place:
    """The user's line that is being executed.

    A file of the folder owns what a helper module declares on its behalf; otherwise the nearest caller does.
    """
    callers = list(_user_frames(sys._getframe(1)))
    for frame in callers:
        file = _active.file_of_folder(frame.f_code.co_filename) if _active else None
        if file is not None:
            return Place(file.name, str(file), frame.f_lineno, frame.f_globals)
    if not callers:
        return Place("api", "api", None)
    nearest = callers[0]
    source = nearest.f_globals.get("__name__", "api") if _active else "api"
    return Place(source, nearest.f_code.co_filename, nearest.f_lineno)


_active: Collector | None = None


def _is_again(first: Place, place: Place) -> bool:
    """Whether a file that failed when another one imported it is executed a second time."""
    return first == place and first.namespace is not place.namespace


def _user_frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(_NOT_THE_USERS):
            yield frame
        frame = frame.f_back
