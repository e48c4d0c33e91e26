"""Loading files of the user: what is executed is what stands in the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cronqueue.imports import import_folder

PACKAGE = "imported_folder"

Load = Callable[[], tuple[int, int]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Load the folder anew, as a fresh process would; answers what its two files say."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)

    def forget() -> None:
        for name in [each for each in sys.modules if each.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        sys.path_importer_cache.pop(str(tmp_path), None)

    def load_anew() -> tuple[int, int]:
        forget()
        assert import_folder(tmp_path, PACKAGE) == ()
        first, second = (sys.modules[f"{PACKAGE}.{name}"] for name in ("first", "second"))
        return first.SEEN, second.VALUE

    yield load_anew
    forget()


def write_in_the_same_second(folder: Path, value: int) -> None:
    (folder / "first.py").write_text(f"from {PACKAGE}.second import VALUE as SEEN\n")
    (folder / "second.py").write_text(f"VALUE = {value}\n")
    for path in folder.glob("*.py"):
        os.utime(path, (1_700_000_000, 1_700_000_000))


def test_an_edit_that_keeps_size_and_second_is_seen_by_files_and_their_siblings(
    tmp_path: Path, load: Load
) -> None:
    write_in_the_same_second(tmp_path, 1)
    assert load() == (1, 1)
    write_in_the_same_second(tmp_path, 2)
    assert load() == (2, 2)


def test_loading_leaves_no_file_in_the_folder(tmp_path: Path, load: Load) -> None:
    write_in_the_same_second(tmp_path, 1)
    load()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.py", "second.py"]
