"""A rolling deploy with real daemons: two versions of the files, one of which dies again and again."""

from __future__ import annotations

from pathlib import Path

from cronsched.manifests import in_force
from job_rows import query
from services import Stage, eventually

FILES = """
from cronsched import every, hourly

@every("1s", name="tick", overlap="allow", catch_up="all")
def tick(): ...

@hourly(minute={minute}, name="own")
def own(): ...
"""


def files(stage: Stage, name: str, minute: int) -> str:
    """A folder with a version of the files."""
    folder = stage.folder / name
    folder.mkdir(mode=0o755)
    path: Path = folder / "a.py"
    path.write_text(FILES.format(minute=minute))
    path.chmod(0o644)
    return str(folder)


def test_a_deploy_is_applied_once_however_often_its_daemon_dies(stage: Stage) -> None:
    old, new = files(stage, "old", 5), files(stage, "new", 35)
    first, second = (stage.daemon("--schedules", old) for _ in range(2))
    first.wait_for_line("applying the files")
    second.wait_for_line("applying the files: these files are in force|nothing was in force")
    before = in_force(stage.database)

    third = stage.daemon("--schedules", new)
    third.wait_for_line("applied: 0 added, 1 changed")
    after = in_force(stage.database)
    assert after not in (None, before)
    for each in (first, second):
        each.wait_for_line(
            "other schedule files are in force, from .*/new: this daemon only tops up"
        )
    third.destroy()
    again = stage.daemon("--schedules", new)
    again.wait_for_line("applying the files: these files are in force")
    restarted = stage.daemon("--schedules", old)
    restarted.wait_for_line(
        "other schedule files are in force, from .*/new: this daemon only tops up"
    )
    assert in_force(stage.database) == after

    released = stage.daemon("--schedules", old, SCHED_RELEASE="1")
    released.wait_for_line("applying the files: release 1 is higher than no release")
    eventually(lambda: in_force(stage.database) == before, "the older files, under a release")
    again.wait_for_line("schedule files of release 1 are in force, and these are of no release")
    doubled = """SELECT schedule, planned_for FROM sched_jobs WHERE state = 'queued'
        GROUP BY schedule, planned_for HAVING COUNT(*) > 1"""
    assert query(stage.database, doubled) == []
    taken = "SELECT 1 FROM sched_ledger WHERE schedule = 'tick' AND verdict <> 'queued'"
    assert query(stage.database, taken) == []
