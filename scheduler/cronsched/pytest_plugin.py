"""The fixture for pytest; loaded by pytest itself wherever cronqueue is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cronsched.simulation import Simulation

# Nothing of cronsched is imported until a test asks for it: this file is loaded in every run.


@pytest.fixture
def sched_simulate() -> Callable[..., Simulation]:
    """Simulate your schedule files: sched_simulate(start, "1d", places=8, durations={task: "5m"})."""
    from cronsched.testing import simulate_files

    return simulate_files
