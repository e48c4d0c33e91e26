"""Durations as people write them, and as messages show them."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronqueue.durations import MAX_DURATION, format_duration, format_rough, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("2h", 7_200),
        ("1d", 86_400),
        ("1w", 604_800),
        ("250ms", 0.25),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        (" 1 h 30 m ", 5_400),
        ("1.5h", 5_400),
        ("1w2d3h4m5s6ms", 788_645.006),
        ("0s", 0),
        ("90", 90),
        ("0.5", 0.5),
        (90, 90),
        (0, 0),
        (1.5, 1.5),
        (timedelta(minutes=5), 300),
        ("3653d", 3653 * 86_400),
    ],
)
def test_every_accepted_form_means_these_seconds(text: Any, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "s",
        "5 minutes",
        "5M",
        "5y",
        "5m5m",
        "30m1h",
        "1h30",
        "1,5h",
        ".5h",
        "1.h",
        "1e3",
        "+5s",
        "-5s",
        "-5",
        "nan",
        "inf",
        "٣s",
        "1_000",
        "a\0b\ud800",
        "9" * 100_000,
        "\U0001f600" * 100_000,
        "1" + " " * 100_000 + "s",
        "3653.1d",
        "999999999999w",
        -1,
        -0.001,
        10**30,
        10**5_000,
        1e300,
        float("nan"),
        float("inf"),
        True,
        None,
        b"5m",
        ["5m"],
        timedelta(seconds=-1),
        MAX_DURATION + timedelta(microseconds=1),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else "int",
)
def test_anything_else_is_refused_with_the_accepted_forms(value: Any) -> None:
    with pytest.raises(ValueError, match=r'is not a duration: give seconds.*"90s", "5m"') as caught:
        parse_duration(value)
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=90), "1m 30s"),
        (timedelta(hours=2), "2h"),
        (timedelta(days=3, hours=4, minutes=59), "3d 4h"),
        (timedelta(hours=1, seconds=5), "1h 5s"),
        (timedelta(weeks=2), "14d"),
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(seconds=1.5), "1s 500ms"),
        (timedelta(seconds=59, microseconds=999_999), "59s 999ms"),
        (timedelta(microseconds=500), "0.5ms"),
        (timedelta(seconds=-90), "-1m 30s"),
    ],
)
def test_a_duration_is_shown_in_at_most_two_units(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.timedeltas(timedelta(0), MAX_DURATION))
def test_what_is_shown_reads_back_shorter_by_less_than_its_last_unit(duration: timedelta) -> None:
    text = format_duration(duration)
    unit = parse_duration("1" + text.split()[-1].lstrip("0123456789."))

    assert duration - unit < parse_duration(text) <= duration


@given(st.integers(0, 3_000), st.integers(0, 23), st.integers(0, 59))
def test_combined_text_adds_up(days: int, hours: int, minutes: int) -> None:
    expected = timedelta(days=days, hours=hours, minutes=minutes)
    assert parse_duration(f"{days}d{hours}h{minutes}m") == expected


@given(st.text(alphabet="0123456789.wdhms -", max_size=12))
def test_any_text_is_a_duration_in_range_or_a_value_error(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert timedelta(0) <= duration <= MAX_DURATION


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.6764, "676ms"),
        (1.0, "1s"),
        (15.83, "15.8s"),
        (59.97, "60s"),
        (60.4, "1m"),
        (323.2, "5m 23s"),
    ],
)
def test_a_duration_is_told_roughly(seconds: float, text: str) -> None:
    assert format_rough(seconds) == text
