"""Log lines on standard error: text for people, or one JSON object a line for programs.

    {"time": "2026-01-31T07:30:00.123456Z", "level": "warning", "logger": "cronqueue.jobs", "message": "...",
     "pid": 7, "worker": "host:6", "job_id": 17, "task": "mail.welcome", "queue": "mail", "attempt": 2, ...}

What a job's own code logs carries the job as well. Arguments and results of jobs are never put there by us.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, get_args

from cronqueue import context

LogFormat = Literal["text", "json"]
LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)

# All but tab and line feed.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# From a level on: syslog's priorities, sd-daemon(3).
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
# What every record has; all else was given as `extra`.
_OF_EVERY_RECORD = frozenset(
    (*vars(logging.makeLogRecord({})), "message", "asctime", "color_message")
)


def log_to(level: int, jobs: int, form: str = "text", worker: str | None = None) -> None:
    """Log to standard error; `jobs` is the level for the ends of jobs, `worker` whose process this is."""
    handler = logging.StreamHandler(sys.stderr)
    plain = JournalFormatter() if _is_journal(sys.stderr) else PlainFormatter()
    handler.setFormatter(JsonFormatter(worker) if form == "json" else plain)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("cronqueue.jobs").setLevel(jobs)


class PlainFormatter(logging.Formatter):
    """Shows control characters of stored names and messages instead of sending them to the terminal."""

    def __init__(self, form: str = "%(asctime)s %(levelname)-7s %(message)s") -> None:
        super().__init__(form)

    def format(self, record: logging.LogRecord) -> str:
        return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], super().format(record))


class JournalFormatter(PlainFormatter):
    """For systemd's journal, which has the time itself and reads the priority at the head of each line."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        priority = next(each for level, each in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """One object a line, in ASCII; what cannot be written as JSON stands there as text."""

    def __init__(self, worker: str | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line = {**_what(record), **self._who(record)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        known = _OF_EVERY_RECORD | line.keys()
        extra = {name: value for name, value in vars(record).items() if name not in known}
        try:
            return json.dumps({**line, **extra}, default=_as_text, skipkeys=True, allow_nan=False)
        except (ValueError, RecursionError):  # NaN, or an object that holds itself
            return json.dumps(line | {name: _as_text(value) for name, value in extra.items()})

    def _who(self, record: logging.LogRecord) -> dict[str, Any]:
        process = {"pid": record.process, "worker": self._worker}
        job = context.running_job()
        if job is not None:
            process |= {
                "job_id": job.id,
                "task": job.task,
                "queue": job.queue,
                "attempt": job.attempt,
                "schedule": job.schedule,
            }
        return {name: value for name, value in process.items() if value is not None}


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd connected this stream to its journal: JOURNAL_STREAM names its device and inode."""
    try:
        file = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}"


def _what(record: logging.LogRecord) -> dict[str, Any]:
    moment = datetime.fromtimestamp(record.created, UTC)
    return {
        "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }


def _as_text(value: object) -> str:
    """Of an object of the user's, whose own method may fail: that must not lose the line."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
