"""Whatever text a row holds, reading it gives a value or one short DecodingError."""

import enum
import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cronqueue.errors import DecodingError
from cronqueue.known_types import BUILT_IN_TAGS
from cronqueue.serialization import decode_call, decode_value, register_type


@register_type(name="decoding.Level")
class Level(enum.IntEnum):
    LOW = 1


@register_type(name="decoding.Access")
class Access(enum.Flag):
    READ = 1
    WRITE = 2


@register_type(name="decoding.Loose")
class Loose(enum.IntFlag, boundary=enum.EJECT):
    READ = 1


@register_type(name="decoding.Line")
@dataclass(frozen=True)
class Line:
    product: str
    when: object


@register_type(name="decoding.Order")
@dataclass
class Order:
    lines: list[object]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.lines)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "nul",
        "[1] 2",
        "NaN",
        "[Infinity]",
        "1e999",
        "\ufeff1",
        "1" * 5001,
        "[" * 5000 + "]" * 5000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        "[" * 500 + "]" * 500,
        '{"$type":null}',
        '{"$type":["date"],"value":"2026-01-01"}',
        '{"$type":"date"}',
        '{"$type":"date","value":5}',
        '{"$type":"date","value":"2026-02-30"}',
        '{"$type":"date","value":"2026-01-01","zone":"UTC"}',
        '{"\\u0024type":"date","value":"tomorrow"}',
        '{"$type":"datetime","value":"99999-01-01"}',
        '{"$type":"datetime","value":"2026-01-01T00:00:00+00:00","zone":"UTC"}',
        '{"$type":"datetime","value":"2026-01-01T00:00:00","zone":"Mars/Olympus"}',
        '{"$type":"datetime","value":"2026-01-01T00:00:00","zone":"../../../etc/passwd"}',
        '{"$type":"datetime","value":"2026-01-01T00:00:00","zone":"Europe"}',
        '{"$type":"datetime","value":"2026-01-01T00:00:00","zone":7}',
        '{"$type":"datetime","value":"2026-01-01T00:00:00","fold":2}',
        '{"$type":"datetime","value":"2026-01-01T00:00:00","fold":true}',
        '{"$type":"time","value":"25:00"}',
        '{"$type":"timedelta","value":"1"}',
        '{"$type":"timedelta","value":"99999999999999.000000"}',
        '{"$type":"decimal","value":"NaN"}',
        '{"$type":"decimal","value":"1,5"}',
        '{"$type":"uuid","value":"7"}',
        '{"$type":"bytes","value":"*"}',
        '{"$type":"bytes","value":"é"}',
        '{"$type":"int","value":"1_000"}',
        '{"$type":"int","value":"' + "1" * 4001 + '"}',
        '{"$type":"dict","value":[]}',
        '{"$type":"decoding.Level","value":"HIGH"}',
        '{"$type":"decoding.Level","value":1}',
        '{"$type":"decoding.Access","value":8}',
        '{"$type":"decoding.Access","value":"READ"}',
        '{"$type":"decoding.Line","value":{"product":"x"}}',
        '{"$type":"decoding.Line","value":{"product":"x","when":1,"colur":2}}',
        '{"$type":"decoding.Line","value":[]}',
        '{"$type":"decoding.Order","value":{"lines":null}}',
        '{"$type":"decoding.Loose","value":6}',
    ],
)
def test_a_text_that_does_not_read_back_is_one_short_decoding_error(text: str) -> None:
    for decode, stored in (
        (decode_value, text),
        (decode_call, f'{{"args":[{text}],"kwargs":{{}}}}'),
    ):
        with pytest.raises(DecodingError) as caught:
            decode(stored)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"args":[]}',
        '{"args":{},"kwargs":{}}',
        '{"args":[],"kwargs":[]}',
        '{"args":[],"kwargs":{},"more":1}',
    ],
)
def test_a_call_of_the_wrong_shape_is_a_decoding_error(text: str) -> None:
    with pytest.raises(DecodingError):
        decode_call(text)


@pytest.mark.parametrize("text", [None, b"{}", {"args": [], "kwargs": {}}])
def test_something_other_than_text_is_a_decoding_error(text: Any) -> None:
    with pytest.raises(DecodingError, match="expected JSON as str"):
        decode_call(text)


def test_space_around_stored_json_does_no_harm() -> None:
    assert decode_call(' {"args": [1], "kwargs": {}}\n') == ([1], {})


_WORDS = ["$type", "value", "zone", "fold", *BUILT_IN_TAGS, "decoding.Level", "decoding.Line"]
documents = st.recursive(
    st.none() | st.integers() | st.floats() | st.sampled_from(_WORDS) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=4)
        | st.fixed_dictionaries({"$type": st.sampled_from(_WORDS), "value": inner})
    ),
    max_leaves=8,
)


@given(documents.map(json.dumps) | st.text(alphabet='{}[]",:$typealue019.-eE\\u \n', max_size=40))
def test_whatever_is_stored_decodes_or_is_a_decoding_error(text: str) -> None:
    for decode in (decode_value, decode_call):
        with suppress(DecodingError):
            decode(text)


def test_an_unknown_type_is_named_with_the_remedy_and_its_module_stays_unimported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary_module.py").write_text("class Thing: pass")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(
        DecodingError, match=r'"canary_module\.Thing": register it with register_type'
    ):
        decode_value('{"$type":"canary_module.Thing","value":{}}')
    assert "canary_module" not in sys.modules


def test_a_long_foreign_text_is_shown_short_and_printable() -> None:
    with pytest.raises(DecodingError) as caught:
        decode_value(json.dumps({"$type": "\x1b[31m" * 9_000}))
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert '..."' not in str(caught.value)
    assert '"...: register it' in str(caught.value)


def test_a_zone_key_that_is_no_key_never_becomes_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cronqueue.decoding.ZoneInfo", pytest.fail)
    for key in ("../secret", "/etc/passwd", "Europe//London", "a.b/c", "x" * 41, ""):
        with pytest.raises(DecodingError, match="malformed"):
            decode_value(f'{{"$type":"time","value":"07:30:00","zone":"{key}"}}')


def test_what_a_type_has_lost_is_named() -> None:
    with pytest.raises(DecodingError, match=r'decoding\.Level has no member "HIGH"'):
        decode_value('{"$type":"decoding.Level","value":"HIGH"}')
    with pytest.raises(DecodingError, match=r'decoding\.Line has no field "colour"'):
        decode_value('{"$type":"decoding.Line","value":{"product":"x","when":1,"colour":2}}')
