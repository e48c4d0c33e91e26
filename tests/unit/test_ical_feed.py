"""The timeline as a calendar, read back by our own reader of calendar files."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

from cronqueue.overview import Percentiles
from cronsched.ical_feed import MOST_EVENTS, calendar
from cronsched.ical_files import read_ical
from cronsched.timeline import Coming, Lane, Timeline
from job_rows import NOW, at

SECOND = timedelta(seconds=1)


def a_lane(*coming: Coming, name: str = "reports", **values: object) -> Lane:
    took = Percentiles(9, 90.0, 300.0, 300.0)
    return Lane(name, True, "q", "active", "every hour", None, took, (), coming)


def a_timeline(*lanes: Lane) -> Timeline:
    return Timeline(NOW, NOW, at(86400), lanes, 1, False, at(86400))


def values_of(text: str, name: str) -> list[str]:
    unfolded = text.replace("\r\n ", "")
    return re.findall(rf"^{name}:(.*?)\r$", unfolded, re.MULTILINE)


def test_an_event_begins_when_its_job_is_due_and_takes_as_long_as_it_usually_does(
    tmp_path: Path,
) -> None:
    feed = tmp_path / "feed.ics"
    coming = Coming(at(3600), 7, None, False, at(3600))
    feed.write_bytes(calendar(a_timeline(a_lane(coming))).encode())
    begins = at(3600).replace(microsecond=0)
    assert read_ical(feed) == ([], [(begins, begins + 90 * SECOND)])


def test_an_occurrence_keeps_its_uid_when_it_is_written_and_when_it_is_moved() -> None:
    told = [
        calendar(a_timeline(a_lane(each)))
        for each in (
            Coming(at(3600), None, None, False, at(3600)),
            Coming(at(3600), 7, None, False, at(3600)),
            Coming(at(5400), 7, None, True, at(3600)),
            Coming(at(3600), 7, "paused", False, at(3600)),
        )
    ]
    assert {uid for text in told for uid in values_of(text, "UID")} == {
        "reports-20260102T040405Z@cronqueue"
    }
    assert [values_of(text, "STATUS") for text in told] == [
        ["TENTATIVE"],
        ["CONFIRMED"],
        ["CONFIRMED"],
        ["TENTATIVE"],
    ]
    assert values_of(told[3], "SUMMARY") == ["reports (paused)"]


def test_events_of_different_occurrences_and_jobs_differ() -> None:
    lanes = (
        a_lane(*(Coming(at(60), each, None, False) for each in (1, 2))),
        a_lane(*(Coming(at(60), None, None, False, at(each)) for each in (60, 120)), name="a"),
        a_lane(Coming(at(60), None, None, False, at(60)), name="b"),
    )
    assert len(set(values_of(calendar(a_timeline(*lanes)), "UID"))) == 5


def test_names_get_neither_out_of_their_value_nor_their_line() -> None:
    name = "a;b,c\\d\nEND:VEVENT\r" + "ä" * 100
    text = calendar(a_timeline(a_lane(Coming(at(60), 1, None, False), name=name)))
    assert max(len(line.encode()) for line in text.split("\r\n")) <= 75
    (summary,) = values_of(text, "SUMMARY")
    assert summary == "a\\;b\\,c\\\\d\\nEND:VEVENT" + "ä" * 100
    assert values_of(text, "END") == ["VEVENT", "VCALENDAR"]


def test_what_runs_all_the_time_does_not_hide_the_others() -> None:
    often = a_lane(*(Coming(at(each), each, None, False) for each in range(1, MOST_EVENTS + 99)))
    seldom = a_lane(Coming(at(60), 9999, None, False), name="seldom")
    names = values_of(calendar(a_timeline(often, seldom)), "SUMMARY")
    assert (names.count("reports"), names.count("seldom")) == (MOST_EVENTS, 1)


def test_events_link_to_the_dashboard_where_it_is_known() -> None:
    lane = a_lane(Coming(at(60), 7, None, False, at(60)), Coming(at(90), None, None, False, at(90)))
    assert values_of(calendar(a_timeline(lane), "https://a.example/sched/"), "URL") == [
        "https://a.example/sched/jobs/7",
        "https://a.example/sched/schedules/reports",
    ]
    assert values_of(calendar(a_timeline(lane)), "URL") == []
