"""The pages that are written from the code say what the code says now."""

from __future__ import annotations

import pytest
from docs.reference.generate import FOLDER, PAGES, cli_page, python_page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_current(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "`make reference` writes it"


def test_no_page_of_the_reference_is_of_elsewhere() -> None:
    assert {page.name for page in FOLDER.glob("*.md")} == set(PAGES)


def test_the_reference_knows_commands_within_commands_and_what_packages_export() -> None:
    assert "\n## sched schedules backfill\n" in cli_page()
    assert "| `--min-priority INTEGER` | At least this; higher runs first." in cli_page()
    assert "\n### daily\n\n```text\ndaily(" in python_page()
    assert "**`Job.wait(timeout: Duration | None = None) -> Job[R]`**" in python_page()
