"""What a badge says of a schedule."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from cronsched.schedule_queries import ScheduleRow
from cronsched.web.badges import draw, word_of
from job_rows import NOW, at


def a_row(**values: object) -> ScheduleRow:
    row = {
        "name": "s",
        "words": "every hour",
        "tz": "UTC",
        "state": "active",
        "source": "a.py",
        "task": "t",
        "queue": "q",
        "priority": 0,
        "next_run": at(60),
        "last_run": at(-3600),
        "last_verdict": "succeeded",
        "covered_until": at(86400),
        "revision": 1,
        "description": None,
        "paused_at": None,
    }
    return ScheduleRow(**{**row, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({}, "ok"),
        ({"last_verdict": None, "last_run": None}, "not yet"),
        ({"last_verdict": "failed"}, "failing"),
        ({"last_verdict": "missed:window"}, "missed"),
        ({"last_verdict": "skipped:overlap:12"}, "skipped"),
        ({"last_verdict": "running"}, "running"),
        ({"last_verdict": "queued", "next_run": at(-30)}, "due"),
        ({"next_run": at(-300)}, "late"),
        ({"state": "paused", "last_verdict": "failed"}, "paused"),
        ({"state": "retired"}, "retired"),
        ({"next_run": None}, "ok"),
    ],
)
def test_a_badge_says_how_its_schedule_stands(values: dict[str, object], word: str) -> None:
    assert word_of(a_row(**values), NOW) == word


def test_a_name_stays_text_in_the_picture() -> None:
    name = "<script>alert(1)</script>\"'&"
    root = ElementTree.fromstring(draw(name, "ok"))
    assert [each.tag for each in root.iter() if "script" in each.tag] == []
    assert name in [each.text for each in root.iter()]
    assert root.attrib["aria-label"] == f"{name}: ok"
