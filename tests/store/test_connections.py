"""How databases are connected to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sqlalchemy import make_url

from cronqueue import schema
from cronqueue.database import Database
from job_rows import query


def test_the_name_in_the_url_is_the_one_that_the_server_shows(postgres_url: str) -> None:
    for url, name in (
        (make_url(postgres_url), "sched"),
        (make_url(postgres_url).update_query_dict({"application_name": "shop"}), "shop"),
    ):
        database = Database(url)
        assert query(database, "SELECT current_setting('application_name')") == [(name,)]
        database.dispose()


def test_a_new_sqlite_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "sched.db"
    before = os.umask(0)
    try:
        database = Database(f"sqlite:///{path}")
        schema.upgrade(database)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        database.dispose()
    finally:
        os.umask(before)
    assert modes == {"sched.db": 0o600, "sched.db-wal": 0o600, "sched.db-shm": 0o600}


def test_an_sqlite_file_that_is_there_keeps_its_permissions(sqlite_url: str) -> None:
    path = Path(str(make_url(sqlite_url).database))
    path.chmod(0o660)
    database = Database(sqlite_url)
    schema.require(database)
    database.dispose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
