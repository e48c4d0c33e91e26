"""Whose schedule files are executed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cronqueue.imports import fingerprint, import_all
from cronqueue.trust import untrusted, writable_by_group

GiveAway = Callable[[Path], None]
STRANGER = 12_345


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a file that leaves a trace when it is executed."""
    folder = tmp_path / "files"
    folder.mkdir(mode=0o755)
    # No other test has imported a file of this name.
    (folder / f"a_{tmp_path.name}.py").write_text(f"open({str(trace_of(folder))!r}, 'w')\n")
    (folder / "b.py").write_text("")
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> GiveAway:
    """Make it somebody else's, who owns neither Python nor the working directory."""
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "prefix", "/")

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, STRANGER, -1)
        else:  # nobody but root may give a file away: we become somebody else
            monkeypatch.setattr(os, "geteuid", lambda: STRANGER)

    return give


def trace_of(folder: Path) -> Path:
    return folder.parent / "trace"


def test_what_is_ours_and_written_by_us_alone_is_executed(files: Path) -> None:
    assert list(untrusted(files)) == []
    assert import_all((), files)[1] == ()
    assert trace_of(files).exists()


def test_a_worker_executes_nothing_either_that_anybody_may_write(files: Path) -> None:
    (files / "b.py").chmod(0o646)
    _, (fault,) = import_all((), files)
    assert str(fault).endswith(
        f"anybody may write it, so nothing here is executed: chmod o-w {files}/b.py"
    )
    assert not trace_of(files).exists()


@pytest.mark.parametrize("name", ["b.py", "."])
def test_what_belongs_to_somebody_else_is_not_executed(
    files: Path, name: str, give_away: GiveAway
) -> None:
    give_away(files / name)
    faults = import_all((), files)[1]
    assert faults
    assert all("neither root nor us" in fault.message for fault in faults)
    assert any(f"chown {os.geteuid()} {files / name}" in fault.message for fault in faults)
    assert not trace_of(files).exists()


def test_who_owns_the_working_directory_or_this_python_is_trusted(
    files: Path, give_away: GiveAway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (files, *files.iterdir()):
        give_away(path)
    assert list(untrusted(files)) != []
    monkeypatch.setattr(sys, "prefix", str(files))
    assert list(untrusted(files)) == []
    monkeypatch.setattr(sys, "prefix", "/")
    monkeypatch.chdir(files)
    assert list(untrusted(files)) == []


def test_a_change_of_the_owner_is_a_change_of_the_files(files: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("nobody but root may give a file away")
    before = fingerprint(files)
    os.chown(files / "b.py", STRANGER, -1)
    assert fingerprint(files) != before


def test_what_another_group_may_write_is_told(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "b.py").chmod(0o664)
    assert writable_by_group(files) == []
    monkeypatch.setattr(os, "getegid", lambda: files.stat().st_gid + 1)
    assert writable_by_group(files) == [files / "b.py"]
    assert import_all((), files)[1] == ()
