"""A supervisor goes on when an executor cannot be started, and when the database is away."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cronqueue.board import Board
from cronqueue.clock import boottime
from cronqueue.database import Database
from cronqueue.executorspec import ExecutorSpec
from cronqueue.housekeeping import Housekeeper, Housekeeping
from cronqueue.lease import renewal_period
from cronqueue.settings import Settings
from cronqueue.starting import Starter
from cronqueue.supervisor import Supervisor
from in_process import InProcess


@pytest.mark.parametrize("fault", [ConnectionRefusedError(), EOFError(), OSError("no space left")])
def test_an_executor_that_cannot_be_started_is_tried_again_after_a_pause(
    database: Database, fault: Exception
) -> None:
    answers: list[Any] = [fault, fault, "child", "child"]

    class Failing(Starter):
        def start(self, template: ExecutorSpec) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    supervisor: Any = Supervisor(InProcess(database)._spec, database, Failing())
    supervisor.close()
    now, supervisor._missing = boottime(), [supervisor._template] * 2
    supervisor._start_executors(now)
    supervisor._start_executors(now + 0.1)
    assert len(answers) == 3
    supervisor._start_executors(now + 10)
    assert (len(answers), len(supervisor._missing)) == (2, 2)
    supervisor._start_executors(now + 30)
    assert (supervisor._children, supervisor._missing) == (["child", "child"], [])


def test_housekeeping_begins_later_where_no_thread_can_be_had(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    housekeeper = Housekeeper(Housekeeping(database, Settings()))
    with monkeypatch.context() as patch:
        patch.setattr(threading, "_start_new_thread", _no_thread, raising=False)
        patch.setattr(threading, "_start_joinable_thread", _no_thread, raising=False)
        housekeeper.begin(100.0)
    assert not housekeeper.is_alive()
    housekeeper.begin(101.0)
    assert not housekeeper.is_alive()

    housekeeper.begin(110.0)

    assert housekeeper.is_alive()
    housekeeper.begin(111.0)
    housekeeper.stop()
    assert not housekeeper.is_alive()


def test_housekeeping_that_never_began_need_not_end(database: Database) -> None:
    Housekeeper(Housekeeping(database, Settings())).stop()


def test_files_that_cannot_be_looked_at_are_looked_at_later(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [OSError(errno.EMFILE, "Too many open files"), ("old",), ("new",)]

    def look(folder: Path) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr("cronqueue.supervisor.fingerprint", look)
    template = replace(InProcess(database)._spec, schedules=str(tmp_path))
    supervisor: Any = Supervisor(template, database)
    supervisor.close()

    for second in range(3):
        supervisor._start_executors(10.0 + 2 * second)

    assert supervisor._files.changed_at == 14.0


def test_a_board_that_the_disk_has_no_room_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*sched-board"):
            Board.create(1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("lease", [1, 5, 30, 600])
def test_after_an_outage_all_are_back_before_anybody_may_rescue(
    database: Database, lease: int
) -> None:
    settings = timedelta(seconds=lease)
    supervisor: Any = Supervisor(InProcess(database, lease=settings)._spec, database)
    supervisor.close()
    for second in range(100):
        supervisor._outage.failed(ConnectionError("refused"), float(second))
    assert supervisor._outage.pause <= renewal_period(settings) / 4


def _no_thread(*arguments: object, **keywords: object) -> None:
    raise RuntimeError("can't start new thread")
