"""What arguments and results may be, how they return, and how everything else is refused."""

import enum
import itertools
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronqueue import Secret
from cronqueue.decoding import MAX_DEPTH
from cronqueue.errors import DecodingError, EncodingError
from cronqueue.serialization import (
    MAX_ARGS_BYTES,
    MAX_RESULT_BYTES,
    decode_call,
    decode_value,
    encode_call,
    encode_value,
    register_type,
)


@register_type
class Colour(enum.Enum):
    RED = "#f00"
    CRIMSON = "#f00"  # noqa: PIE796 - an alias returns as the member that it means
    BLUE = "#00f"


@register_type(name="tests.Level")
class Level(enum.IntEnum):
    LOW = 1


@register_type
class Access(enum.Flag):
    READ = 1
    WRITE = 2


@register_type
@dataclass(frozen=True, slots=True)
class Line:
    product: str
    when: object
    colour: Colour = Colour.RED


@register_type
@dataclass
class Order:
    lines: list[object]
    total: Decimal
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.lines)


class Unregistered(enum.StrEnum):
    ONE = "one"


@dataclass
class Stranger:
    name: str


class Point(NamedTuple):
    x: int


class Odd(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(0)

    tzname = dst = utcoffset  # type: ignore[assignment]


class Hostile:
    """Everything that code may call without being asked fails in the worst way."""

    def _fail(self, *args: object) -> Any:
        raise SystemExit("called")

    __iter__ = __eq__ = __repr__ = __str__ = __hash__ = __len__ = __bool__ = __float__ = _fail
    __index__ = __getattribute__ = __format__ = __reduce_ex__ = __getitem__ = __contains__ = _fail
    __class__ = property(_fail)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
offsets = st.integers(-82_800, 82_800).map(lambda seconds: timezone(timedelta(seconds=seconds)))
zones = st.none() | st.just(UTC) | offsets | st.timezones()
moments = st.datetimes(timezones=zones) | st.times(timezones=zones)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.builds(lambda moment, fold: moment.replace(fold=fold), moments, st.integers(0, 1)),
    st.dates(),
    st.timedeltas(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.binary(max_size=20),
    st.sampled_from([*Colour, *Level, Access.READ, Access.READ | Access.WRITE, Access(0)]),
)
keys = texts | st.sampled_from(["$type", "value", "zone"])
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.builds(Line, texts, inner, st.sampled_from(Colour)),
        st.builds(
            Order,
            st.lists(inner, max_size=2),
            st.decimals(allow_nan=False).filter(Decimal.is_finite),
        ),
    ),
    max_leaves=12,
)


@given(values)
def test_a_value_returns_exactly_as_it_was(value: object) -> None:
    # Unlike ==, repr tells -0.0 from 0, 1 from True, and shows zone and fold.
    assert repr(decode_value(encode_value(value))) == repr(value)


@given(st.lists(values, max_size=3), st.dictionaries(keys, values, max_size=3))
def test_a_call_returns_exactly_as_it_was(args: list[object], kwargs: dict[str, object]) -> None:
    text = encode_call(args, kwargs)

    assert repr(decode_call(text)) == repr((args, kwargs))
    assert json.loads(text).keys() == {"args", "kwargs"}


@given(values)
def test_the_text_holds_nothing_that_a_database_refuses(value: object) -> None:
    text = encode_value(value)

    assert "\0" not in text
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode("utf-8")
    json.loads(text, parse_constant=pytest.fail, parse_int=_fits_64_bits)


def _fits_64_bits(digits: str) -> int:
    assert -(2**63) <= int(digits) < 2**63
    return int(digits)


def test_plain_data_is_plain_compact_json() -> None:
    assert encode_call((7, "é\n", {"a": 1.5}), {"dry": True, "to": None}) == (
        '{"args":[7,"é\\n",{"a":1.5}],"kwargs":{"dry":true,"to":null}}'
    )


def test_a_tuple_returns_as_a_list() -> None:
    assert decode_value(encode_value((1, (2,)))) == [1, [2]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), '"datetime","value":"2026-01-02T03:04:00+00:00"'),
        (
            datetime(2026, 10, 25, 1, 30, fold=1, tzinfo=ZoneInfo("Europe/London")),
            '"datetime","value":"2026-10-25T01:30:00","zone":"Europe/London","fold":1',
        ),
        (time(7, 30), '"time","value":"07:30:00"'),
        (date(2026, 1, 2), '"date","value":"2026-01-02"'),
        (timedelta(days=-1, microseconds=1), '"timedelta","value":"-86399.999999"'),
        (Decimal("1.50"), '"decimal","value":"1.50"'),
        (UUID(int=1), '"uuid","value":"00000000-0000-0000-0000-000000000001"'),
        (b"\0\xff", '"bytes","value":"AP8="'),
        (2**63, '"int","value":"9223372036854775808"'),
        (Level.LOW, '"tests.Level","value":"LOW"'),
        (Access.WRITE, f'"{__name__}.Access","value":2'),
        ({"$type": "date"}, '"dict","value":{"$type":"date"}'),
    ],
)
def test_each_tagged_type_has_its_stored_form(value: object, text: str) -> None:
    # Rows outlive releases: these forms stay.
    assert encode_value(value) == f'{{"$type":{text}}}'
    assert decode_value(encode_value(value)) == value


