"""A type checker accepts right uses of the library, and refuses wrong ones where they stand."""

import re
from pathlib import Path

import pytest
from mypy import api

SETTINGS = Path(__file__).parents[2] / "pyproject.toml"
USES = Path(__file__).with_name("uses.py")


def test_mypy_refuses_exactly_the_wrong_uses(pytestconfig: pytest.Config) -> None:
    expected = {
        (number, code)
        for number, line in enumerate(USES.read_text().splitlines(), 1)
        for code in re.findall(r"# refused: ([a-z-]+)$", line)
    }
    cache = pytestconfig.cache
    assert cache is not None
    options = [f"--config-file={SETTINGS}", f"--cache-dir={cache.mkdir('typing')}"]
    report, faults, _ = api.run([*options, str(USES)])
    assert not faults
    found = re.findall(r"uses\.py:(\d+): error: .*\[([a-z-]+)\]$", report, re.MULTILINE)
    assert {(int(number), code) for number, code in found} == expected, report
