"""Kinds of values on the command line. Each refuses what it is not with the accepted form."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import click

from cronqueue.states import STATES

# The ids of rows are 64 bits wide.
_MAX_ID = 2**63 - 1
# The units of a rate.
_MINUTES = {"s": 1 / 60, "min": 1.0, "m": 1.0, "h": 60.0, "d": 1440.0}
# As much of a value as a message repeats.
_SHOWN = 60


class Duration(click.ParamType[timedelta]):
    """90s, 5m, 2h, 1d."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        """The duration; a plain number counts seconds."""
        from cronqueue.durations import parse_duration

        try:
            return parse_duration(value)
        except ValueError:
            self.fail(
                f"{shown(value)} is no duration: write 90s, 5m, 2h, 1d or 1h30m,"
                " from 0 to 10 years",
                param,
                ctx,
            )


class Rate(click.ParamType[float]):
    """10, 10/min, 100/h: how many a minute."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The number per minute."""
        count, slash, unit = str(value).partition("/")
        minutes = _MINUTES.get(unit if slash else "min")
        if minutes is None or not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", count) or not float(count):
            self.fail(f"{shown(value)} is no rate: write 10/min, 100/h or 2/s", param, ctx)
        return float(count) / minutes


class Json(click.ParamType[Any]):
    """A JSON text of one kind."""

    name = "json"

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind
        self.expected = "list" if kind is list else "object"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """What the text means."""
        if not isinstance(value, str):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{shown(value)} is no JSON: {error}", param, ctx)
        except RecursionError:
            self.fail("nested too deeply: flatten the data", param, ctx)
        if not isinstance(found, self.kind):
            example = '["a", 1]' if self.kind is list else '{"name": "a"}'
            self.fail(f"{shown(value)} is no JSON {self.expected}: write {example}", param, ctx)
        return found


class JobId(click.ParamType[int]):
    """The number of a row."""

    name = "id"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number, if a row can have it."""
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) <= _MAX_ID):
            self.fail(f"{shown(value)} is no job's id: give a number such as 17", param, ctx)
        return int(text)


DURATION = Duration()
RATE = Rate()
JSON_LIST = Json(list)
JSON_OBJECT = Json(dict)
JOB_ID = JobId()
LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Of standard error: json is one object a line.  [SCHED_LOG_FORMAT]",
)


def job_filters(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which jobs are meant."""
    states = click.Choice(STATES)
    priority = click.IntRange(-(2**31), 2**31 - 1)
    for option in (
        click.option(
            "--max-priority", type=priority, metavar="N", help="Of this priority or a lower one."
        ),
        click.option(
            "--min-priority", type=priority, metavar="N", help="Of this priority or a higher one."
        ),
        click.option("--schedule", help="Of this schedule."),
        click.option("--task", help="Of this task."),
        click.option("--queue", help="Of this queue."),
        click.option(
            "--state", "states", multiple=True, type=states, help="In this state; repeatable."
        ),
    ):
        function = option(function)
    return function


def shown(value: object) -> str:
    """A value as a message repeats it."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def meant(name: str, known: Sequence[str]) -> str:
    """The suggestion that follows an unknown name; empty if none is near."""
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""
