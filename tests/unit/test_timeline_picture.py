"""The picture of a timeline: bars where their jobs are, near ones as one, labels that have room."""

from __future__ import annotations

from datetime import timedelta

from cronqueue.overview import Percentiles
from cronsched.timeline import Coming, Lane, Run, Timeline, load_of
from cronsched.web.timeline_picture import HEADING, LANE, LEFT, TOP, WIDTH, Box, draw
from job_rows import NOW, at

HOUR = timedelta(hours=1)


def boxes(*, runs: tuple[Run, ...] = (), coming: tuple[Coming, ...] = ()) -> tuple[Box, ...]:
    took = Percentiles(9, 60.0, 300.0, 300.0)
    lane = Lane("s", True, "default", "active", None, None, took, runs, coming)
    timeline = Timeline(NOW - HOUR, NOW, NOW + HOUR, (lane,), 1, False, NOW + HOUR)
    (row,) = draw(timeline, load_of(timeline, timedelta(minutes=1)), "UTC").rows
    return row.boxes


def test_a_run_is_as_long_as_it_took_and_its_wait_stands_before_it() -> None:
    (box,) = boxes(runs=(Run(7, "succeeded", at(-1800), at(-1200), at(-600), None),))
    unit = (WIDTH - LEFT) / 7200
    assert box.x == round(LEFT + 2400 * unit, 1)
    assert abs(box.width - 600 * unit) < 0.2
    assert box.wait == round(LEFT + 1800 * unit, 1)
    assert "after 10m, waited 10m" in box.title


def test_a_job_to_come_is_as_long_as_the_median_with_a_line_to_the_95th_percentile() -> None:
    (box,) = boxes(coming=(Coming(at(600), 7, None, False),))
    assert (box.kind, box.job_id) == ("queued", 7)
    assert box.whisker is not None
    assert 4.5 < (box.whisker - box.x) / box.width < 5.5


def test_what_lies_too_near_is_one_bar_with_its_failures_upon_it() -> None:
    states = ("succeeded", "failed", "succeeded")
    runs = tuple(Run(n, state, at(-n), at(-n), at(-n), None) for n, state in enumerate(states))
    drawn = [(box.kind, box.count, box.job_id) for box in boxes(runs=runs)]
    assert drawn == [("succeeded", 2, None), ("failed", 1, 1)]


def test_written_held_and_computed_jobs_are_never_one_bar() -> None:
    coming = (
        Coming(at(600), 1, None, False),
        Coming(at(601), 2, "paused", False),
        Coming(at(602), None, None, False),
    )
    assert [box.kind for box in boxes(coming=coming)] == ["queued", "held", "beyond"]


def test_lanes_stand_under_their_queues_where_there_are_several() -> None:
    def drawn(*lanes: tuple[str, bool, str]) -> list[tuple[str | None, int]]:
        made = tuple(
            Lane(name, is_schedule, queue, "active", None, None, None, (), ())
            for name, is_schedule, queue in lanes
        )
        timeline = Timeline(NOW - HOUR, NOW, NOW + HOUR, made, 1, False, NOW + HOUR)
        return [(row.heading, row.y) for row in draw(timeline, [], "UTC").rows]

    assert drawn(("a", True, "q"), ("b", True, "q")) == [(None, TOP), (None, TOP + LANE)]
    (first, _), (second, y), (last, _) = drawn(
        ("a", True, "q"), ("b", True, "r"), ("t", False, "r")
    )
    assert (first, second, last) == ("queue q", "queue r", "jobs without a schedule")
    assert y == TOP + LANE + 2 * HEADING


def test_a_change_of_the_clocks_is_labelled() -> None:
    now = NOW.replace(month=3, day=29, hour=0)
    timeline = Timeline(now - HOUR, now, now + 2 * HOUR, (), 1, False, now + 2 * HOUR)
    labels = [tick.label for tick in draw(timeline, [], "Europe/Berlin").ticks]
    assert "03:00 clocks change" in labels
    assert "02:00" not in labels
