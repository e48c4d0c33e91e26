"""The pages and the code say the same."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from command_lines import options, parse
from cronqueue.settings import DELAYED_JOB_NAMES, describe_settings
from cronqueue.states import HELD_REASONS, STATES
from cronsched.cli import COMMANDS as COMMANDS_OF_SCHED
from cronsched.cli import exits

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    ]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def console_lines(page: Path) -> list[str]:
    """What follows a prompt, without a remark or the sign that puts it into the background."""
    lines = re.findall(r"^[$] (sched .+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.split(r"\s+[#&]", line)[0] for line in lines]


COMMANDS = [
    pytest.param(line, id=f"{page.name}: {line}") for page in PAGES for line in console_lines(page)
]


SPAN = re.compile(r"`(sched [a-z][^`]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_an_option_that_a_sentence_names_is_one_of_the_command(page: Path) -> None:
    for span in SPAN.findall(page.read_text(encoding="utf-8")):
        words = span.split()
        known = options(words)
        assert [each for each in words if each.startswith("-") and each not in known] == [], span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_of_a_page_leads_somewhere(page: Path) -> None:
    targets = [urlsplit(each) for each in LINK.findall(page.read_text(encoding="utf-8"))]
    files = [page.parent / each.path for each in targets if not each.scheme]
    assert [file for file in files if not file.exists()] == []


def test_the_pages_show_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_a_page_exists_with_its_options(line: str) -> None:
    parse(shlex.split(line))


def test_the_readme_names_every_command() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS_OF_SCHED if f"`sched {name}`" not in page] == []


def test_the_page_of_words_has_every_state_and_every_reason_to_be_held() -> None:
    page = (ROOT / "docs/words.md").read_text(encoding="utf-8")
    assert [state for state in STATES if not re.search(rf"\b{state}\b", page)] == []
    assert [reason for reason in HELD_REASONS if f"`{reason}`" not in page] == []


def test_the_page_of_operations_has_every_exit_code() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    told = page.partition("Exit codes of the command:")[2].partition("\n\n")[0]
    codes = [value for name, value in vars(exits).items() if name.isupper() and type(value) is int]
    assert sorted(map(int, re.findall(r"\d+", told))) == sorted(codes)


def test_the_page_of_settings_has_each_of_them() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    expected = [name for name, _, _ in describe_settings()] + list(DELAYED_JOB_NAMES)
    assert [name for name in expected if f"`{name}`" not in page] == []


def test_the_page_of_settings_has_no_other() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    cells = re.findall(r"^[|] (`.+?`) [|]", page, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(name for name, _, _ in describe_settings())


def test_what_comes_from_elsewhere_is_as_it_was_published() -> None:
    decision = (ROOT / "docs" / "decisions" / "0008-dependencies.md").read_text(encoding="utf-8")
    script = ROOT / "scheduler" / "cronsched" / "web" / "static" / "htmx.min.js"
    assert f"sha256 {hashlib.sha256(script.read_bytes()).hexdigest()}" in decision
    assert "BSD" in script.with_name("htmx.LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_variable_that_a_page_names_is_a_setting(page: Path) -> None:
    known = {f"SCHED_{name.upper()}" for name, _, _ in describe_settings()}
    named = set(re.findall(r"\bSCHED_[A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8")))
    # Those of the tests are told where the tests are.
    assert {each for each in named - known if not each.startswith("SCHED_TEST_")} == set()
