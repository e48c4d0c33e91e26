"""How full the disk is: looked at every ten seconds, kept as a table that a spreadsheet opens."""

import csv
import shutil
from datetime import UTC, datetime
from pathlib import Path

from cronqueue import current_job
from cronsched import every

REPORT = Path("var/disk.csv")
WARN_ABOVE = 0.9
# A day of lines at one every ten seconds.
KEEP_LINES = 8640


@every("10s", overlap="skip", description="Free space of this folder's disk")
def space(path: str = ".") -> dict[str, float]:
    """Add a line to var/disk.csv; warn when the disk is nearly full."""
    usage = shutil.disk_usage(path)
    used = usage.used / usage.total
    now = datetime.now(UTC).isoformat(timespec="seconds")
    append_line([now, usage.total, usage.used, f"{used:.4f}"])
    log = current_job().logger
    log.info("disk %.1f %% full, %.1f GB free", used * 100, usage.free / 1e9)
    if used > WARN_ABOVE:
        log.warning("the disk is nearly full")
    return {"used": round(used, 4), "free_gb": round(usage.free / 1e9, 1)}


def append_line(line: list[object]) -> None:
    """Keep the newest lines only, so that the file cannot fill the disk that it watches."""
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    lines = REPORT.read_text().splitlines()[1:][-KEEP_LINES + 1 :] if REPORT.exists() else []
    temporary = REPORT.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "bytes", "used bytes", "used"])
        file.writelines(f"{each}\r\n" for each in lines)
        writer.writerow(line)
    temporary.replace(REPORT)
