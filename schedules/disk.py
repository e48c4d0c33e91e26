"""How full the disk is: looked at every ten seconds, kept as tables that a spreadsheet opens."""

import csv
import shutil
from datetime import UTC, datetime
from pathlib import Path

from cronqueue import current_job
from cronsched import every

FOLDER = Path("var/disk")
KEEP_DAYS = 7
WARN_ABOVE = 0.9


# A look at the disk says nothing of ten seconds ago: what starts too late is skipped.
@every("10s", start_within="10s", description="Free space of this folder's disk")
def space(path: str = ".") -> dict[str, float]:
    """Add a line to today's file in var/disk; warn when the disk is nearly full."""
    usage = shutil.disk_usage(path)
    used = usage.used / usage.total
    now = datetime.now(UTC)
    append_line(FOLDER / f"{now:%Y-%m-%d}.csv", [f"{now:%H:%M:%S}", usage.total, usage.used])
    log = current_job().logger
    log.info("disk %.1f %% full, %.1f GB free", used * 100, usage.free / 1e9)
    if used > WARN_ABOVE:
        log.warning("the disk is nearly full")
    return {"used": round(used, 4), "free_gb": round(usage.free / 1e9, 1)}


def append_line(file: Path, line: list[object]) -> None:
    """Add to the file; a new one gets its heading, and the oldest one goes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if stream.tell() == 0:
            writer.writerow(["time (UTC)", "bytes", "used bytes"])
            for old in sorted(file.parent.glob("*.csv"))[:-KEEP_DAYS]:
                old.unlink(missing_ok=True)
        writer.writerow(line)
