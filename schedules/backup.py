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
    source = Path(path)
    if not source.exists():
        raise Discard(f"{path} is not here: this example is for SQLite; PostgreSQL has pg_dump")
    FOLDER.mkdir(parents=True, exist_ok=True)
    backup = FOLDER / f"{source.stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}.db"
    # Only a whole and sound copy is ever called a backup, wherever this may be interrupted.
    copy = backup.with_suffix(f".{current_job().token}.part")
    try:
        copy_database(source, copy)
        copy.rename(backup)
    finally:
        copy.unlink(missing_ok=True)
    for old in oldest(source.stem):
        old.unlink(missing_ok=True)
    current_job().logger.info("%s: %.1f MB", backup, backup.stat().st_size / 1e6)
    return str(backup)


def copy_database(source: Path, copy: Path) -> None:
    """One consistent state, whoever writes meanwhile; raises RuntimeError when it is damaged."""
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as reader,
        closing(sqlite3.connect(copy)) as writer,
    ):
        reader.backup(writer)
        verdict = writer.execute("PRAGMA quick_check").fetchone()[0]
    if verdict != "ok":
        raise RuntimeError(f"the copy of {source} is damaged: {verdict}")


def oldest(stem: str) -> list[Path]:
    """The backups that are too many; their names sort by time."""
    return sorted(FOLDER.glob(f"{stem}-????????-??????.db"))[:-KEEP]
