"""Whose files are executed: whoever may write a schedule file runs code as the user of our processes."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path


def untrusted(folder: Path) -> Iterator[tuple[Path, str]]:
    """What of the folder forbids to execute anything in it, and why. Links count as what they point to.

    Owners are judged as sshd judges them: ours and root's files are trusted, and those of who could hand
    us code anyway, because this Python or the working directory, from which we import, is his.
    """
    if os.name != "posix":
        return
    owners = {0, os.geteuid(), *(status.st_uid for _, status in _status(Path(sys.prefix), Path()))}
    for path, status in _status(folder, *_modules(folder)):
        if status.st_mode & stat.S_IWOTH:
            yield path, f"anybody may write it, so nothing here is executed: chmod o-w {path}"
        if status.st_uid not in owners:
            yield (
                path,
                f"it belongs to user {status.st_uid}, who is neither root nor us (user {os.geteuid()}),"
                f" so nothing here is executed: chown {os.geteuid()} {path}",
            )


def writable_by_group(folder: Path) -> list[Path]:
    """What of the folder members of a group may write; a group that is our own main one holds us alone."""
    if os.name != "posix":
        return []
    return [
        path
        for path, status in _status(folder, *_modules(folder))
        if status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid()
    ]


def _modules(folder: Path) -> list[Path]:
    """Helpers that begin with `_` as well: the others import them."""
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("."))


def _status(*paths: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Of those that are there: loading tells of the others."""
    for path in paths:
        try:
            yield path, path.stat()
        except OSError:
            continue