def test_an_int_of_4000_digits_is_the_largest() -> None:
    assert decode_value(encode_value(10**4000 - 1)) == 10**4000 - 1
    with pytest.raises(EncodingError, match=r"value\[0\]: an int of more than 4,000 digits"):
        encode_value([-(10**4000)])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({1}, "set cannot be stored: pass sorted"),
        (frozenset(), "frozenset cannot be stored: pass sorted"),
        ((i for i in "ab"), "generator cannot be stored: pass list"),
        (range(3), "range cannot be stored: pass list"),
        (itertools.count(), "itertools.count cannot be stored: pass plain data"),
        ({}.keys(), "dict_keys cannot be stored"),
        (bytearray(b"x"), "bytearray cannot be stored: pass bytes"),
        (int, "type cannot be stored: pass its name"),
        (len, "builtin_function_or_method cannot be stored: pass its name"),
        (threading.Lock(), "lock cannot be stored: pass plain data such as an id"),
        (1j, "complex cannot be stored"),
        (Hostile(), "Hostile cannot be stored"),
        (Unregistered.ONE, "decorate the Enum with register_type, or pass its .value"),
        (Stranger("x"), "decorate it with register_type, or pass its id or fields"),
        (type("Name", (str,), {})("x"), "would come back as a plain str"),
        (type("Id", (int,), {})(1), "would come back as a plain int"),
        (type("Float64", (float,), {})(1), "would come back as a plain float"),
        (OrderedDict(a=1), "would come back as a plain dict"),
        (Point(1), "would come back as a plain tuple"),
        (type("Timestamp", (datetime,), {})(2026, 1, 1), "would come back as a plain datetime"),
        (datetime(2026, 1, 1, tzinfo=Odd()), "Odd: use zoneinfo.ZoneInfo or UTC"),
        (time(1, tzinfo=Odd()), "Odd: use zoneinfo.ZoneInfo or UTC"),
        (float("nan"), "JSON has no nan: pass None"),
        (float("-inf"), "JSON has no -inf: pass None"),
        (Decimal("sNaN"), "a Decimal that is no finite number"),
        ("a\0b", "has a NUL character, which databases refuse: remove it"),
        ("\ud800", "has a lone surrogate, which is no text: replace it"),
        ("x" * (MAX_ARGS_BYTES + 1), "store the data elsewhere and pass its id"),
        (b"x" * (MAX_ARGS_BYTES + 1), "store the data elsewhere and pass its id"),
        ([""] * MAX_ARGS_BYTES, "store the data elsewhere and pass its id"),
        (
            dict.fromkeys(map(str, range(MAX_ARGS_BYTES))),
            "store the data elsewhere and pass its id",
        ),
        ({1: 2}, "has a key of type int: JSON has only str keys, use str(key)"),
        ({Unregistered.ONE: 2}, "Unregistered: JSON has only str keys"),
        ({"a\0": 2}, 'the key "a\\u0000" has a NUL character'),
        ({"\udfff": 2}, 'the key "\\udfff" has a lone surrogate'),
    ],
    ids=lambda value: (
        value if type(value) is str and value.isprintable() and len(value) < 99 else ""
    ),
)
def test_a_value_that_json_cannot_carry_is_refused_with_its_place_and_remedy(
    value: object, reason: str
) -> None:
    with pytest.raises(EncodingError) as caught:
        encode_call((1, {"when": [2, value]}), {})
    assert str(caught.value).startswith('args[1]["when"][1]: ')
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_fault_in_a_keyword_argument_or_result_is_named_too() -> None:
    with pytest.raises(EncodingError, match=r'^kwargs\["user"\]: set cannot'):
        encode_call((), {"user": {1}})
    with pytest.raises(EncodingError, match=r"^value: set cannot"):
        encode_value({1})
    with pytest.raises(EncodingError, match=r"^value\[0\]\.when\[1\]: set cannot"):
        encode_value([Line("x", [1, {2}])])


