"""The folders queue/ and scheduler/ never hide the standard library's `queue` and `sched`."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))


def test_a_source_root_is_no_package() -> None:
    found = [root for root in ("queue", "scheduler") if (ROOT / root / "__init__.py").exists()]
    assert found == []


def test_no_folder_of_tests_is_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("module", ["queue", "sched"])
def test_python_c_in_the_root_imports_the_standard_library(module: str) -> None:
    output = _python("-c", f"import {module}; print({module}.__file__)")
    assert Path(output.strip()).resolve() == (STANDARD_LIBRARY / f"{module}.py").resolve()


def test_python_m_in_the_root_imports_the_standard_library() -> None:
    # `python -m` looks into the working directory first; the trace names the files it took.
    trace = _python("-v", "-m", "concurrent.futures.thread")
    assert str(STANDARD_LIBRARY / "queue.py") in trace


@pytest.mark.parametrize("tool", ["pip", "pytest"])
def test_the_tools_run_from_the_root(tool: str) -> None:
    assert tool in _python("-m", tool, "--version")


def _python(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout
