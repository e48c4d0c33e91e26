"""What is told, and when: pure, a function of what stands open, what was found, and now.

What happens (a job fails) is counted under its cause. The first time it is told after `wait`, so that what
comes together is told together; after that once in `repeat`, with the count. What holds (no daemon) is told
when it has held for `wait`, again after each `repeat`, and once more when it has been over for `wait`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

# Of so many jobs or occurrences the newest are named.
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that happened to one job or one occurrence. `mark` tells it from all others."""

    kind: str
    cause: str
    subject: str
    message: str
    at: datetime
    mark: tuple[str, str, datetime]
    facts: Mapping[str, Any] = field(default_factory=dict)
    named: int | str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now."""

    kind: str
    cause: str
    subject: str
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """An alert that is open. `id` is None for a new one; `due_at` None when there is nothing to tell."""

    id: int | None
    cause: str
    kind: str
    subject: str
    message: str
    facts: Mapping[str, Any]
    count: int
    untold: int
    first_at: datetime
    last_at: datetime
    due_at: datetime | None = None
    told_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to gather before telling, and how often one cause is told at most."""

    wait: timedelta
    repeat: timedelta


@dataclass(frozen=True, slots=True)
class Decision:
    """The alerts that change, and those of them that are told now: as going on, or as over."""

    changed: tuple[Standing, ...]
    told: tuple[Standing, ...]


# The kinds that hold, and so may be over. The others happen.
HOLDING = ("daemon", "coverage")


def decide(
    standing: Sequence[Standing],
    incidents: Sequence[Incident],
    conditions: Sequence[Condition],
    pace: Pace,
    now: datetime,
    last_told: datetime | None = None,
    is_muted: Callable[[Standing], bool] = lambda alert: False,
) -> Decision:
    """What becomes of the open alerts. Messages are `wait` apart: `last_told` is when the last was made.

    What is muted goes on as it would, and is not told.
    """
    alerts = {each.cause: each for each in standing}
    for incident in incidents:
        alerts[incident.cause] = _counted(alerts.get(incident.cause), incident, pace, now)
    for condition in conditions:
        alerts[condition.cause] = _held(alerts.get(condition.cause), condition, pace, now)
    holding = {condition.cause for condition in conditions}
    may_tell = last_told is None or now >= last_told + pace.wait
    after = [
        each if each.cause in holding else _ended(each, pace, now, may_tell=may_tell)
        for each in alerts.values()
    ]
    told = [each for each in after if may_tell and _is_due(each, now) and not is_muted(each)]
    after = [_told(each, pace, now) if each in told else each for each in after]
    before = {each.cause: each for each in standing}
    return Decision(
        changed=tuple(each for each in after if each != before.get(each.cause)),
        told=tuple(told),
    )


def _counted(known: Standing | None, incident: Incident, pace: Pace, now: datetime) -> Standing:
    """One more of its cause."""
    if known is None:
        known = Standing(
            id=None,
            cause=incident.cause,
            kind=incident.kind,
            subject=incident.subject,
            message="",
            facts={},
            count=0,
            untold=0,
            first_at=incident.at,
            last_at=incident.at,
        )
    facts = dict(incident.facts)
    if incident.named != "":
        facts["named"] = [*known.facts.get("named", ()), incident.named][-MOST_NAMED:]
    soonest = now + pace.wait
    if known.told_at is not None:
        soonest = max(soonest, known.told_at + pace.repeat)
    return replace(
        known,
        message=incident.message,
        facts=facts,
        count=known.count + 1,
        untold=known.untold + 1,
        first_at=min(known.first_at, incident.at),
        last_at=max(known.last_at, incident.at),
        due_at=known.due_at or soonest,
    )


def _held(known: Standing | None, condition: Condition, pace: Pace, now: datetime) -> Standing:
    """It is there, or still there."""
    if known is None:
        known = Standing(
            id=None,
            cause=condition.cause,
            kind=condition.kind,
            subject=condition.subject,
            message="",
            facts={},
            count=1,
            untold=1,
            first_at=now,
            last_at=now,
            due_at=now + pace.wait,
        )
    return replace(known, message=condition.message, facts=dict(condition.facts), last_at=now)


def _ended(alert: Standing, pace: Pace, now: datetime, *, may_tell: bool) -> Standing:
    """What holds no more is over after a while, so that what comes and goes is told once."""
    if alert.kind in HOLDING:
        is_over = alert.told_at is None or (may_tell and now >= alert.last_at + pace.wait)
    else:
        is_over = (
            alert.untold == 0 and alert.told_at is not None and now >= alert.told_at + pace.repeat
        )
    return replace(alert, ended_at=now, due_at=None) if is_over else alert


def _is_due(alert: Standing, now: datetime) -> bool:
    if alert.ended_at is not None:
        return alert.kind in HOLDING and alert.told_at is not None
    # What has ended since it was seen last is not told as going on.
    if alert.kind in HOLDING and alert.last_at < now:
        return False
    return alert.due_at is not None and now >= alert.due_at


def _told(alert: Standing, pace: Pace, now: datetime) -> Standing:
    again = now + pace.repeat if alert.kind in HOLDING else None
    return replace(
        alert,
        untold=0,
        told_at=now,
        facts={key: value for key, value in alert.facts.items() if key != "named"},
        due_at=None if alert.ended_at is not None else again,
    )


def body_of(told: Iterable[Standing], host: str, now: datetime) -> dict[str, Any]:
    """A message as programs read it."""
    return {
        "format_version": 1,
        "host": host,
        "at": now.isoformat(),
        "alerts": [_entry(each) for each in told],
    }


def _entry(alert: Standing) -> dict[str, Any]:
    return {
        "kind": alert.kind,
        "status": "firing" if alert.ended_at is None else "resolved",
        "cause": alert.cause,
        "subject": alert.subject,
        "message": alert.message,
        # Since the last message, and since the cause was seen first.
        "count": alert.untold,
        "total": alert.count,
        "first_at": alert.first_at.isoformat(),
        "last_at": alert.last_at.isoformat(),
        **alert.facts,
    }
