"""Schemathesis against a real server whose database holds jobs in every state: `make schemathesis CASES=n`.

Streams are left out, since one of a waiting job has no end. Exits with the code of schemathesis.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from cronqueue import job, operations, schema
from cronqueue.database import Database
from cronqueue.registration import Presence, heartbeat
from cronqueue.retry import Verdict
from cronqueue.settings import Settings
from cronsched.definition import Definition
from cronsched.manifest import make_manifest
from cronsched.reconcile import apply
from cronsched.triggers import cron_trigger
from cronsched.web import anybody, app
from job_rows import add, claim_one, hand_in, now
from web_server import served

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
OPTIONS = (
    "--checks=all",
    "--workers=1",
    "--exclude-operation-id=job_events",
    "--exclude-operation-id=overview_events",
    "--generation-database=none",
)
# They may refuse what the schema allows: a time that has passed, that is no occurrence's, of the year 232; a
# channel that is not configured. All others have to accept whatever their schema does.
PARTICULAR = (
    "list_jobs",
    "list_failures",
    "list_audit",
    "enqueue_job",
    "edit_job",
    "pause_queue",
    "pause_schedule",
    "pause_all",
    "mute_alerts",
    "send_test_alert",
    "skip_occurrence",
    "move_occurrence",
    "restore_occurrence",
)
CONFIGURATION = """\
[[operations]]
include-operation-id = {name}
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422"]
"""


def main(cases: str, *options: str) -> int:
    """Play so many cases of each operation."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/api.db")
        _fill(database)
        written = "".join(CONFIGURATION.format(name=json.dumps(each)) for each in PARTICULAR)
        (Path(folder) / "schemathesis.toml").write_text(written, encoding="utf-8")
        site = app(
            authenticate=anybody,
            settings=replace(Settings(), alerts_command=("true",)),
            database=database,
            schedules=Path(folder) / "schedules",
        )
        with served(site) as address:
            document = f"{address}/api/v1/openapi.json"
            command = [
                str(SCHEMATHESIS),
                "run",
                document,
                f"--max-examples={cases}",
                *OPTIONS,
                *options,
            ]
            code = subprocess.run(command, cwd=folder, check=False).returncode
        database.dispose()
    return code


def _fill(database: Database) -> None:
    """Jobs that wait, run, and have ended; a schedule; a paused queue; a task that may be enqueued."""

    @job(name="public", api=True)
    def public(number: int = 0) -> None: ...

    schema.upgrade(database)
    made = Definition("s", "t", cron_trigger("5 * * * *"), source="a.py")
    apply(database, make_manifest([made], [], []), Settings())
    failed = Verdict("failed", error="Traceback\nValueError: no", attempt_outcome="failed")
    for verdict in (failed, Verdict("succeeded", result_json='{"a": 1}')):
        hand_in(database, claim_one(database, created_at=now(), run_at=now()), verdict)
    claim_one(database, created_at=now(), run_at=now())
    add(database, created_at=now(), run_at=now(), queue="q", key="k")
    operations.pause_queue(database, "q", actor="ann")
    heartbeat(database, [Presence("w", "worker", "w", 1, "running", Settings())])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
