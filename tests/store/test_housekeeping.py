"""Housekeeping: each duty at its own time, and full batches one soon after another."""

from __future__ import annotations

import pytest

from cronqueue import housekeeping, prune
from cronqueue.clock import boottime
from cronqueue.database import Database
from cronqueue.housekeeping import BATCH_PAUSE, SWEEP_PERIOD, Housekeeping
from cronqueue.settings import Settings
from job_rows import add, at, states


def test_what_came_too_late_ends_in_batches_soon_after_one_another(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 2)
    monkeypatch.setattr(prune, "BATCH", 2)
    for _ in range(3):
        add(database, expires_at=at(-1))
    keeping, now = Housekeeping(database, Settings()), boottime()

    keeping.turn(now)
    assert sorted(states(database)) == ["queued", "skipped", "skipped"]
    assert keeping.next_duty(now) == pytest.approx(BATCH_PAUSE)
    keeping.turn(now + BATCH_PAUSE)
    assert states(database) == ["skipped"] * 3
    assert keeping.next_duty(now + BATCH_PAUSE) <= SWEEP_PERIOD


def test_a_duty_that_failed_is_due_again_after_a_pause(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise RuntimeError("no")

    keeping, now = Housekeeping(database, Settings()), boottime()
    monkeypatch.setattr(housekeeping, "expire", fail)
    with pytest.raises(RuntimeError, match="no"):
        keeping.turn(now)
    assert keeping.next_duty(now) > 0
