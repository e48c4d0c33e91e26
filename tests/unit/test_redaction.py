"""What is shown of a job's arguments."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from cronqueue import Secret
from cronqueue.serialization import encode_value
from cronsched.redaction import HIDDEN, redacted, redacted_json

CANARY = "canary-in-the-mine"


@given(
    name=st.sampled_from(
        ["password", "API_KEY", "apiKey", "x-token", "client_secret", "Authorization"]
    ),
    around=st.lists(st.sampled_from(["list", "dict"]), max_size=6),
    secret=st.sampled_from([CANARY, [CANARY], {"value": CANARY}, CANARY.encode()]),
)
def test_a_secret_is_hidden_at_any_depth_whatever_it_is(
    name: str, around: list[str], secret: object
) -> None:
    value: object = {name: secret}
    for kind in around:
        value = [value] if kind == "list" else {"more": value}
    shown = redacted_json(encode_value(value))
    assert shown is not None
    assert HIDDEN in shown
    assert CANARY not in shown
    assert "Y2FuYXJ5" not in shown  # the same as base64


def test_what_is_no_secret_stays_to_the_letter() -> None:
    stored = '{"args": [1e22, "ü"],  "kwargs":{"id":7, "has_password":true}}'
    assert redacted_json(stored) == stored


def test_a_damaged_text_and_none_stay_as_they_are() -> None:
    assert redacted_json("{") == "{"
    assert redacted_json(None) is None
    deep = "[" * 100_000
    assert redacted_json(deep) == deep


def test_our_own_columns_are_no_secrets() -> None:
    row = {"token": 7, "args": {"token": "t"}}
    assert json.dumps(redacted(row)) == json.dumps({"token": 7, "args": {"token": HIDDEN}})


@given(
    around=st.lists(st.sampled_from(["list", "dict"]), max_size=6),
    value=st.sampled_from([CANARY, [CANARY], {"value": CANARY}, Secret(CANARY)]),
)
def test_a_value_that_is_marked_is_hidden_at_any_depth_under_any_name(
    around: list[str], value: object
) -> None:
    marked: object = Secret(value)
    assert CANARY not in f"{marked} {marked!r}"
    for kind in around:
        marked = [marked] if kind == "list" else {"more": marked}
    shown = redacted_json(encode_value(marked))
    assert shown is not None
    assert HIDDEN in shown
    assert CANARY not in shown
