"""What is allowed in a schedule, and often not meant."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cronsched.definition import Definition
from cronsched.lints import Surroundings, lint
from cronsched.triggers import Every, Once, cron_trigger

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def declared(
    cron: str = "5 4 * * *", tz: str = "UTC", name: str = "s", **options: Any
) -> Definition:
    return Definition(name, "t", cron_trigger(cron, tz=tz, hash_name=name), **options)


def messages(*definitions: Definition, **known: Any) -> list[str]:
    return [each.message for each in lint(definitions, NOW, Surroundings(**known))]


@pytest.mark.parametrize(
    ("definition", "complaint"),
    [
        (declared(end=NOW - timedelta(days=1)), "never runs"),
        (Definition("s", "t", Once((NOW - timedelta(days=1),))), "never runs"),
        (declared("0 6 1 * mon"), "runs on every day that matches either"),
        (declared("0 6 31 * *"), "asks for day 31"),
        (declared("*/7 * * * *"), "minute '*/7' is uneven: the last step of each round is 4 long"),
        (declared("0 */5 * * *"), "hour '*/5' is uneven"),
        (declared("*/15 2 * * *", "Europe/Berlin"), "does not run in hour 2 of 2026-03-29"),
        (declared("*/15 1 * * *", "Europe/London"), "does not run in hour 1 of 2026-03-29"),
    ],
)
def test_what_is_odd_is_told(definition: Definition, complaint: str) -> None:
    (message,) = messages(definition)
    assert complaint in message


def test_an_hour_that_comes_twice_is_told_where_none_is_skipped() -> None:
    (message,) = messages(declared("*/15 0 * * *", "America/Havana"))
    assert "does not run in hour 0" in message or "twice as often in hour 0" in message


@pytest.mark.parametrize(
    "definition",
    [
        declared(),
        declared("@hourly"),
        declared("*/15 * * * *", "Europe/Berlin"),
        declared("30 2 * * *", "Europe/Berlin"),
        declared("0 6 L * *"),
        declared("0 6 * * mon-fri"),
        declared("0 6 */2 * mon"),
        declared("H H * * *"),
        declared(enabled=False, end=NOW - timedelta(days=1)),
        Definition("s", "t", Every(90)),
    ],
)
def test_what_is_not_odd_is_not_told(definition: Definition) -> None:
    assert messages(definition, queues=frozenset({"default"})) == []


def test_runs_that_take_longer_than_their_period_are_told() -> None:
    known = {"durations": {"t": timedelta(minutes=65)}}
    (message,) = messages(declared("5 * * * *"), **known)
    assert message == "takes 1h 5m and comes every 1h: runs will overlap (overlap='skip')"
    assert messages(declared("5 * * * *", overlap="allow"), **known) == []
    (message,) = messages(declared(timeout=timedelta(minutes=5)), **known)
    assert "longer than its timeout" in message


def test_a_queue_that_no_worker_takes_is_told() -> None:
    (message,) = messages(declared(queue="mail"), queues=frozenset({"default"}))
    assert "no worker takes queue 'mail'" in message


def test_times_of_another_release_are_told() -> None:
    (message,) = messages(declared(), other_releases={"s": "croniter 6"})
    assert "were computed by croniter 6" in message


def test_a_herd_is_told_once_and_not_when_it_is_spread() -> None:
    herd = [declared("0 0 * * *", name=f"s{number:02}") for number in range(12)]
    (message,) = messages(*herd)
    assert message.startswith("12 schedules come at 2026-01-03 00:00:00 UTC together")
    spread = [declared("0 0 * * *", name=f"s{n}", jitter=timedelta(minutes=5)) for n in range(12)]
    assert messages(*spread) == []
