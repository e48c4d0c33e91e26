"""Loading the user's code: the files of the schedules folder, and modules named by the settings.

A file that does not load is reported with its place; the others load all the same.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path

from cronqueue.trust import untrusted


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: file as given, line when it is known."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


# Schedule files, and the calendars that they name.
_WATCHED = (".py", ".ics")


def source_files(folder: Path) -> list[Path]:
    """The files of the folder that are loaded, by name; those that begin with `_` or `.` are not."""
    return sorted(path for path in folder.glob("*.py") if path.name[0] not in "_.")


def fingerprint(folder: Path) -> tuple[tuple[object, ...], ...]:
    """Changes when a file of the folder does, or who may write it; helpers that begin with `_` count too."""
    files = sorted(path for path in folder.glob("*") if path.suffix in _WATCHED)
    return tuple(filter(None, map(_status, [folder, *files])))


def import_all(modules: Iterable[str], folder: Path | None) -> tuple[list[Path], tuple[Fault, ...]]:
    """Import the modules, then the files of the folder if there is one; these files, and what went wrong."""
    faults = import_modules(modules)
    if folder is None or not folder.is_dir():
        return [], faults
    return source_files(folder), faults + import_folder(folder)


def import_folder(folder: Path, package: str = "schedules") -> tuple[Fault, ...]:
    """Execute every file of `folder` as the module `<package>.<stem>`; returns what went wrong.

    Nothing is executed where others could have written it.
    """
    if faults := tuple(Fault(str(path), None, why) for path, why in untrusted(folder)):
        return faults
    _make_package(folder, package)
    attempts = (
        _attempt(str(path), partial(_execute, path, package)) for path in source_files(folder)
    )
    return tuple(fault for fault in attempts if fault)


def import_modules(names: Iterable[str]) -> tuple[Fault, ...]:
    """Import the modules; returns what went wrong."""
    faults = (_attempt(name, partial(importlib.import_module, name)) for name in names)
    return tuple(fault for fault in faults if fault)


def _status(path: Path) -> tuple[object, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    # The time of a folder changes with anything in it, caches included.
    times = (
        () if path.suffix not in _WATCHED else (status.st_mtime_ns, status.st_size, status.st_ino)
    )
    return (path.name, status.st_mode, status.st_uid, *times)


class _SourceLoader(SourceFileLoader):
    """Never from cached bytecode: that is told by size and second, and an edit may keep both."""

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _make_package(folder: Path, package: str) -> None:
    """Give the folder's files a package of their own, so that they can import one another."""
    if package not in sys.modules:
        module = types.ModuleType(package)
        module.__path__ = [str(folder)]
        sys.path_importer_cache[str(folder)] = FileFinder(str(folder), (_SourceLoader, [".py"]))
        sys.modules[package] = module


def _execute(path: Path, package: str) -> None:
    name = f"{package}.{path.stem}"
    if name in sys.modules:  # a sibling has imported it already
        return
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("a pipe or a device, and no file")  # whose end might never come
    loader = _SourceLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # it has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _attempt(file: str, load: Callable[[], object]) -> Fault | None:
    try:
        load()
    except KeyboardInterrupt:
        raise
    except (
        BaseException
    ) as error:  # a file may call sys.exit(): that is a fault of the file, not our end
        return Fault(file, _line_in(file, error), _summary(error))
    return None


def _line_in(file: str, error: BaseException) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    return lines[-1] if lines else None


def _summary(error: BaseException) -> str:
    try:
        lines = traceback.format_exception_only(error)
        # The text of a SyntaxError comes after the line that it shows, any other before its notes.
        text = lines[-1 if isinstance(error, SyntaxError) else 0].strip()
    except Exception:  # an exception whose own text raises
        text = type(error).__name__
    return text
