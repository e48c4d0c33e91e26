"""The log of a job: what it says while it runs, kept with it for people to read.

    a line is said · bounded · a thread writes all lines of a second, of all jobs, in one transaction

A body only hands its lines over. At its end it waits until they are written, so that whoever sees the job's
end sees its log; but neither that nor a database that is away holds it up for long, and no line ever makes
a job fail.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from cronqueue.claim import Claimed
from cronqueue.database import Database, is_outage
from cronqueue.loglines import NewLine, write_lines
from cronqueue.outage import first_line
from cronqueue.patience import SHORT, answers_within
from cronqueue.registry import all_tasks
from cronqueue.tracebacks import sanitize

log = logging.getLogger("cronqueue.worker")

# Lines of one run: where it begins, and where it ends.
FIRST_LINES, LAST_LINES = 900, 100
# Bytes of UTF-8 of one line.
MAX_LINE_BYTES = 4_096
# Seconds between a line and its row, at most.
PERIOD = 1.0
# Seconds that the end of a run waits for its lines.
LONGEST_WAIT = 5.0
# Lines in one statement.
_BATCH = 1_000
# A thread that has had nothing to write for so long ends; the next line starts another.
_IDLE_SECONDS = 10.0
# Seconds that lines wait for a database that is away.
_LONGEST_OUTAGE = 60.0


class JobLog:
    """The log of one run of a job."""

    __slots__ = ("_claimed", "_count", "_database", "_has_ended", "_last", "keeps_all")

    def __init__(self, claimed: Claimed, database: Database, *, keeps_all: bool = False) -> None:
        #: Whether it keeps what the body logs by `logging`, too.
        self.keeps_all = keeps_all
        self._claimed = claimed
        self._database = database
        self._count = 0
        self._last: deque[_Said] = deque(maxlen=LAST_LINES)
        self._has_ended = False

    def keep(self, level: int, message: str) -> None:
        """Keep a line; of more than a run may have, the first and the last ones."""
        if self._has_ended:
            return
        self._count += 1
        said = _Said(
            self._count,
            time.monotonic(),
            logging.getLevelName(level).lower(),
            sanitize(message, MAX_LINE_BYTES),
        )
        if self._count <= FIRST_LINES:
            self._hand_over(said)
            return
        if self._count == FIRST_LINES + 1:
            self._hand_over(said._replace(message=_FULL))
        self._last.append(said._replace(number=self._count + 1))

    def keep_record(self, record: logging.LogRecord) -> None:
        """Keep what was logged, with its traceback."""
        self.keep(record.levelno, _text_of(record))

    @property
    def has_lines(self) -> bool:
        return self._count > 0

    def end(self) -> None:
        """The run is over: nothing is kept any more. Waits until what was is written, but not for long."""
        self._has_ended = True
        if not self._count:
            return
        if self._last and (left_out := self._last[0].number - FIRST_LINES - 2):
            first = self._last[0]
            said = first._replace(number=first.number - 1, message=f"[{left_out:,} lines left out]")
            self._hand_over(said)
        for said in self._last:
            self._hand_over(said)
        if not _writer.settle(LONGEST_WAIT):
            log.warning("[job %d] its log is not written yet: it goes on", self._claimed.id)

    def _hand_over(self, said: _Said) -> None:
        _writer.put(_Item(self._database, self._claimed, said))


class KeepingHandler(logging.Handler):
    """Keeps what a body logs by `logging`, where its task or the worker wants that."""

    def emit(self, record: logging.LogRecord) -> None:
        from cronqueue.context import running_job

        # Our own loggers tell of jobs from outside; a job's own one keeps its lines itself.
        if record.levelno < logging.INFO or record.name.partition(".")[0] == "cronqueue":
            return
        job = running_job()
        if job is not None and job.kept is not None and job.kept.keeps_all:
            job.kept.keep_record(record)


def hear_logging(keep_log: str = "own") -> None:
    """From here on hear what bodies log by `logging`, if any task or the worker wants it kept.

    After the user's modules are imported: one of them may set up logging anew.
    """
    wanted = keep_log == "all" or any(task.keep_log for task in all_tasks().values())
    root = logging.getLogger()
    if wanted and not any(isinstance(each, KeepingHandler) for each in root.handlers):
        root.addHandler(KeepingHandler())


def record_of(level: int, message: object, arguments: Any, exc_info: Any) -> logging.LogRecord:
    """What a logger would make of this."""
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    elif exc_info and not isinstance(exc_info, tuple):
        exc_info = sys.exc_info()
    return logging.LogRecord("", level, "", 0, message, arguments, exc_info or None)


_FULL = f"[a run keeps {FIRST_LINES} lines; of what follows the last {LAST_LINES} are written at its end]"


class _Said(NamedTuple):
    number: int
    at: float
    level: str
    message: str


class _Item(NamedTuple):
    database: Database
    claimed: Claimed
    said: _Said


class _LogWriter:
    """Writes the lines of all jobs of this process, from one thread."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[_Item | threading.Event] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_running = False

    def put(self, item: _Item | threading.Event) -> None:
        """Write it soon; an event is set when all before it is written."""
        self._inbox.put(item)
        if not self._is_running:
            with self._lock:
                if not self._is_running:
                    self._is_running = self._can_start()

    def settle(self, seconds: float) -> bool:
        """Wait until all that was put is written; False when that takes longer."""
        written = threading.Event()
        self.put(written)
        return written.wait(seconds if self._is_running else 0)

    def _can_start(self) -> bool:
        """Without a thread lines wait for the next one that is put."""
        try:
            threading.Thread(target=self._run, name="sched-log", daemon=True).start()
        except RuntimeError:
            log.debug("no thread can be had for the log lines of jobs")
            return False
        return True

    def _run(self) -> None:
        while (first := self._next(_IDLE_SECONDS)) is not None or not self._may_end():
            if first is not None:
                self._write(self._gather(first))

    def _next(self, seconds: float) -> _Item | threading.Event | None:
        with suppress(queue.Empty):
            return self._inbox.get(timeout=max(seconds, 0))
        return None

    def _may_end(self) -> bool:
        with self._lock:
            self._is_running = False  # first: who puts something from now on starts another
            self._is_running = not self._inbox.empty()
            return not self._is_running

    def _gather(self, first: _Item | threading.Event) -> list[_Item | threading.Event]:
        """What comes within the period, or until somebody waits; and whatever is there by then."""
        items, until = [first], time.monotonic() + PERIOD
        while not isinstance(items[-1], threading.Event):
            item = self._next(until - time.monotonic())
            if item is None:
                return items
            items.append(item)
        with suppress(queue.Empty):
            while True:
                items.append(self._inbox.get_nowait())
        return items

    def _write(self, items: list[_Item | threading.Event]) -> None:
        by_database: dict[Database, list[_Item]] = {}
        for item in items:
            if isinstance(item, _Item):
                by_database.setdefault(item.database, []).append(item)
        for database, said in by_database.items():
            for start in range(0, len(said), _BATCH):
                _write_for_sure(database, said[start : start + _BATCH])
        for item in items:
            if isinstance(item, threading.Event):
                item.set()


