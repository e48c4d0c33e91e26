"""A copy of the queue's own SQLite database, every night, the last seven kept."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from cronqueue import Discard, current_job
from cronsched import daily

FOLDER = Path("var/backups")
KEEP = 7


@daily(
    at="02:30", tz="Europe/London", priority=-10, timeout="10m", description="Backup of sched.db"
)
def database(path: str = "sched.db") -> str:
    """Copy the database while it is in use, check the copy, delete the oldest copies."""
    if not Path(path).exists():
        raise Discard(f"{path} is not here: this example backs up an SQLite database")
    FOLDER.mkdir(parents=True, exist_ok=True)
    copy = FOLDER / f"{Path(path).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}.db"
    with (
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        verdict = target.execute("PRAGMA quick_check").fetchone()[0]
    if verdict != "ok":
        copy.unlink()
        raise RuntimeError(f"the copy of {path} is damaged: {verdict}")
    for old in oldest(copy.stem.split("-")[0]):
        old.unlink()
    current_job().logger.info("%s: %.1f MB", copy, copy.stat().st_size / 1e6)
    return str(copy)


def oldest(stem: str) -> list[Path]:
    """The copies that are one too many; their names sort by time."""
    return sorted(FOLDER.glob(f"{stem}-*.db"))[:-KEEP]
