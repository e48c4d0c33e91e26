"""Pings: an address that hears when a run starts and how it ended, and calls for help when it hears nothing.

As healthchecks.io has it, and others after it: the address itself for a success, `/start` and `/fail` behind
its path for the rest. Taken from the rows, so a run that was killed is no success, whoever could say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

from cronsched.alerts.runs import Run
from cronsched.triggers import to_text

Event = Literal["start", "success", "fail"]

# Whoever waits for a sign of life has called for help by then.
FRESH = timedelta(minutes=10)
_EVENTS: dict[str | None, Event] = {"running": "start", "succeeded": "success", "failed": "fail"}


@dataclass(frozen=True, slots=True)
class Ping:
    """One event of one run, for the address of its schedule."""

    event: Event
    url: str
    schedule: str
    planned_for: datetime

    @property
    def mark(self) -> tuple[str, str, datetime]:
        return (f"ping-{self.event}", self.schedule, self.planned_for)

    @property
    def body(self) -> str:
        """The same text for the same event, so that it can be found again."""
        run = {"schedule": self.schedule, "planned_for": to_text(self.planned_for)}
        return json.dumps({"url": address(self.url, self.event), **run}, sort_keys=True)

    @property
    def start(self) -> Ping:
        """The start of the same run. Heard after its end, it would begin one that never ends."""
        return Ping("start", self.url, self.schedule, self.planned_for)


def find_pings(
    schedule: str, url: str, runs: list[Run], marks: Set[tuple[str, datetime]], now: datetime
) -> Iterator[Ping]:
    """What the address has not heard of."""
    for run in runs:
        event = _EVENTS.get(run.verdict)
        moment = run.started_at if event == "start" else run.ended_at
        if event is None or moment is None or moment <= now - FRESH:
            continue
        ping = Ping(event, url, schedule, run.planned_for)
        if (ping.mark[0], run.planned_for) not in marks:
            yield ping


def address(url: str, event: Event) -> str:
    """The address of an event: that of a success stands for itself."""
    if event == "success":
        return url
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{event}").geturl()
