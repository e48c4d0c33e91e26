"""Splay groups: a stretch of time shared out evenly, the same for everybody with the same files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cronsched.definition import Definition, DefinitionFaults
from cronsched.loader import load
from cronsched.manifest import Manifest
from cronsched.planner import upcoming
from cronsched.splaying import share_out
from cronsched.triggers import Cron

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOURLY = Definition("a", "t", Cron("0 * * * *"), jitter=10 * MINUTE, splay="g")
NAMES = "edcba"


def due(made: Definition) -> timedelta:
    (planned,) = upcoming(made, NOON, 1)
    return planned.run_at - planned.planned_for


def test_the_stretch_is_shared_out_evenly_by_name_whatever_the_order() -> None:
    for names in (NAMES, reversed(NAMES)):
        shared = share_out(replace(HOURLY, name=name) for name in names)
        assert {made.name: due(made) for made in shared} == {
            name: number * 2 * MINUTE for number, name in enumerate("abcde")
        }


def test_groups_do_not_count_one_another_and_others_stay_as_they_are() -> None:
    alone = replace(HOURLY, name="z", splay=None)
    other = replace(HOURLY, name="y", splay="other")
    shared = {made.name: made for made in share_out([alone, other, HOURLY])}
    assert shared["z"] == alone
    assert (due(shared["y"]), due(shared["a"])) == (0 * MINUTE, 0 * MINUTE)


def test_the_order_of_occurrences_is_kept_where_they_are_closer_than_the_stretch() -> None:
    often = replace(HOURLY, trigger=Cron("* * * * *"), splay_place=9, splay_places=10)
    assert [each.run_at - each.planned_for for each in upcoming(often, NOON, 3)] == [
        timedelta(seconds=54)
    ] * 3


def test_a_place_is_part_of_the_times_and_survives_storage() -> None:
    first, second = share_out([HOURLY, replace(HOURLY, name="b")])
    assert Definition.from_json(second.to_json()) == second
    assert due(Definition.from_json(second.to_json())) == 5 * MINUTE
    assert first.timing_hash != HOURLY.timing_hash
    assert "splay" not in replace(HOURLY, splay=None).to_json()


def test_a_group_needs_a_stretch_to_spread_over() -> None:
    with pytest.raises(DefinitionFaults, match="splay='g' needs jitter="):
        replace(HOURLY, jitter=timedelta(0))


def test_a_group_reaches_over_all_files(tmp_path: Path) -> None:
    for name in "ab":
        declared = f"@hourly(jitter='10m', splay='g', name='{name}')\ndef f(): ...\n"
        (tmp_path / f"{name}.py").write_text(f"from cronsched import hourly\n{declared}")
    tmp_path.chmod(0o755)
    found = Manifest.from_json(load(tmp_path).to_json())
    assert [due(made) for made in found.schedules] == [0 * MINUTE, 5 * MINUTE]
