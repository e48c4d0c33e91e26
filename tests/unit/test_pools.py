"""Pools: which executors a worker has, and what each of them takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cronqueue.claim import Band
from cronqueue.errors import ConfigurationError
from cronqueue.executorspec import ExecutorSpec, specs_of
from cronqueue.settings import Settings, load_settings

TEMPLATE = ExecutorSpec("", "w", "", Settings(), None, (), False, None, "", 0, 0, 0)


def executors(max_jobs: int | None = None, **settings: Any) -> list[ExecutorSpec]:
    chosen = load_settings(settings, environ={}).settings
    return specs_of(replace(TEMPLATE, settings=chosen, max_jobs=max_jobs))


def taken(**settings: Any) -> list[tuple[tuple[str, ...], int]]:
    return [(each.band.queues, each.settings.concurrency) for each in executors(**settings)]


def test_a_worker_without_pools_has_its_executors() -> None:
    assert taken(processes=2) == [((), 8)] * 2


def test_each_pool_is_an_executor_of_its_queue() -> None:
    assert taken(pools="mail:3,video:1") == [(("mail",), 3), (("video",), 1)]
    assert taken(pools={"mail": 3}) == [(("mail",), 3)]
    assert taken(pools=("a:b:2",)) == [(("a:b",), 2)]


def test_other_queues_are_taken_where_they_are_named() -> None:
    named = taken(pools="mail:3", queues="mail,web", concurrency=2)
    assert named == [(("web",), 2), (("mail",), 3)]
    assert taken(pools="mail:3", queues="mail") == [(("mail",), 3)]


def test_bounds_of_priority_hold_in_pools_too() -> None:
    (pool,) = executors(pools="mail:3", min_priority=5, exclude_queues="web")
    assert pool.band == Band(("mail",), (), 5, None)


def test_places_add_up() -> None:
    counts = {"pools": "mail:3,video:1", "queues": "web", "processes": 2, "concurrency": 4}
    assert load_settings(counts, environ={}).settings.places == 12
    assert load_settings({"pools": "mail:3"}, environ={}).settings.places == 3
    assert Settings().places == 8


def test_executors_share_the_number_of_jobs_after_which_the_worker_ends() -> None:
    shares = [each.max_jobs for each in executors(5, pools="a:1,b:1,c:1")]
    assert shares == [2, 2, 1]
    assert [each.band.queues for each in executors(1, pools="a:1,b:1")] == [("a",)]


@pytest.mark.parametrize("pools", ["mail", "mail:", ":3", "mail:0", "mail:x", "a:1,a:2", "mail:-1"])
def test_what_is_no_pool_is_refused(pools: str) -> None:
    with pytest.raises(ConfigurationError, match="pools"):
        load_settings({"pools": pools}, environ={})
