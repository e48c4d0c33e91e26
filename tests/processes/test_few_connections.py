"""Workers on a server that allows fewer connections than they want."""

from __future__ import annotations

from pathlib import Path

from job_rows import query
from postgres_server import PostgresServer
from services import eventually, few_connections


def test_a_supervisor_does_not_keep_the_only_connection_from_its_executor(
    own_postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with few_connections(own_postgres_server, tmp_path, limit=1) as stage:
        worker = stage.worker("--lease", "5s")
        worker.wait_for_line("the server has no connections left: for a while we keep none")

        for _ in range(3):
            assert stage.wait_for(stage.enqueue("quick")).attempts == 1

        eventually(lambda: query(stage.database, HELD) == [(0,)], "no connection in use")
        assert worker.stop() == 0


HELD = "SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'app'"
