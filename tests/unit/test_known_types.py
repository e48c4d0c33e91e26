"""Which types may be registered, under which names."""

import enum
import sys
import types
from dataclasses import InitVar, dataclass
from typing import Any

import pytest

from cronqueue.decoding import _READERS
from cronqueue.errors import DecodingError, DefinitionError, EncodingError
from cronqueue.known_types import BUILT_IN_TAGS
from cronqueue.serialization import decode_value, encode_value, register_type


def _fresh(name: str = "Point", module: str = __name__) -> type[Any]:
    """A new dataclass, as the import of its module would make it."""

    @dataclass
    class Point:
        x: int

    Point.__name__ = Point.__qualname__ = name
    Point.__module__ = module
    return Point


def test_a_type_is_stored_under_its_module_and_name() -> None:
    point = register_type(_fresh(module="shop.models"))

    assert encode_value(point(1)) == '{"$type":"shop.models.Point","value":{"x":1}}'


def test_a_type_of_the_started_script_is_named_by_the_script(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main = types.ModuleType("__main__")
    main.__file__ = "/srv/shop.py"
    monkeypatch.setitem(sys.modules, "__main__", main)

    point = register_type(_fresh(name="Spot", module="__main__"))

    assert '"shop.Spot"' in encode_value(point(1))


def test_a_moved_type_reads_its_old_name_and_writes_the_new_one() -> None:
    point = _fresh(name="Moved")
    register_type(point, "new.Moved")
    register_type(point, "old.Moved")
    register_type(point, "old.Moved")

    assert '"new.Moved"' in encode_value(point(1))
    assert decode_value('{"$type":"old.Moved","value":{"x":1}}') == point(1)


def test_a_type_whose_module_is_imported_anew_takes_its_place() -> None:
    before, after = _fresh(name="Reloaded"), _fresh(name="Reloaded")
    register_type(before)
    register_type(after)

    assert type(decode_value(encode_value(after(1)))) is after
    with pytest.raises(EncodingError, match="not registered"):
        encode_value(before(1))


def test_a_name_of_another_type_is_refused() -> None:
    register_type(_fresh(name="First"), "shared")
    with pytest.raises(DefinitionError, match="type name 'shared' is taken"):
        register_type(_fresh(name="Second"), "shared")


def test_the_built_in_tags_are_refused_as_names() -> None:
    assert {*_READERS, "dict"} == BUILT_IN_TAGS
    for tag in BUILT_IN_TAGS:
        with pytest.raises(DefinitionError, match="is taken"):
            register_type(_fresh(), tag)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "\ud800", 7])
def test_a_name_that_cannot_be_stored_or_read_is_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match="give `name` 1 to 200 printable characters"):
        register_type(_fresh(), name)


@pytest.mark.parametrize("kind", [int, object, "Point", Exception])
def test_only_enums_and_dataclasses_register(kind: Any) -> None:
    with pytest.raises(DefinitionError, match="neither an Enum nor a dataclass"):
        register_type(kind)


def test_a_dataclass_that_its_fields_cannot_rebuild_is_refused() -> None:
    @dataclass
    class NeedsMore:
        x: int
        secret: InitVar[str]

    with pytest.raises(DefinitionError, match="cannot be rebuilt from its fields"):
        register_type(NeedsMore)


def test_a_subclass_of_a_registered_type_is_not_known() -> None:
    point = register_type(_fresh(name="Parent"))
    child = type("Child", (point,), {})

    with pytest.raises(EncodingError, match=r"Child is not registered"):
        encode_value(child(1))


def test_an_enum_keeps_its_type_through_a_call_even_with_equal_values() -> None:
    @register_type(name="known.Weight")
    class Weight(enum.IntEnum):
        LIGHT = 1

    assert decode_value(encode_value([Weight.LIGHT, 1])) == [Weight.LIGHT, 1]
    assert type(decode_value(encode_value(Weight.LIGHT))) is Weight


def test_a_decoded_name_is_looked_up_exactly() -> None:
    register_type(_fresh(name="Exact"), "exact.Exact")
    with pytest.raises(DecodingError, match="unknown type"):
        decode_value('{"$type":"exact.exact","value":{"x":1}}')
