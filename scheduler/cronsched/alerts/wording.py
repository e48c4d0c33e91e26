"""A message as people read it: one line, and a text. Pure; nothing in it can be a header or move a cursor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_SUBJECT = 150
_COMMANDS = {
    "failed": "sched jobs failures",
    "missed": "sched schedules history {schedule}",
    "late": "sched schedules history {schedule}",
    "daemon": "sched workers list",
    "coverage": "sched workers list",
}


def subject_of(body: Mapping[str, Any]) -> str:
    """The line that stands in a list of mails."""
    alerts = body["alerts"]
    first = headline(alerts[0])
    more = f" (and {len(alerts) - 1} more)" if len(alerts) > 1 else ""
    return f"[sched] {first[:_LONGEST_SUBJECT]}{more}"


def text_of(body: Mapping[str, Any]) -> str:
    """What stands below it."""
    parts = [_paragraph(each) for each in body["alerts"]]
    return "\n\n".join(
        [*parts, f"Sent by cronqueue on {clean(body['host'])}, {_time(body['at'])}."]
    )


def headline(alert: Mapping[str, Any]) -> str:
    """One alert in one line."""
    subject, message = clean(alert["subject"]), clean(alert["message"])
    many = alert["count"] != 1
    match alert["kind"]:
        case "failed":
            times = f" {alert['count']} times" if many else ""
            return f"{subject} failed{times}: {message}"
        case "missed":
            return f"{subject} missed {_occurrences(alert['count'])}, {_last(many)}{message}"
        case "late":
            return f"{subject} is late, {_occurrences(alert['count'])}, {_last(many)}{message}"
    if alert["status"] == "resolved":
        return f"over: {message}"
    return message


def clean(text: Any) -> str:
    """Control characters made visible."""
    return _UNSAFE.sub(lambda found: ascii(found.group())[1:-1], str(text))


def _paragraph(alert: Mapping[str, Any]) -> str:
    lines = [headline(alert), f"  since {_time(alert['first_at'])}, last {_time(alert['last_at'])}"]
    if alert["kind"] == "failed":
        lines.append(f"  task {clean(alert['task'])}, queue {clean(alert['queue'])}")
    if alert.get("named"):
        what = "jobs" if alert["kind"] == "failed" else "planned for"
        lines.append(f"  {what} {', '.join(clean(each) for each in alert['named'])}")
    if alert["total"] > alert["count"] > 0:
        lines.append(f"  {alert['total']} in all")
    if alert["status"] == "firing":
        command = _COMMANDS.get(alert["kind"], "sched check")
        lines.append(f"  look: {command.format(schedule=clean(alert.get('schedule', '')))}")
    return "\n".join(lines)


def _occurrences(count: int) -> str:
    return "1 occurrence" if count == 1 else f"{count} occurrences"


def _last(many: bool) -> str:
    return "the last " if many else ""


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"
