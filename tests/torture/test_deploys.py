"""Two versions of the schedule files at the same time: three daemons and two workers, ended and started again
and again. The last version rules, is applied once, and every occurrence has its verdict."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cronqueue.database import Database
from cronsched import ledger_audit
from job_rows import query
from services import PATIENCE, Service, Stage, eventually, stage_in

OLD, NEW = (
    f"""
from cronsched import every, hourly

@every("{tick}", name="tick", overlap="skip")
def tick(): ...

@every("1s", name="{own}", overlap="allow", catch_up="all")
def own(): ...

@hourly(minute={minute}, name="hourly")
def each_hour(): ...
"""
    for tick, own, minute in (("2s", "old", 5), ("3s", "new", 35))
)
Start = Callable[[], Service]


@pytest.mark.timeout(0)
def test_two_versions_of_the_files_lose_no_occurrence_and_do_not_take_turns(
    database_url: str,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    tell: Callable[[str], None],
) -> None:
    with stage_in(tmp_path, database_url) as stage:
        old, new = _folder(stage, "old", OLD), _folder(stage, "new", NEW)
        began = stage.database.server_now()
        starts: list[Start] = [
            lambda: stage.daemon("--schedules", old),
            lambda: stage.daemon("--schedules", old),
            lambda: stage.worker(SCHED_SCHEDULES=old),
            lambda: stage.worker(SCHED_SCHEDULES=new),
        ]
        first = starts[0]()
        first.wait_for_line("applied: 3 added")
        running = [(starts[0], first), *((start, start()) for start in starts[1:])]
        deployed = stage.daemon("--schedules", new)
        deployed.wait_for_line("applied: 1 added, 2 changed, 0 came back, 1 removed")
        running.append((lambda: stage.daemon("--schedules", new), deployed))
        seed, minutes = (pytestconfig.getoption(f"--{name}") for name in ("seed", "minutes"))
        times = _restart_at_random(running, random.Random(seed), minutes * 60)
        done = eventually(lambda: _done_since(stage.database, "new"), "jobs go on", PATIENCE)
        for _, service in running:
            service.stop()
        applied = [line for each in stage.services for line in each.said("applied: ")]
        assert len(applied) == 2, applied
        audited = ledger_audit.audit(stage.database, began, stage.database.server_now())
        assert (audited.findings, audited.unknown) == ((), ())
        tell(
            f"two versions of the files, {times} restarts in {minutes:g} minutes: applied twice,"
            f" {audited.occurrences} occurrences accounted for, {done} of them by the new files' own schedule"
        )


def _folder(stage: Stage, name: str, text: str) -> str:
    """A folder with a version of the files."""
    folder = stage.folder / name
    folder.mkdir(mode=0o755)
    file = folder / "files.py"
    file.write_text(text)
    file.chmod(0o644)
    return str(folder)


def _restart_at_random(
    running: list[tuple[Start, Service]], chance: random.Random, seconds: float
) -> int:
    """End one after the other, in order or not, and start it again; returns how often."""
    times, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(chance.uniform(1, 8))
        index = chance.randrange(len(running))
        start, service = running[index]
        if chance.random() < 0.5:
            service.destroy()
        else:
            service.send(signal.SIGTERM)
            service.wait()
        running[index] = (start, start())
        times += 1
    return times


def _done_since(database: Database, schedule: str) -> int:
    statement = (
        f"SELECT COUNT(*) FROM sched_jobs WHERE schedule = '{schedule}' AND state = 'succeeded'"
    )
    return int(query(database, statement)[0][0])
