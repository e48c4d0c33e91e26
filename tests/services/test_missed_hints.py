"""A hint that comes while every executor is busy is not lost."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cronqueue.claim import Band
from cronqueue.clock import boottime
from cronqueue.database import Database
from cronqueue.supervisor import Supervisor
from in_process import InProcess
from job_rows import add


@dataclass
class Busy:
    """An executor as far as hints go."""

    is_idle: bool = False
    is_retiring: bool = False
    is_ready: bool = False
    woken: int = 0
    tasks: tuple[str, ...] = ()
    spec: Any = field(default_factory=lambda: SimpleNamespace(band=Band()))

    def wake(self) -> None:
        self.woken += 1


class Hint:
    """A listener that has heard something."""

    def drain(self) -> bool:
        return True


@pytest.fixture
def supervisor(database: Database) -> Any:
    supervisor = Supervisor(InProcess(database)._spec, database)
    supervisor.close()
    supervisor._probe_at = float("inf")  # long before it would look by itself
    return supervisor


def test_an_executor_that_turns_idle_after_a_hint_is_woken(
    supervisor: Any, database: Database
) -> None:
    supervisor._children, supervisor._listener = [Busy()], Hint()
    add(database)
    supervisor._hear_hints()
    supervisor._probe(boottime())
    assert supervisor._children[0].woken == 0
    supervisor._children[0].is_idle = True
    supervisor._probe(boottime())
    assert supervisor._children[0].woken == 1


def test_without_a_hint_an_executor_that_turns_idle_is_left_alone(
    supervisor: Any, database: Database
) -> None:
    supervisor._children = [Busy(is_idle=True)]
    add(database)
    supervisor._probe(boottime())
    assert supervisor._children[0].woken == 0


def test_who_sees_that_a_job_is_due_looks_again_at_once_for_the_next_one(
    supervisor: Any, database: Database
) -> None:
    supervisor._children = [Busy(is_idle=True)]
    supervisor._settings = replace(supervisor._settings, sleep_delay=timedelta(hours=1))
    supervisor._probe_at = 0.0
    add(database)
    supervisor._probe(boottime())
    assert supervisor._children[0].woken == 1
    assert supervisor._probe_at < boottime() + 600


def of_pool(queue: str, **values: Any) -> Busy:
    return Busy(spec=SimpleNamespace(band=Band((queue,))), **values)


def test_a_hint_wakes_one_executor_of_each_pool(supervisor: Any) -> None:
    pools = [of_pool("mail", is_idle=True) for _ in range(2)]
    pools += [of_pool("video", is_idle=True), of_pool("web")]
    supervisor._children, supervisor._listener = list(pools), Hint()
    supervisor._hear_hints()
    supervisor._probe(boottime())
    assert [each.woken for each in pools] == [1, 0, 1, 0]


def test_what_is_due_for_a_full_pool_does_not_wake_the_others(
    supervisor: Any, database: Database
) -> None:
    mail, video = of_pool("mail"), of_pool("video", is_idle=True)
    supervisor._children, supervisor._probe_at = [mail, video], 0.0
    add(database, queue="mail")
    supervisor._probe(boottime())
    assert (mail.woken, video.woken) == (0, 0)
    add(database, queue="video")
    supervisor._probe_at = 0.0
    supervisor._probe(boottime())
    assert (mail.woken, video.woken) == (0, 1)
