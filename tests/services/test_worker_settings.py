"""Where a worker in a program of its own takes its settings from."""

from __future__ import annotations

from pathlib import Path

import pytest

from cronqueue import Worker, configuration, configure
from cronqueue.settings import resolve_database_url


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCHED_DATABASE_URL", "sqlite:////environment.db")
    monkeypatch.setattr(configuration, "_database", None)


def database_of(worker: Worker) -> str:
    return resolve_database_url(worker.loaded)


def test_a_worker_works_for_the_database_of_configure() -> None:
    configure(database_url="postgresql://ann:secret@host/app")
    assert database_of(Worker()) == "postgresql+psycopg://ann:secret@host/app"


def test_a_database_given_to_the_worker_itself_wins() -> None:
    configure(database_url="sqlite:////configured.db")
    assert database_of(Worker(database_url="sqlite:////given.db")) == "sqlite:////given.db"


def test_a_worker_in_a_program_that_configures_nothing_reads_the_environment() -> None:
    assert database_of(Worker()) == "sqlite:////environment.db"


def test_an_address_of_sqlites_own_counts_from_the_settings_files_folder_too(
    tmp_path: Path,
) -> None:
    given = Worker(database_url="sqlite:///file:jobs.db?uri=true&cache=private")
    assert database_of(given) == f"sqlite:///file:{tmp_path}/jobs.db?uri=true&cache=private"
