"""The fixtures for pytest; loaded by pytest itself wherever cronqueue is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cronqueue.testing import SchedQueue

# Nothing of cronqueue is imported until a test asks for it: this file is loaded in every run.


@pytest.fixture(scope="session")
def sched_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, of which every test gets a copy."""
    from cronqueue import schema
    from cronqueue.database import Database

    path = tmp_path_factory.mktemp("sched") / "sched.db"
    database = Database(f"sqlite:///{path}")
    schema.upgrade(database)
    database.dispose()
    return path


@pytest.fixture
def sched_database_url(sched_template: Path, tmp_path: Path) -> str:
    """The database of `sched_queue`; override it to use one of yours, with the schema in it."""
    return f"sqlite:///{shutil.copy(sched_template, tmp_path / 'sched.db')}"


@pytest.fixture
def sched_queue(sched_database_url: str) -> Iterator[SchedQueue]:
    """A queue of the test's own: drain(), advance("1h"), assert_enqueued(task, ...), inline()."""
    from cronqueue.testing import SchedQueue

    with SchedQueue(sched_database_url).configured() as queue:
        yield queue
