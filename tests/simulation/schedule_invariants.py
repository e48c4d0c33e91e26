"""What must hold of schedules: one run of a guard at a time, one job for each occurrence."""

from __future__ import annotations

from collections.abc import Iterator

from simulation.history import Change, History, JobRow, LedgerChange
from simulation.replay import Rules, Violation, changes, follow, is_claim, violation_of


def guards_never_overlap(history: History, rules: Rules) -> Iterator[Violation]:
    """Of the jobs of one guard at most one runs."""
    rows: dict[int, JobRow] = {}
    for change in changes(history):
        follow(rows, change)
        row = change.after
        if row is None or row.guard is None or row.state != "running":
            continue
        if row.slot is None:
            if is_claim(change) and not row.guard.startswith("free"):
                yield violation_of(change, "claimed without its guard")
            continue
        for other in rows.values():
            if other.id != row.id and other.guard == row.guard and other.state == "running":
                yield violation_of(change, f"runs beside job {other.id} of the same guard")


def occurrences_are_written_once(history: History, rules: Rules) -> Iterator[Violation]:
    """One line in the ledger and one job for each occurrence."""
    lines: set[tuple[str, str]] = set()
    jobs: dict[tuple[str, str], int] = {}
    gone: set[int] = set()
    for event in history:
        if isinstance(event, LedgerChange) and event.after is not None and event.before is None:
            place = (event.after.schedule, event.after.planned_for)
            if place in lines:
                yield Violation(event.at, f"occurrence {place} is written twice")
            lines.add(place)
        if not isinstance(event, Change):
            continue
        if event.after is None:
            gone.add(event.job_id)
        row = event.after
        if event.before is not None or row is None or row.schedule is None:
            continue
        assert row.planned_for is not None
        place = (row.schedule, row.planned_for)
        if place in jobs and jobs[place] not in gone:
            yield violation_of(event, f"a second job for occurrence {place}")
        jobs[place] = row.id
