"""Definitions: checked when made, equal JSON for equal meanings, deterministic delays."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronqueue.errors import DefinitionError
from cronsched.almanac import Almanac, OwnTrigger
from cronsched.definition import Definition, DefinitionFaults
from cronsched.options import read_options
from cronsched.planner import upcoming
from cronsched.triggers import Cron, Every, OpaqueTrigger, Trigger, Union

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURLY = Definition(name="reports.refresh", task="reports.refresh", trigger=Cron("0 * * * *"))
FULL = Definition(
    name="reports.morning",
    task="reports.send",
    trigger=Cron("30 7 * * *", "Europe/London", "skip", "both"),
    args_json='{"args":[7],"kwargs":{}}',
    source="reports.py",
    line=12,
    tz="Europe/London",
    dst_gap="skip",
    dst_overlap="both",
    priority=10,
    queue="reports",
    max_attempts=3,
    timeout=timedelta(seconds=90.5),
    jitter=timedelta(seconds=30),
    overlap="queue_one",
    overlap_key="reports",
    catch_up="all",
    catch_up_window=timedelta(hours=6),
    catch_up_limit=7,
    misfire_after=timedelta(minutes=5),
    start_within=timedelta(minutes=10),
    start=NOON,
    end=NOON + timedelta(days=90),
    enabled=False,
    horizon=timedelta(hours=48),
    tags=(("team", "billing"),),
    description="The morning report.",
    renamed_from="reports.early",
    on_remove="drain",
)


def test_a_definition_returns_from_json_as_it_was() -> None:
    for made in (HOURLY, FULL):
        assert Definition.from_json(made.to_json()) == made
        assert Definition.from_json(made.to_json()).to_json() == made.to_json()


def test_the_json_is_canonical() -> None:
    text = FULL.to_json()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_json_of_a_newer_release_is_refused() -> None:
    values = json.loads(HOURLY.to_json()) | {"phase_of_moon": "full"}
    with pytest.raises(DefinitionError, match="phase_of_moon: written by a newer release"):
        Definition.from_json(json.dumps(values))


TIMING = {
    "trigger": Cron("31 7 * * *", "Europe/London"),
    "jitter": timedelta(seconds=31),
    "start": NOON - HOUR,
    "end": None,
    "enabled": True,
}
PAYLOAD = {
    "args_json": '{"args":[8],"kwargs":{}}',
    "task": "reports.other",
    "priority": 11,
    "queue": "slow",
    "max_attempts": 4,
    "timeout": None,
    "overlap": "allow",
    "overlap_key": None,
    "catch_up": "none",
    "catch_up_window": HOUR,
    "catch_up_limit": 8,
    "misfire_after": HOUR,
    "start_within": None,
    "horizon": None,
    "tags": (),
    "description": None,
    "renamed_from": None,
    "on_remove": "cancel",
}


@pytest.mark.parametrize("option", TIMING)
def test_what_moves_occurrences_changes_the_timing_hash_alone(option: str) -> None:
    changed = replace(FULL, **{option: TIMING[option]})  # type: ignore[arg-type]
    assert changed.timing_hash != FULL.timing_hash
    assert changed.payload_hash == FULL.payload_hash
    assert changed.fingerprint != FULL.fingerprint


@pytest.mark.parametrize("option", PAYLOAD)
def test_what_a_job_carries_changes_the_payload_hash_alone(option: str) -> None:
    changed = replace(FULL, **{option: PAYLOAD[option]})  # type: ignore[arg-type]
    assert changed.timing_hash == FULL.timing_hash
    assert changed.payload_hash != FULL.payload_hash
    assert changed.fingerprint != FULL.fingerprint


def test_a_declaration_that_moves_in_its_file_stays_the_same() -> None:
    moved = replace(FULL, line=99, source="other.py")
    assert moved.fingerprint == FULL.fingerprint
    assert len(FULL.fingerprint) == 64


def test_occurrences_are_cut_by_start_and_end_which_belong_to_them() -> None:
    bounded = replace(HOURLY, start=NOON + HOUR, end=NOON + 3 * HOUR)
    found = list(bounded.occurrences(NOON - 9 * HOUR, NOON + 9 * HOUR))
    assert found == [NOON + HOUR, NOON + 2 * HOUR, NOON + 3 * HOUR]
    assert list(bounded.occurrences(NOON + 3 * HOUR, NOON + 9 * HOUR)) == [NOON + 3 * HOUR]


def test_a_disabled_schedule_has_no_occurrences() -> None:
    assert list(replace(HOURLY, enabled=False).occurrences(NOON, NOON + 9 * HOUR)) == []


def test_without_jitter_an_occurrence_is_due_at_its_instant() -> None:
    assert HOURLY.run_at(NOON, NOON + HOUR) == NOON


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.one_of(st.none(), st.integers(1, 10_000)))
def test_a_delay_stays_below_the_jitter_and_the_next_occurrence(
    into: int, jitter: int, distance: int | None
) -> None:
    made = replace(HOURLY, jitter=timedelta(seconds=jitter))
    planned = NOON + timedelta(seconds=into)
    following = None if distance is None else planned + timedelta(seconds=distance)
    limit = jitter if distance is None else min(jitter, distance)
    delay = made.run_at(planned, following) - planned
    assert (
        timedelta(0)
        <= delay
        <= max(timedelta(seconds=limit) - timedelta(microseconds=1), timedelta(0))
    )


def test_the_same_delay_is_drawn_everywhere_and_another_for_each_occurrence() -> None:
    made = replace(HOURLY, jitter=timedelta(seconds=600))
    delays = [made.run_at(NOON + hour * HOUR, None) - (NOON + hour * HOUR) for hour in range(400)]
    # Fixed for ever: rows that are written already hold it.
    assert delays[0] == timedelta(seconds=EXPECTED_DELAY)
    assert len(set(delays)) == 400
    mean = sum(delays, timedelta(0)) / 400
    assert timedelta(seconds=260) < mean < timedelta(seconds=340)
    other = replace(made, name="other")
    assert other.run_at(NOON, None) != made.run_at(NOON, None)


EXPECTED_DELAY = 264.628607


@given(st.integers(1, 4_000), st.integers(0, 20_000), st.integers(0, 100_000))
def test_jitter_moves_when_an_occurrence_is_due_and_never_which_one_it_is(
    period: int, jitter: int, into: int
) -> None:
    plain = replace(HOURLY, trigger=Every(period))
    jittered = replace(plain, jitter=timedelta(seconds=jitter))
    after = NOON + timedelta(seconds=into)
    expected, found = (upcoming(made, after, 20) for made in (plain, jittered))
    assert [one.planned_for for one in found] == [one.planned_for for one in expected]
    due = [one.run_at for one in found]
    # A delay longer than the period would otherwise swallow occurrences or change their order.
    assert due == sorted(set(due))
    # The one in the middle is due at the same moment wherever the look begins.
    assert upcoming(jittered, found[9].planned_for, 1)[0].run_at == due[10]


def test_a_trigger_of_an_own_class_is_stored_with_the_times_that_it_answered() -> None:
    told = Almanac(NOON, NOON + 9 * HOUR, tuple(NOON + number * HOUR for number in range(8)))
    trigger = OwnTrigger("app.Tides", "c0de", (("minutes", "745"),), told)
    made = Definition.from_json(replace(HOURLY, trigger=trigger).to_json())
    assert made.trigger == trigger
    assert made.almanacs == (told,)
    assert list(made.occurrences(NOON + HOUR, NOON + 3 * HOUR)) == [NOON + HOUR, NOON + 2 * HOUR]
    assert made.is_known(NOON, NOON + 9 * HOUR)
    assert not made.is_known(NOON, NOON + 10 * HOUR)
    with pytest.raises(OpaqueTrigger):
        list(made.occurrences(NOON, NOON + 10 * HOUR))


@pytest.mark.parametrize("nest", [lambda own: own, lambda own: Union((Every(60), own))])
def test_a_trigger_of_an_own_class_means_the_same_however_far_it_was_asked(
    nest: Callable[[Trigger], Trigger],
) -> None:
    def at(hours: int, first: int = 0) -> Definition:
        times = tuple(NOON + number * HOUR for number in range(first, hours))
        almanac = Almanac(NOON + first * HOUR, NOON + hours * HOUR, times)
        return replace(HOURLY, trigger=nest(OwnTrigger("app.Tides", "c0de", (), almanac)))

    short, long, odd = at(5), at(9, first=2), at(9)
    assert short.fingerprint == long.fingerprint
    assert not long.contradicts(short)
    assert long.continuing(short).almanacs == at(9).almanacs
    gap = Almanac(NOON, NOON + 9 * HOUR, odd.almanacs[0].times[:3])
    changed = replace(HOURLY, trigger=nest(OwnTrigger("app.Tides", "c0de", (), gap)))
    assert changed.fingerprint == short.fingerprint
    assert changed.contradicts(short)


def test_all_faults_of_a_definition_are_told_at_once() -> None:
    with pytest.raises(DefinitionFaults) as caught:
        Definition(
            name="no spaces",
            task="9lives",
            trigger=Every(60),
            tz="Mars",
            priority=2**40,
            queue="a,b",
            max_attempts=0,
            start=NOON,
            end=NOON - HOUR,
            renamed_from="no spaces",
        )
    messages = caught.value.messages
    starts = (
        "name 'no spaces'",
        "task name '9lives'",
        "tz 'Mars'",
        "priority",
        "queue",
        "max_attempts",
    )
    assert [
        text for text, start in zip(messages, starts, strict=False) if not text.startswith(start)
    ] == []
    assert messages[6] == (
        "end 2026-01-01T11:00:00Z lies before start 2026-01-01T12:00:00Z: nothing would ever run"
    )
    assert messages[7].startswith("renamed_from 'no spaces' is the schedule's own name")
    assert str(caught.value) == "; ".join(messages)


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("name", "has space", "name 'has space': letters, digits and _ . : - only"),
        ("name", "", "name '': letters"),
        ("tz", "Europe/Lonon", "did you mean 'Europe/London'?"),
        (
            "dst_gap",
            "shfit",
            "dst_gap 'shfit': did you mean 'shift'? choose one of 'shift', 'skip'",
        ),
        ("dst_overlap", None, "dst_overlap None: choose one of 'first', 'last', 'both'"),
        ("args", "abc", "args 'abc': give a list"),
        ("kwargs", [1], "kwargs [1]: give a dict"),
        ("priority", "high", "priority 'high': give a whole number"),
        ("queue", "", "queue '': a name is"),
        ("max_attempts", 0, "max_attempts 0: give a whole number"),
        ("timeout", 0, "timeout 0: at least 1s"),
        ("jitter", "5 minutes", "jitter: '5 minutes' is not a duration"),
        ("jitter", None, "jitter: a value of type NoneType is not a duration"),
        (
            "overlap",
            "queue",
            "choose one of 'skip', 'queue_one', 'queue_all', 'allow', 'cancel_running'",
        ),
        ("overlap_key", "", "overlap_key: give a text"),
        ("catch_up", "lates", "did you mean 'latest'?"),
        ("catch_up_window", "0s", "catch_up_window '0s': at least 1s"),
        ("catch_up_limit", 0, "catch_up_limit 0: give a whole number from 1 to 10000"),
        ("catch_up_limit", True, "catch_up_limit True: give a whole number"),
        ("misfire_after", -1, "misfire_after: -1 is not a duration"),
        ("start_within", "x", "start_within: 'x' is not a duration"),
        ("start", datetime(2026, 1, 1), "says no zone: write datetime(..., tzinfo=UTC)"),  # noqa: DTZ001
        ("end", "2026-01-01", "end '2026-01-01': give an aware datetime"),
        ("enabled", "no", "enabled 'no': give True or False"),
        ("horizon", 0, "horizon 0: at least 1s"),
        ("tags", ["a"], "tags ['a']: give a dict of texts"),
        ("tags", {"a": 1}, "tags {'a': 1}: give a dict of texts"),
        ("description", 5, "description: give a text"),
        ("renamed_from", "a b", "renamed_from 'a b': letters"),
        ("on_remove", "stop", "on_remove 'stop': choose one of 'cancel', 'drain'"),
        ("prority", 5, "option 'prority' is not known: did you mean 'priority'?"),
        ("xyzzy", 5, "option 'xyzzy' is not known: there are args, catch_up"),
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(
    option: str, value: Any, complaint: str
) -> None:
    values, faults = read_options(
        {option: value, "priority": 1} if option != "priority" else {option: value}
    )
    assert option not in values
    assert len(faults) == 1
    assert complaint in faults[0]


def test_options_are_read_into_one_form() -> None:
    values, faults = read_options(
        {
            "timeout": "2m",
            "jitter": 5,
            "start": NOON.replace(microsecond=7),
            "tags": {"b": "2", "a": "1"},
        }
    )
    assert faults == []
    assert values == {
        "timeout": timedelta(minutes=2),
        "jitter": timedelta(seconds=5),
        "start": NOON,
        "tags": (("a", "1"), ("b", "2")),
    }
