"""What a page says is shown by a test is shown by one that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if "`test_" in page.read_text(encoding="utf-8")
]


def _tests() -> set[str]:
    return {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_test_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))
    assert sorted(set(named) - _tests()) == []


def test_every_fault_has_a_test_that_shows_it() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    text = page[page.index("## Faults") : page.index("## Interleavings")]
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and "| Shown by |" not in line
    ]
    assert len(rows) > 50
    assert [row for row in rows if not re.search(r"`test_\w+`", row)] == []
