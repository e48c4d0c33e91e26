"""What operators have asked for by hand, as `sched_audit` has it. It outlives the jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text


@dataclass(frozen=True, slots=True)
class Acts:
    """The jobs that somebody ran, moved or edited, and by schedule the times that were filled in."""

    job_ids: set[int] = field(default_factory=set)
    backfilled: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=dict)

    def reach(self, schedule: str, planned_for: datetime, job_id: int | None) -> bool:
        """Whether one of them was about this occurrence."""
        spans = self.backfilled.get(schedule, ())
        return job_id in self.job_ids or any(start <= planned_for < end for start, end in spans)


def read_acts(connection: Connection) -> Acts:
    """All of them; what was filled in under an old name counts for the new one."""
    acts = Acts()
    for row in connection.execute(_ACTS):
        detail = _detail(row)
        name = row.target.removeprefix("schedule ")
        if row.action == "backfill" and "from" in detail:
            span = (datetime.fromisoformat(detail["from"]), datetime.fromisoformat(detail["to"]))
            acts.backfilled.setdefault(name, []).append(span)
        elif row.action == "rename":
            spans = acts.backfilled.pop(detail.get("renamed_from", ""), [])
            acts.backfilled.setdefault(name, []).extend(spans)
        elif row.target.startswith("job "):
            acts.job_ids.add(int(row.target.removeprefix("job ")))
        else:
            acts.job_ids.update(_numbers(detail.get("ids", ())))
    return acts


_ACTS = text("""
SELECT action, target, CAST(detail AS text) AS detail FROM sched_audit
WHERE action IN ('backfill', 'rename') OR target LIKE 'job %' OR target LIKE '% jobs' ORDER BY id
""")


def _detail(row: Row[Any]) -> dict[str, Any]:
    found = json.loads(row.detail or "{}")
    return found if isinstance(found, dict) else {}


def _numbers(values: Iterable[Any]) -> Iterable[int]:
    return (each for each in values if isinstance(each, int))
