"""The storm's options, and what is told of it at the end."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

TOLD = pytest.StashKey[list[str]]()
# Seconds that a storm may take beside its own time: to begin, to come to an end, and to be looked through.
REST = 420


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("torture")
    group.addoption("--minutes", type=float, default=1.0, help="how long all storms last together")
    group.addoption(
        "--seed", type=int, default=random.randrange(10**6), help="of what happens when"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A storm lasts as long as it is told to; whatever hangs then is ended."""
    seconds = config.getoption("--minutes") * 60 + REST
    for item in items:
        if item.path.name == "test_storm.py":
            item.add_marker(pytest.mark.timeout(seconds))


def pytest_report_header(config: pytest.Config) -> str:
    return f"torture: {config.getoption('--minutes'):g} minutes, seed {config.getoption('--seed')}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(TOLD, []):
        terminalreporter.write_line(line)


@pytest.fixture
def tell(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Say something in the summary of the run."""
    return pytestconfig.stash.setdefault(TOLD, []).append
