"""Cron expressions: what they mean, judged by brute force over the calendar, and what is refused."""

import random
import time
from calendar import monthrange
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cronqueue.errors import DefinitionError
from cronsched.cronexpr import croniter_major, explicit, parse, split_zone, uses_hash
from cronsched.cronfields import KINDS, parse_field

START = datetime(2026, 1, 1)  # noqa: DTZ001 - wall clocks have no zone
MONTH_NAMES = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905
WEEKDAY_NAMES = "sun mon tue wed thu fri sat".split()  # noqa: SIM905


def times(expression: str, count: int = 3, start: datetime = START) -> list[str]:
    found = islice(parse(expression, "some.name").times(start), count)
    return [f"{one:%Y-%m-%d %H:%M:%S}" for one in found]


# A generated field is its text together with the values it was made from: nothing here parses. Values of
# the day fields beyond the numbers: "last" for the last day, (weekday, n) for `fri#2`, n = 0 for `friL`.
Values = set[int | str | tuple[int, int]]
Generated = tuple[str, Values]


def _item(draw: random.Random, low: int, high: int, names: list[str]) -> Generated:
    first, last = sorted((draw.randint(low, high), draw.randint(low, high)))

    def shown(value: int) -> str:
        return names[value - low] if names and draw.random() < 0.4 else str(value)

    kinds = "value value range round range/step */step value/step equal".split()  # noqa: SIM905
    kind = draw.choice(kinds)
    if kind == "value":
        return shown(first), {first}
    if kind == "equal":
        return f"{shown(first)}-{shown(first)}", {first}
    if kind == "range":
        return f"{shown(first)}-{shown(last)}", set(range(first, last + 1))
    if kind == "round":
        around = {*range(last, high + 1), *range(low, first + 1)} if first < last else {first}
        return f"{shown(last)}-{shown(first)}", set(around)
    if kind == "range/step":
        step = draw.randint(1, last - first + 1)
        return f"{shown(first)}-{shown(last)}/{step}", set(range(first, last + 1, step))
    if kind == "value/step":
        step = draw.randint(1, high - first + 1)
        return f"{first}/{step}", set(range(first, high + 1, step))
    step = draw.randint(1, high - low + 1)
    return f"*/{step}", set(range(low, high + 1, step))


def _special(draw: random.Random, high: int) -> Generated:
    if high == 31:
        return "L", {"last"}
    weekday, nth = draw.randint(0, 6), draw.randint(0, 5)
    name = draw.choice([str(weekday), WEEKDAY_NAMES[weekday]])
    return (f"{name}#{nth}" if nth else f"{name}L"), {(weekday, nth)}


def _field(draw: random.Random, low: int, high: int, names: list[str], star: float) -> Generated:
    if draw.random() < star:
        return "*", set(range(low, high + 1))
    items = [_item(draw, low, high, names) for _ in range(draw.randint(1, 3))]
    if high in (31, 6) and draw.random() < 0.15:
        items = [*items[1:], _special(draw, high)]
    return ",".join(text for text, _ in items), set().union(*(values for _, values in items))


def _expression(draw: random.Random) -> tuple[str, list[Values], bool]:
    fields = [
        _field(draw, 0, 59, [], 0.2),
        _field(draw, 0, 23, [], 0.2),
        _field(draw, 1, 31, [], 0.4),
        _field(draw, 1, 12, MONTH_NAMES, 0.5),
        _field(draw, 0, 6, WEEKDAY_NAMES, 0.4),
    ]
    both_days = fields[2][0].startswith("*") or fields[4][0].startswith("*")
    return " ".join(text for text, _ in fields), [values for _, values in fields], both_days


