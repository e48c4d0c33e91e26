"""Log lines: what a program reads of them."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cronqueue import context, current_job
from cronqueue.clock import utcnow
from cronqueue.database import Database
from cronqueue.logs import JsonFormatter, PlainFormatter

Line = Callable[[], dict[str, Any]]


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the user's."""
    yield (found := logging.getLogger("shop.mail"))
    found.handlers.clear()


@pytest.fixture
def written(log: logging.Logger) -> Line:
    """The one line that has been logged, read as a program would."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    keep = Keep()
    keep.setFormatter(JsonFormatter("host:7"))
    log.addHandler(keep)

    def read() -> dict[str, Any]:
        (line,) = lines
        assert "\n" not in line
        assert line.isascii()
        found: dict[str, Any] = json.loads(line)
        return found

    return read


def test_a_line_says_when_how_grave_who_and_what(log: logging.Logger, written: Line) -> None:
    log.warning("no room for %d\nletters", 3)
    line = written()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
    assert line == {
        "level": "warning",
        "logger": "shop.mail",
        "message": "no room for 3\nletters",
        "pid": os.getpid(),
        "worker": "host:7",
    }


def test_a_line_of_a_job_carries_the_job(log: logging.Logger, written: Line) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    context.enter(context.stand_in("mail.welcome", away, utcnow()))
    try:
        log.error("the server is down")
    finally:
        context.leave()
    line = written()
    told = {name: line.get(name) for name in ("job_id", "task", "attempt")}
    assert told == {"job_id": 0, "task": "mail.welcome", "attempt": 1}
    assert "schedule" not in line


def test_the_logger_of_a_job_names_it_once(caplog: pytest.LogCaptureFixture) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none")
    context.enter(context.stand_in("mail.welcome", away, utcnow()))
    try:
        with caplog.at_level(logging.INFO, "cronqueue.job"):
            current_job().logger.info("sent", extra={"letters": 3})
        (record,) = caplog.records
        line = json.loads(JsonFormatter().format(record))
    finally:
        context.leave()
    assert (line["job_id"], line["letters"], line["message"]) == (0, 3, "[job 0] sent")


def test_an_exception_stands_in_its_line(log: logging.Logger, written: Line) -> None:
    try:
        raise ValueError("broken\x1b[2J")
    except ValueError:
        log.exception("it failed")
    line = written()
    assert line["exception"].startswith("Traceback (most recent call last)")
    assert line["exception"].endswith("ValueError: broken\x1b[2J")


def test_what_is_no_json_is_written_as_text_and_ours_wins(
    log: logging.Logger, written: Line
) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    extra = {"user": {1, 2}, "odd": Odd(), "level": "mine", "name_of_ours": {("a",): 1}}
    log.error("x", extra=extra)
    line = written()
    assert (line["user"], line["odd"], line["level"]) == ("{1, 2}", "<Odd>", "error")
    assert line["name_of_ours"] == {}


@pytest.mark.parametrize("kind", ["no number", "a circle"])
def test_what_has_no_end_or_no_value_does_not_lose_its_line(
    log: logging.Logger, written: Line, kind: str
) -> None:
    circle: list[object] = []
    circle.append(circle)
    log.error("x", extra={"found": float("nan") if kind == "no number" else circle, "n": 1})
    line = written()
    assert (line["found"], line["n"]) == ("nan" if kind == "no number" else "[[...]]", "1")


def test_a_line_of_text_shows_control_characters() -> None:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "a\x1b[2Jb", (), None)
    assert PlainFormatter().format(record).endswith(" ERROR   a\\x1b[2Jb")


@pytest.mark.parametrize("other", [False, True])
def test_systemds_journal_gets_priorities_and_no_second_time(tmp_path: Path, other: bool) -> None:
    code = """if True:
    import logging
    from cronqueue.logs import log_to

    log_to(logging.INFO, logging.INFO)
    logging.warning("late by %d\\nminutes", 3)
    """
    with (tmp_path / "journal").open("wb") as journal:
        file = os.fstat(journal.fileno())
        stream = f"{file.st_dev}:{file.st_ino + other}"
        environ = os.environ | {"JOURNAL_STREAM": stream}
        subprocess.run([sys.executable, "-c", code], stderr=journal, env=environ, check=True)
    written = (tmp_path / "journal").read_text()
    if other:  # what a program hands on whose own stream it was
        assert written.endswith(" WARNING late by 3\nminutes\n")
    else:
        assert written == "<4>late by 3\n<4>minutes\n"


def test_logging_costs_the_help_of_a_worker_nothing() -> None:
    code = "import sys, cronsched.cli.worker; print('sqlalchemy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
