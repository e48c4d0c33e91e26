"""Put on a process's path, this sets its clocks wrong.

WRONG_CLOCK: seconds by which its wall clock is ahead. SLEPT: a file with the seconds for which its machine
was suspended so far; they count for `boottime`, and for nothing else.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cronqueue import clock

_boottime = clock.boottime


def _utcnow() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=float(os.environ["WRONG_CLOCK"]))


def _boottime_with_sleep() -> float:
    try:
        return _boottime() + float(Path(os.environ["SLEPT"]).read_text())
    except FileNotFoundError:
        return _boottime()


# Before anybody imports them from there: then all of the process goes by them.
if "WRONG_CLOCK" in os.environ:
    clock.utcnow = _utcnow
if "SLEPT" in os.environ:
    clock.boottime = _boottime_with_sleep
