"""The examples of schedules/ do what they say, on real files."""

from __future__ import annotations

import csv
import sqlite3
import sys
import types
from contextlib import closing
from pathlib import Path

import pytest

from cronqueue.imports import import_folder

FOLDER = Path(__file__).parents[2] / "schedules"


@pytest.fixture(scope="module")
def examples() -> types.SimpleNamespace:
    package = "example_schedules"
    assert import_folder(FOLDER, package) == ()
    names = ("backup", "disk", "links")
    return types.SimpleNamespace(**{name: sys.modules[f"{package}.{name}"] for name in names})


def test_a_link_is_dead_only_when_it_names_a_file_that_is_not_there(
    examples: types.SimpleNamespace, tmp_path: Path
) -> None:
    (tmp_path / "a page.md").touch()
    page = tmp_path / "index.md"
    page.write_text(
        "[here](a%20page.md#top) [web](https://example.org/x) [mail](mailto:a@example.org)\n"
        "[place](#words) ![picture](picture.png 'title') [gone](gone.md#top)\n"
    )
    dead = [line.removeprefix(f"{page}:") for line in examples.links.dead_links(page)]
    assert dead == ["2: picture.png", "2: gone.md#top"]


def test_a_copy_taken_while_somebody_writes_is_whole_and_has_what_was_committed(
    examples: types.SimpleNamespace, tmp_path: Path
) -> None:
    source, copy = tmp_path / "a #1.db", tmp_path / "copy.part"
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE t (x)")
        writer.execute("INSERT INTO t VALUES ('committed')")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO t VALUES ('open')")
        examples.backup.copy_database(source, copy)
    with closing(sqlite3.connect(copy)) as reader:
        assert reader.execute("SELECT x FROM t").fetchall() == [("committed",)]


def test_only_backups_of_the_same_database_count_as_too_many(
    examples: types.SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examples.backup, "FOLDER", tmp_path)
    for day in range(10, 19):
        (tmp_path / f"app-202601{day}-023000.db").touch()
        (tmp_path / f"app-two-202601{day}-023000.db").touch()
    assert [path.name for path in examples.backup.oldest("app")] == [
        "app-20260110-023000.db",
        "app-20260111-023000.db",
    ]


def test_a_new_day_gets_its_heading_and_the_oldest_one_goes(
    examples: types.SimpleNamespace, tmp_path: Path
) -> None:
    for day in range(1, 9):
        examples.disk.append_line(tmp_path / f"2026-01-0{day}.csv", ["00:00:00", 10, day])
    examples.disk.append_line(tmp_path / "2026-01-08.csv", ["00:00:10", 10, 9])
    assert min(path.name[:10] for path in tmp_path.iterdir()) == "2026-01-02"
    with (tmp_path / "2026-01-08.csv").open(newline="") as file:
        assert [row[-1] for row in csv.reader(file)] == ["used bytes", "8", "9"]