@pytest.mark.parametrize("args", ["abc", {1}, iter(()), None, {"a": 1}])
def test_args_that_are_no_list_or_tuple_are_refused(args: Any) -> None:
    with pytest.raises(EncodingError, match=r"^args: must be a list or a tuple, not "):
        encode_call(args, {})


def test_kwargs_that_are_no_dict_or_have_other_keys_are_refused() -> None:
    with pytest.raises(EncodingError, match=r"^kwargs: must be a dict, not list"):
        encode_call((), [])  # type: ignore[arg-type]
    with pytest.raises(EncodingError, match=r"^kwargs: has a key of type int"):
        encode_call((), {1: 2})  # type: ignore[dict-item]


def _nested(depth: int, inner: object = 0) -> object:
    for _ in range(depth):
        inner = [inner]
    return inner


def test_64_containers_inside_each_other_are_the_limit_on_both_sides() -> None:
    deepest = _nested(64)
    escaped: object = 0
    for _ in range(64):
        escaped = {"$type": escaped}

    assert decode_value(encode_value(deepest)) == deepest
    assert decode_value(encode_value(escaped)) == escaped
    assert decode_call(encode_call([deepest], {"a": deepest})) == ([deepest], {"a": deepest})
    with pytest.raises(EncodingError, match="more than 64 containers inside each other"):
        encode_value(_nested(65))
    with pytest.raises(DecodingError, match="more than 64 deep"):
        decode_value(json.dumps(_nested(65)))


def test_a_long_path_is_shown_by_its_ends() -> None:
    value: object = {1}
    for number in range(30):
        value = {f"{number} {'x' * 50}": value}

    with pytest.raises(
        EncodingError, match=r'^args\[0\]\["29 x.*\.\.\..*\["0 x+"\]: set'
    ) as caught:
        encode_call([value], {})
    assert len(str(caught.value)) < 400


def test_data_that_contains_itself_is_refused_where_the_circle_closes() -> None:
    circle: dict[str, Any] = {"a": [1]}
    circle["a"].append(circle)
    order = Order([], Decimal(1))
    order.lines.append(order)

    with pytest.raises(EncodingError, match=r'^args\[0\]\["a"\]\[1\]: this is args\[0\] itself'):
        encode_call((circle,), {})
    with pytest.raises(EncodingError, match=r"^value\.lines\[0\]: this is value itself"):
        encode_value(order)


def test_shared_parts_that_multiply_beyond_the_limit_are_refused_at_once() -> None:
    value: list[object] = ["x"]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(EncodingError, match="store the data elsewhere"):
        encode_value(value)


def test_the_size_limit_counts_bytes_not_characters() -> None:
    room = MAX_RESULT_BYTES - 2
    assert decode_value(encode_value("x" * room)) == "x" * room
    with pytest.raises(EncodingError, match=r"the value take 262,146 bytes as JSON; no more than"):
        encode_value("é" * (room // 2 + 1))
    with pytest.raises(EncodingError, match="the arguments take"):
        encode_call(["x" * (MAX_ARGS_BYTES - 30)], {"y": "z" * 30})


def test_a_field_that_fails_when_it_is_read_is_refused_with_the_place() -> None:
    line = Line.__new__(Line)
    with pytest.raises(
        EncodingError, match=r"^args\[0\]: reading it raised AttributeError"
    ) as caught:
        encode_call((line,), {})
    assert isinstance(caught.value.__cause__, AttributeError)


def test_a_metaclass_that_cannot_be_hashed_or_named_is_refused() -> None:
    class Meta(type):
        __eq__ = __hash__ = None  # type: ignore[assignment]
        __module__ = property(lambda cls: 1 / 0)

    with pytest.raises(EncodingError, match=r"^args\[0\]: "):
        encode_call((Meta("Thing", (), {})(),), {})


def test_an_offset_with_a_fraction_of_a_second_is_refused() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1)))
    with pytest.raises(EncodingError, match="fraction of a second"):
        encode_value(moment)


@given(values)
def test_a_secret_returns_as_a_secret_with_its_value(value: object) -> None:
    read = decode_value(encode_value([Secret(value)]))

    assert type(read) is list
    (secret,) = read
    assert type(secret) is Secret
    assert repr(secret.reveal()) == repr(value)


def test_secrets_inside_each_other_end_where_containers_do() -> None:
    nested: object = 1
    for _ in range(MAX_DEPTH + 1):
        nested = Secret(nested)
    with pytest.raises(EncodingError, match="containers inside each other"):
        encode_value(nested)


@pytest.mark.parametrize("stored", ['{"$type":"secret"}', '{"$type":"secret","value":1,"more":2}'])
def test_a_damaged_secret_is_a_decoding_error(stored: str) -> None:
    with pytest.raises(DecodingError, match="malformed secret"):
        decode_value(stored)
