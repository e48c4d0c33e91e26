"""What is told and when, decided from values alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cronsched.alerts.deciding import (
    MOST_NAMED,
    Condition,
    Decision,
    Incident,
    Pace,
    Standing,
    body_of,
    decide,
)
from cronsched.alerts.lateness import late_since
from cronsched.alerts.outbox import next_try
from cronsched.alerts.pings import address, find_pings
from cronsched.alerts.runs import Run
from cronsched.alerts.wording import subject_of, text_of
from cronsched.definition import Definition
from cronsched.triggers import Cron
from job_rows import at

PACE = Pace(wait=timedelta(seconds=30), repeat=timedelta(hours=1))
NO_DAEMON = Condition("daemon", "daemon", "daemon", "no daemon has been heard of")
HOURLY = Definition(name="h", task="t", trigger=Cron("0 * * * *"))


def failure(seconds: float, number: int = 1, cause: str = "failed:t:ValueError") -> Incident:
    facts = {"task": "t", "schedule": None, "queue": "default"}
    mark = ("failed", str(number), at(seconds))
    return Incident("failed", cause, "t", "ValueError: no", at(seconds), mark, facts, number)


class Line:
    """Looks one after another, as the database would keep what they leave."""

    def __init__(self) -> None:
        self.open: list[Standing] = []
        self.last_told: float | None = None

    def look(
        self, seconds: float, *incidents: Incident, conditions: Sequence[Condition] = ()
    ) -> Decision:
        last = None if self.last_told is None else at(self.last_told)
        made = decide(self.open, incidents, conditions, PACE, at(seconds), last)
        after = {each.cause: each for each in self.open}
        after |= {each.cause: replace(each, id=1) for each in made.changed}
        self.open = [each for each in after.values() if each.ended_at is None]
        if made.told:
            self.last_told = seconds
        return made

    def told(
        self, seconds: float, *incidents: Incident, conditions: Sequence[Condition] = ()
    ) -> list[tuple[str, int, bool]]:
        """What is told: of which kind, how many, and whether it is over."""
        made = self.look(seconds, *incidents, conditions=conditions)
        return [(each.kind, each.untold, each.ended_at is not None) for each in made.told]


def test_what_fails_together_is_told_once_with_its_count() -> None:
    line = Line()
    assert line.told(0, failure(0, 1), failure(0, 2)) == []
    assert line.told(10, failure(10, 3)) == []
    assert line.told(30) == [("failed", 3, False)]
    assert line.told(60) == []


def test_one_cause_is_told_again_once_in_a_while_with_what_came_since() -> None:
    line = Line()
    line.look(0, failure(0))
    assert line.told(30) == [("failed", 1, False)]
    for seconds in (40, 700, 1_400):
        assert line.told(seconds, failure(seconds)) == []
    assert line.told(30 + 3_600) == [("failed", 3, False)]
    assert line.open[0].count == 4


def test_a_cause_that_comes_no_more_is_forgotten_without_a_word() -> None:
    line = Line()
    line.look(0, failure(0))
    line.look(30)
    assert line.told(30 + 3_600) == []
    assert line.open == []
    line.look(4_000, failure(4_000))
    assert line.told(4_030) == [("failed", 1, False)]


def test_causes_that_are_due_together_are_one_message() -> None:
    line = Line()
    line.look(0, failure(0), failure(0, 2, "failed:u:KeyError"))
    assert line.told(30) == [("failed", 1, False), ("failed", 1, False)]


def test_messages_keep_their_distance_whatever_the_causes() -> None:
    line = Line()
    line.look(0, failure(0))
    line.look(20, failure(20, 2, "failed:u:KeyError"))
    assert line.told(30) == [("failed", 1, False)]
    assert line.told(50) == []
    assert line.told(60) == [("failed", 1, False)]


def test_a_condition_is_told_when_it_has_lasted_and_again_when_it_is_over() -> None:
    line = Line()
    assert line.told(0, conditions=[NO_DAEMON]) == []
    assert line.told(30, conditions=[NO_DAEMON]) == [("daemon", 1, False)]
    assert line.told(60, conditions=[NO_DAEMON]) == []
    assert line.told(70) == []
    assert line.told(95) == [("daemon", 0, True)]
    assert line.open == []


def test_a_condition_that_passes_at_once_is_told_to_nobody() -> None:
    line = Line()
    line.look(0, conditions=[NO_DAEMON])
    assert line.told(10) == []
    assert line.told(100) == []
    assert line.open == []


def test_a_condition_that_comes_and_goes_is_told_once() -> None:
    line = Line()
    line.look(0, conditions=[NO_DAEMON])
    assert line.told(30, conditions=[NO_DAEMON]) == [("daemon", 1, False)]
    for seconds in range(40, 600, 20):
        assert line.told(seconds, conditions=[NO_DAEMON] if seconds % 40 == 0 else []) == []


def test_a_condition_that_lasts_is_told_again() -> None:
    line = Line()
    line.look(0, conditions=[NO_DAEMON])
    line.look(30, conditions=[NO_DAEMON])
    assert line.told(3_000, conditions=[NO_DAEMON]) == []
    assert line.told(3_630, conditions=[NO_DAEMON]) == [("daemon", 0, False)]


def test_the_end_of_a_condition_waits_for_the_message_before_it() -> None:
    line = Line()
    line.look(0, conditions=[NO_DAEMON])
    line.look(30, conditions=[NO_DAEMON])
    line.look(40, failure(40))
    assert line.told(75) == [("daemon", 0, True), ("failed", 1, False)]


def test_a_message_names_the_newest_of_many() -> None:
    line = Line()
    line.look(0, *(failure(0, number) for number in range(1, 41)))
    made = line.look(30)
    entry = body_of(made.told, "host", at(30))["alerts"][0]
    assert entry["named"] == list(range(41 - MOST_NAMED, 41))
    assert (entry["count"], entry["total"], entry["status"]) == (40, 40, "firing")


def test_words_say_what_how_often_and_where_to_look() -> None:
    line = Line()
    line.look(0, failure(0, 7), failure(1, 8))
    body = body_of(line.look(31).told, "host", at(31))
    assert subject_of(body) == "[sched] t failed 2 times: ValueError: no"
    assert "jobs 7, 8" in text_of(body)
    assert "look: sched jobs failures" in text_of(body)


def test_a_stored_line_break_begins_no_line_of_ours() -> None:
    line = Line()
    line.look(0, replace(failure(0), message="ValueError: no\r\nBcc: all@example.com\x1b[2J"))
    body = body_of(line.look(30).told, "host", at(30))
    assert "\n" not in subject_of(body)
    assert "\nBcc" not in text_of(body)
    assert "\x1b" not in text_of(body)


def run(
    verdict: str | None = "queued",
    *,
    began: float | None = None,
    ended: float | None = None,
    moved: float | None = None,
) -> Run:
    started, finished, moved_to = (
        None if each is None else at(each) for each in (began, ended, moved)
    )
    return Run(at(0), moved_to, verdict, started, started, finished)


@pytest.mark.parametrize(
    ("verdict", "began", "ended", "moved", "now", "broken"),
    [
        ("queued", None, None, None, 599, []),
        ("queued", None, None, None, 600, ["start"]),
        ("running", 599, None, None, 601, []),
        ("running", 700, None, None, 701, ["start"]),
        ("succeeded", 300, 1_300, None, 1_400, ["finish"]),
        ("succeeded", 300, 1_100, None, 1_400, []),
        ("queued", None, None, None, 1_200, ["start", "finish"]),
        ("failed", 300, 1_300, None, 1_400, []),
        ("skipped:overlap:3", None, 900, None, 1_400, []),
        ("queued", None, None, 500, 700, []),
        ("succeeded", 700, 1_300, None, 1_300 + 3_600, []),
    ],
)
def test_a_run_is_late_when_it_breaks_what_its_schedule_promises(
    verdict: str,
    began: float | None,
    ended: float | None,
    moved: float | None,
    now: float,
    broken: list[str],
) -> None:
    made = replace(
        HOURLY, must_start_within=timedelta(minutes=10), must_finish_by=timedelta(minutes=20)
    )
    each = run(verdict, began=began, ended=ended, moved=moved)
    assert [fault.what for fault in late_since(made, each, at(now), timedelta(hours=1))] == broken


@pytest.mark.parametrize(
    ("by", "limit"),
    [("04:00", "2026-01-02 03:00:00"), ("07:30", "2026-01-02 06:30:00")],
)
def test_a_time_of_day_is_that_of_the_schedules_clock(by: str, limit: str) -> None:
    """NOW is 04:04 in Berlin."""
    made = replace(HOURLY, tz="Europe/Berlin", must_finish_by=by)
    day = timedelta(days=1) if by == "04:00" else timedelta(0)
    (fault,) = late_since(made, run(), at(2 * 86_400), timedelta(hours=1))
    assert str((fault.at - day).replace(tzinfo=None)) == limit


@pytest.mark.parametrize(
    ("url", "event", "expected"),
    [
        ("https://hc.example/a-b", "success", "https://hc.example/a-b"),
        ("https://hc.example/a-b/", "start", "https://hc.example/a-b/start"),
        ("https://hc.example/a?x=1", "fail", "https://hc.example/a/fail?x=1"),
    ],
)
def test_each_event_has_its_address(url: str, event: str, expected: str) -> None:
    assert address(url, event) == expected  # type: ignore[arg-type]


def test_a_run_pings_its_start_and_how_it_ended_each_once() -> None:
    url = "https://hc.example/a"
    marks: set[tuple[str, datetime]] = set()
    told = []
    for each in (run("running", began=1), run("running", began=1), run("succeeded", ended=5)):
        for ping in find_pings("h", url, [each], marks, at(6)):
            told.append(ping.event)
            marks.add((ping.mark[0], ping.planned_for))
    assert told == ["start", "success"]
    assert list(find_pings("h", url, [run("failed", ended=5)], set(), at(700))) == []


def test_tries_come_less_and_less_often() -> None:
    pauses = [next_try(attempts) for attempts in range(1, 9)]
    assert pauses == sorted(pauses)
    assert pauses[0] < timedelta(minutes=1) < pauses[-1] < timedelta(hours=1)
