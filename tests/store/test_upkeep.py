"""Upkeep: what a supervisor asks the database for, and what it need not ask."""

from __future__ import annotations

import pytest

from cronqueue import upkeep as duties
from cronqueue.claim import Band
from cronqueue.clock import boottime
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronqueue.upkeep import LONGEST_SILENCE, LOOK_PERIOD, Upkeep
from job_rows import recorded_statements


def test_a_supervisor_that_has_just_looked_for_work_does_not_ask_whether_the_database_is_there(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep, now = Upkeep(database, Settings(), Band()), boottime()
    upkeep.turn(now, [], False)
    monkeypatch.setattr(duties, "boottime", lambda: now + LOOK_PERIOD)
    upkeep.probe([])

    with recorded_statements(database) as asked:
        upkeep._renew(now + LOOK_PERIOD, [])
    assert asked == []
    with recorded_statements(database) as asked:
        upkeep._renew(now + LOOK_PERIOD + LONGEST_SILENCE, [])
    assert bool(asked) is database.is_postgresql  # SQLite's clock is the machine's
    assert upkeep._contact.silent_for(now + LOOK_PERIOD + LONGEST_SILENCE) == 0
