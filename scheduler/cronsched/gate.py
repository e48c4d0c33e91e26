"""The gate's judge: the rules of the stored definitions, applied to the jobs that have come to the gate.

cronqueue finds it by the entry point `cronqueue.admission`. It reads the database only: which files a
worker has loaded does not matter.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from cronqueue.admission import Contender, Ruling
from cronsched.catchup import Policy
from cronsched.definition import Definition
from cronsched.overlap import judge as judge_by

log = logging.getLogger("cronsched.gate")


def judge(connection: Connection, contenders: Sequence[Contender], now: datetime) -> Ruling:
    """What becomes of each of them."""
    names = {each.schedule for each in contenders if each.schedule is not None}
    return judge_by(contenders, _read_policies(connection, names), now)


def guard_of(definition: Definition) -> str | None:
    """The guard of a schedule's jobs; None where nothing is decided at the gate.

    Schedules that overlap freely pass it for their catch-up, each by itself.
    """
    if definition.overlap != "allow":
        return definition.overlap_key or definition.name
    bounded = definition.catch_up_window is not None or definition.catch_up_limit is not None
    return definition.name if definition.catch_up != "all" or bounded else None


def policy_of(definition: Definition) -> Policy:
    """A schedule's rules at the gate."""
    return Policy(
        definition.overlap,
        definition.catch_up,
        definition.catch_up_window,
        definition.catch_up_limit,
        definition.misfire_after,
    )


_DEFINITIONS = {
    "postgresql": "SELECT name, definition FROM sched_schedules"
    " WHERE name = ANY(ARRAY(SELECT json_array_elements_text(CAST(:names AS json))))",
    "sqlite": "SELECT name, definition FROM sched_schedules"
    " WHERE name IN (SELECT value FROM json_each(:names))",
}


def _read_policies(connection: Connection, names: Iterable[str]) -> dict[str | None, Policy]:
    """By schedule. One that cannot be read has the default: a fault in it must not stop the others."""
    statement = text(_DEFINITIONS[connection.dialect.name])
    policies: dict[str | None, Policy] = {}
    for row in connection.execute(statement, {"names": json.dumps(sorted(names))}):
        try:
            policies[row.name] = _policy(json.loads(row.definition))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error(
                "schedule %s: its rules cannot be read, its jobs run one by one: %s",
                row.name,
                error,
            )
    return policies


def _policy(stored: Mapping[str, Any]) -> Policy:
    """Without the trigger: making that is a hundred times slower, and says nothing here."""
    window = stored["catch_up_window"]
    return Policy(
        stored["overlap"],
        stored["catch_up"],
        None if window is None else timedelta(seconds=window),
        stored["catch_up_limit"],
        timedelta(seconds=stored["misfire_after"]),
    )
