"""The Python of the pages compiles, their schedules load, and the commands that they name exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from cronsched.cli import sched
from cronsched.loader import load_in_child

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`sched ((?:[a-z][a-z-]*)(?: [a-z-]+)*)")
# Without these nothing would be tested.
FEWEST_BLOCKS = 10

BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]
# What needs Django is run by the test of the how-tos, where Django is installed.
DECLARING = [
    each
    for each in BLOCKS
    if "from cronsched import" in str(each.values[0]) and "import django" not in str(each.values[0])
]


def test_there_is_code_to_look_at() -> None:
    assert len(BLOCKS) >= FEWEST_BLOCKS
    assert len(DECLARING) >= 2


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_of_a_page_compiles(block: str) -> None:
    compile(block, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", DECLARING)
def test_the_schedules_of_a_page_load_without_a_fault(block: str, tmp_path: Path) -> None:
    folder = tmp_path / "schedules"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "page.py").write_text(block)
    (folder / "page.py").chmod(0o644)
    found = load_in_child(folder)
    assert found.faults == ()
    assert len(found.schedules) >= block.count("\n@") - block.count("@job")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_that_a_page_names_exists(page: Path) -> None:
    for named in NAMED.findall(page.read_text(encoding="utf-8")):
        command: click.Command | None = sched
        for word in named.split():
            if isinstance(command, click.Group):
                command = command.get_command(click.Context(command), word)
                assert command is not None, f"sched {named}"
