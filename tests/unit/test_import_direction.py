"""Imports run one way: cli and web -> cronsched -> cronqueue."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {"cronqueue": ROOT / "queue", "cronsched": ROOT / "scheduler"}
SURFACES = ("cronsched.cli", "cronsched.web")
# The entry points of `python -m`: they are the outside.
ENTRANCES = ("cronsched.__main__",)


def test_the_queue_knows_nothing_of_schedules() -> None:
    assert list(_offences("cronqueue", ("cronsched",))) == []


def test_the_core_of_the_scheduler_knows_neither_its_command_nor_its_web() -> None:
    assert list(_offences("cronsched", SURFACES, exempt=SURFACES + ENTRANCES)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import cronsched.cli.main", "cronsched.cli"),
        ("from cronsched.cli import main", "cronsched.cli"),
        ("from cronsched import cli", "cronsched.cli"),
        ("from . import web", "cronsched.web"),
        ("from .web.pages import index", "cronsched.web"),
        ("def late():\n    import cronsched.web", "cronsched.web"),
        ("from cronsched import climate", None),
        ("from cronqueue import cli", None),
    ],
)
def test_every_way_to_write_an_import_is_seen(source: str, found: str | None) -> None:
    tree = ast.parse(source)
    hits = [_forbidden(name, SURFACES) for _, name in _imports(tree, package="cronsched")]
    assert [hit for hit in hits if hit] == ([found] if found else [])


def _offences(
    package: str, forbidden: tuple[str, ...], exempt: tuple[str, ...] = ()
) -> Iterator[str]:
    """Each forbidden import of a package, as `file:line: the line`."""
    files = sorted((SOURCES[package] / package).rglob("*.py"))
    assert files, f"{package} has no files: the check would look at nothing"
    for file in files:
        parts = file.relative_to(SOURCES[package]).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        if _forbidden(module, exempt):
            continue
        text = file.read_text(encoding="utf-8")
        for line, name in _imports(ast.parse(text), package=".".join(parts[:-1])):
            if _forbidden(name, forbidden):
                yield f"{file.relative_to(ROOT)}:{line}: {text.splitlines()[line - 1].strip()}"


def _imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, wherever it stands; each statement counts once."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def _forbidden(name: str, packages: tuple[str, ...]) -> str | None:
    """Which of the packages the name lies in."""
    return next((each for each in packages if f"{name}.".startswith(f"{each}.")), None)