def _write_for_sure(database: Database, items: list[_Item]) -> None:
    """Again while the database is away: the fence decides what is wanted by then. Not for ever."""
    while True:
        now = time.monotonic()
        try:
            with answers_within(SHORT):
                write_lines(database, [_as_new(item, now) for item in items])
            return
        except Exception as error:
            if not is_outage(error) or now - items[0].said.at > _LONGEST_OUTAGE:
                log.warning("%d log lines of jobs are lost: %s", len(items), first_line(error))
                return
        time.sleep(PERIOD)


def _as_new(item: _Item, now: float) -> NewLine:
    claimed, said = item.claimed, item.said
    return NewLine(
        claimed.id,
        claimed.lock_token,
        claimed.token,
        said.number,
        claimed.attempt,
        now - said.at,
        said.level,
        said.message,
    )


_writer = _LogWriter()


def _start_anew() -> None:
    """The thread is our parent's; what we say ourselves is written by one of our own."""
    global _writer
    _writer = _LogWriter()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


_formatter = logging.Formatter()


def _text_of(record: logging.LogRecord) -> str:
    words = "(a line that cannot be written as text)"
    with suppress(Exception):  # a __str__ of the user's that fails
        words = str(record.msg)
        words = record.getMessage()
    if record.exc_info:
        with suppress(Exception):
            words += f"\n{_formatter.formatException(record.exc_info)}"
    return words