def _by_brute_force(values: list[Values], both_days: bool, days: int) -> Iterator[datetime]:
    minutes, hours, month_days, months, weekdays = values
    clock = [(hour, minute) for hour in range(24) for minute in range(60)]
    shown = [(hour, minute) for hour, minute in clock if hour in hours and minute in minutes]
    for number in range(days):
        date = START + timedelta(days=number)
        if date.month not in months:
            continue
        last, weekday = monthrange(date.year, date.month)[1], date.isoweekday() % 7
        day_fits = date.day in month_days or (date.day == last and "last" in month_days)
        in_month = {weekday, (weekday, (date.day - 1) // 7 + 1)}
        in_month |= {(weekday, 0)} if date.day + 7 > last else set()
        weekday_fits = not weekdays.isdisjoint(in_month)
        if (day_fits and weekday_fits) if both_days else (day_fits or weekday_fits):
            yield from (date + timedelta(hours=hour, minutes=minute) for hour, minute in shown)


def test_times_are_the_same_for_whoever_reads_how_much_of_them() -> None:
    noon = parse("0 12 * * *")
    readers = [noon.times(START) for _ in range(3)]
    together = [tuple(next(reader) for reader in readers) for _ in range(100)]
    expected = [START + timedelta(days=day, hours=12) for day in range(100)]
    assert together == [(time, time, time) for time in expected]
    assert list(islice(noon.times(START), 100)) == expected


def test_times_end_where_the_calendar_does() -> None:
    autumn = START.replace(year=9999, month=11)
    for start in (autumn, autumn.replace(month=12, day=30)):
        *_, last = parse("0 12 * * *").times(start)
        assert (last.month, last.day) == (12, 31)


@pytest.mark.parametrize("seed", range(20))
def test_random_expressions_mean_what_the_calendar_says(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        text, values, both_days = _expression(draw)
        expected = list(islice(_by_brute_force(values, both_days, 3 * 366), 25))
        try:
            found = list(islice(parse(text).times(START), len(expected)))
        except DefinitionError:  # it never comes
            found = []
        assert found == expected, text


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("@hourly", ["2026-01-01 00:00:00", "2026-01-01 01:00:00"]),
        ("@daily", ["2026-01-01 00:00:00", "2026-01-02 00:00:00"]),
        ("@midnight", ["2026-01-01 00:00:00", "2026-01-02 00:00:00"]),
        ("@weekly", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
        ("@monthly", ["2026-01-01 00:00:00", "2026-02-01 00:00:00"]),
        ("@yearly", ["2026-01-01 00:00:00", "2027-01-01 00:00:00"]),
        ("@Annually", ["2026-01-01 00:00:00", "2027-01-01 00:00:00"]),
        ("15 30 4 * * *", ["2026-01-01 04:30:15", "2026-01-02 04:30:15"]),
        ("*/20 59 23 * * *", ["2026-01-01 23:59:00", "2026-01-01 23:59:20"]),
        ("0 0 L * *", ["2026-01-31 00:00:00", "2026-02-28 00:00:00"]),
        ("0 0 l,15 * *", ["2026-01-15 00:00:00", "2026-01-31 00:00:00"]),
        ("0 0 * * fri#2", ["2026-01-09 00:00:00", "2026-02-13 00:00:00"]),
        ("0 0 * * friL", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
        ("0 0 * * L5", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
        ("0 0 13 * fri#1", ["2026-01-02 00:00:00", "2026-01-13 00:00:00"]),
        ("0 0 * * mon,fri#1", ["2026-01-02 00:00:00", "2026-01-05 00:00:00"]),
        ("0 0 * * 7", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
        ("0 0 * * 6-7", ["2026-01-03 00:00:00", "2026-01-04 00:00:00"]),
        ("0 0 * * fri-mon", ["2026-01-02 00:00:00", "2026-01-03 00:00:00"]),
        ("0 22-2/2 * * *", ["2026-01-01 00:00:00", "2026-01-01 02:00:00"]),
        ("0 0 1 november *", ["2026-11-01 00:00:00", "2027-11-01 00:00:00"]),
        ("0 0 ? * Monday", ["2026-01-05 00:00:00", "2026-01-12 00:00:00"]),
        ("5-5 * * * *", ["2026-01-01 00:05:00", "2026-01-01 01:05:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("\t0  6 * * *  ", ["2026-01-01 06:00:00", "2026-01-02 06:00:00"]),
    ],
)
def test_each_form_of_the_dialect_has_its_meaning(expression: str, first: list[str]) -> None:
    assert times(expression, 2) == first


def test_a_pause_of_decades_is_waited_for() -> None:
    # With a star in front both day fields must hold: a 29 February that is a Sunday.
    assert times("0 0 29 2 */7", 1, datetime(2088, 3, 1)) == ["2128-02-29 00:00:00"]  # noqa: DTZ001


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("61 * * * *", "cron '61 * * * *', field 1 (minute): 61 is not within 0-59"),
        ("* 24 * * *", "field 2 (hour): 24 is not within 0-23"),
        ("* * 0 * *", "field 3 (day): 0 is not within 1-31"),
        ("* * * 13 *", "field 4 (month): 13 is not within 1-12"),
        ("* * * * 8", "field 5 (weekday): 8 is not within 0-7"),
        ("61 * * * * *", "field 1 (second): 61 is not within 0-59"),
        (
            "* * * foo *",
            "field 4 (month): 'foo' is not a number from 1 to 12 or a name such as feb",
        ),
        ("* * * * fryday", "field 5 (weekday): 'fryday' is not a number"),
        ("x * * * *", "field 1 (minute): 'x' is not a number from 0 to 59"),
        ("-5 * * * *", "field 1 (minute): '-5' is not a value"),
        ("1--5 * * * *", "field 1 (minute): '1--5' is not a value"),
        ("*-5 * * * *", "field 1 (minute): '*-5' is not a value"),
        ("1,,2 * * * *", "field 1 (minute): something is missing before or after a comma"),
        ("1, * * * *", "field 1 (minute): something is missing"),
        ("*/0 * * * *", "the step '0' is not a whole number of at least 1"),
        ("*/x * * * *", "the step 'x' is not a whole number"),
        ("*/61 * * * *", "the step 61 is larger than the 60 values it walks over"),
        ("59/15 * * * *", "the step 15 is larger than the 1 values it walks over"),
        ("0-10/20 * * * *", "the step 20 is larger than the 11 values"),
        ("0-999999999 * * * *", "field 1 (minute): '999999999' is not a number"),
        ("? * * * *", "field 1 (minute): '?' is not a number"),
        ("0 0 15W * *", "W (nearest working day) is not supported"),
        ("0 0 * * L", "friL is the last Friday of the month"),
        ("0 0 * * fri#6", "a month has 1 to 5 of a weekday"),
        ("0 0 * * fri#", "a month has 1 to 5 of a weekday"),
        ("0 0 31 2 *", "never comes: no date has day '31', month '2' and weekday '*'"),
        ("0 0 30 feb */2", "never comes"),
        (
            "* * * *",
            "has 4 fields: give 5 fields (minute hour day month weekday), or 6 with the seconds first",
        ),
        ("* * * * * * *", "a year is not supported, use start= and end="),
        ("", "has 0 fields"),
        ("@dialy", "did you mean '@daily'?"),
        ("@reboot", 'use @hook("worker_start")'),
        ("@every 5m", 'use every("5m")'),
        ("@daily 5", "cron '@daily 5': @daily stands alone"),
        ("@xyz", "there are @hourly, @daily"),
        ("٣ * * * *", "not plain ASCII"),
        ("* * * *\u00a0*", "not plain ASCII"),
        ("* * * * *\x00", "not plain ASCII"),
        ("* * * * *\n* * * * *", "not plain ASCII"),
        ("1," * 100 + " * * * *", "has 208 characters, at most 200 are allowed"),
        (
            "H * * * *",
            "field 1 (minute): H is drawn from the schedule's name, and there is none here",
        ),
        (None, "is not a text"),
        (5, "is not a text"),
        (b"* * * * *", "is not a text"),
    ],
)
def test_a_bad_expression_is_refused_with_its_field_and_the_remedy(
    expression: str, complaint: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(expression)
    assert complaint in str(caught.value)


# Each was slow, endless or silently wrong in some library.
HOSTILE = [
    "5-5 * * * *",
    "0 0 31 2 *",
    "0 0 30 feb */2",
    "0 0 29 2 */7",
    "0 0 29 2 sun#5",
    "0 0 */20 * friL",
    "0 0 */31 2-12/2 mon#3,tue#3,wed#3",
    "*/27 17-23,H,H(2-2) */29 4-10,1-3,6/1,*,3,10-1/1 2#3",
    "* * " + ",".join(map(str, range(1, 32))) + " * " + ",".join(f"{n}#5,L{n}" for n in range(7)),
    ",".join(map(str, range(60))) + " * * * *",
    "*/1,*/2,*/3,*/4,*/5 */1,*/2,*/3 */2,*/3 */1,*/2 */1,*/2,*/3",
    "*/999999 * * * *",
    "0-999999 * * * *",
    "*/" + "9" * 190,
    "1-" * 90 + "1",
    "H(" * 90,
    "H(0-59)/60 * * * *",
    "\u0663 * * * *",
    "\uff11 * * * *",
    "*\u2003* * * * *",
    "(" * 200,
    "#" * 199,
    "@" * 200,
    "@hourly" * 20,
    "* * * * * " * 30,
]
# Fields of the right form, so that more than the first fault is met.
_FORMS = (
    "* 5 29 31 2 */2 */29 */31 1-5 22-2 0-59/7 H H/3 H(0-3) L fri#5 mon#1 friL feb sun 7 ? 1,,2"
)
_fields = st.lists(st.sampled_from(_FORMS.split()), min_size=5, max_size=6).map(" ".join)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_gets_an_answer_at_once(text: str) -> None:
    _answered_in_time(text)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(_fields, st.text(alphabet="0123456789*/-,LH#?() \tafmnorsu@W\u0663", max_size=210))
)
def test_whatever_is_typed_gets_an_answer_or_a_clear_refusal(text: str) -> None:
    _answered_in_time(text)


def _answered_in_time(text: str) -> None:
    next(parse("0 0 1 1 *").times(START))  # the first search imports croniter
    parse.cache_clear()
    began = time.process_time()
    try:
        answer = f"cron {next(parse(text, 'name').times(START))}"
    except DefinitionError as error:
        answer = str(error)
    assert answer.startswith("cron ")
    # An answer takes 10 ms at most; the rest is patience with a busy machine.
    assert time.process_time() - began < 0.25


@pytest.mark.parametrize(
    ("expression", "follows_clock"),
    [
        ("30 2 * * *", False),
        ("0,30 1-3 * * *", False),
        ("* 2 * * *", True),
        ("0 */2 * * *", True),
        ("*/15 2 * * *", True),
        ("* 30 2 * * *", False),
        ("0 30 * * * *", True),
        ("@daily", False),
        ("@hourly", True),
        ("H H * * *", False),
        ("H/15 2 * * *", True),
    ],
)
def test_times_are_fixed_unless_minute_or_hour_begins_with_a_star(
    expression: str, follows_clock: bool
) -> None:
    assert parse(expression, "name").follows_clock is follows_clock


def test_hashed_fields_reach_every_minute_of_the_day() -> None:
    minute, hour = KINDS[1], KINDS[2]
    drawn = {
        (*parse_field("H", minute, "", name).values, *parse_field("H", hour, "", name).values)
        for name in (f"task{number}" for number in range(16_000))
    }
    assert len(drawn) == 1_440


def test_hashed_fields_are_drawn_one_by_one_from_the_name() -> None:
    first, second = (explicit(parse("H H H H H H", name)) for name in ("one", "two"))
    assert first == explicit(parse("H H H H H H", "one"))
    assert first != second


@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e"])
def test_a_hashed_range_and_step_stay_within_their_field(name: str) -> None:
    minutes = [one.minute for one in islice(parse("H/15 * * * *", name).times(START), 8)]
    assert len(set(minutes)) == 4
    assert {(later - earlier) % 60 for earlier, later in pairwise(minutes)} == {15}
    assert next(parse("H(10-19) * * * *", name).times(START)).minute in range(10, 20)
    spread = {one.minute for one in islice(parse("H(0-29)/10 * * * *", name).times(START), 6)}
    assert len(spread) == 3
    assert max(spread) < 30
    # Every month has the day.
    assert len({one.month for one in islice(parse("0 0 H * *", name).times(START), 12)}) == 12


@pytest.mark.parametrize("item", ["H(9-3)", "H(0-99)", "H(x-3)", "H()", "H5", "H-5"])
def test_a_hashed_field_that_cannot_be_is_refused(item: str) -> None:
    with pytest.raises(DefinitionError, match=r"field 1 \(minute\)"):
        parse(f"{item} * * * *", "name")


def test_only_expressions_with_a_hashed_field_need_a_name() -> None:
    assert uses_hash("0 H(1-3) * * *")
    assert uses_hash("H/5 * * * *")
    assert uses_hash("0,h * * * *")
    assert not uses_hash("0 0 * mar thu")


@pytest.mark.parametrize(
    ("text", "zone", "rest"),
    [
        ("CRON_TZ=Europe/Paris 0 6 * * *", "Europe/Paris", "0 6 * * *"),
        ("TZ=UTC\t@daily", "UTC", "@daily"),
        ("0 6 * * *", None, "0 6 * * *"),
    ],
)
def test_a_zone_may_stand_in_front(text: str, zone: str | None, rest: str) -> None:
    assert split_zone(text) == (zone, rest)


def test_the_last_day_is_that_of_each_month() -> None:
    days = islice(parse("0 0 L * *").times(START), 36)
    assert all(one.day == monthrange(one.year, one.month)[1] for one in days)


def test_the_library_in_use_is_the_release_the_meaning_was_checked_with() -> None:
    assert croniter_major() == 7
