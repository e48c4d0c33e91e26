"""Whatever an exception does, its description is bounded, safe, and says where it came from."""

import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cronqueue.tracebacks
from cronqueue.tracebacks import MAX_ERROR_BYTES, describe_exception, sanitize


def _caught(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def _raise(error: BaseException) -> None:
    secret = "s3cret"  # noqa: F841 - no description may show it
    raise error


def _run_by_the_package(action: Callable[[], object]) -> BaseException:
    """Calls `action` from code that lies in the package's folder, as a worker does."""
    file = Path(cronqueue.tracebacks.__file__).parent / "sub" / "runner.py"
    scope: dict[str, Any] = {}
    exec(compile("def inner(f): f()\ndef outer(f): inner(f)", str(file), "exec"), scope)
    return _caught(lambda: scope["outer"](action))


def test_a_description_reads_like_python_without_local_variables() -> None:
    text = describe_exception(_caught(lambda: _raise(ValueError("no such user"))))

    assert text.startswith("Traceback (most recent call last):\n  File ")
    assert ", in _raise\n    raise error\n" in text
    assert text.endswith("\nValueError: no such user\n")
    assert "s3cret" not in text


def test_an_exception_that_was_never_raised_is_its_type_and_message() -> None:
    assert describe_exception(ValueError("x")) == "ValueError: x\n"
    assert describe_exception(KeyError()) == "KeyError\n"


def test_causes_come_first_and_contexts_are_told_apart() -> None:
    def explicit() -> None:
        try:
            _raise(KeyError("id"))
        except KeyError as error:
            raise RuntimeError("outer") from error

    def implicit() -> None:
        try:
            _raise(KeyError("id"))
        except KeyError:
            raise RuntimeError("outer")  # noqa: B904 - the implicit context is what is tested

    def suppressed() -> None:
        try:
            _raise(KeyError("id"))
        except KeyError:
            raise RuntimeError("outer") from None

    direct, during, alone = (
        describe_exception(_caught(f)) for f in (explicit, implicit, suppressed)
    )
    assert direct.index("KeyError: 'id'") < direct.index("was the direct cause of")
    assert during.index("KeyError: 'id'") < during.index("During handling of the above exception")
    assert "KeyError" not in alone
    assert direct.endswith("RuntimeError: outer\n")


def test_groups_show_their_members_with_causes_and_notes() -> None:
    inner = ValueError("first")
    inner.__cause__ = OSError("disk")
    inner.add_note("while saving")
    group = ExceptionGroup("several", [inner, ExceptionGroup("deeper", [TypeError("second")])])

    text = describe_exception(_caught(lambda: _raise(group)))

    assert "ExceptionGroup: several (2 sub-exceptions)\n  +---------------- 1 of 2" in text
    assert "  | OSError: disk\n" in text
    assert "  | ValueError: first\n  | while saving\n" in text
    assert "  |   | TypeError: second\n" in text


def _below_this_file(error: BaseException) -> BaseException:
    """The exception without the frame of `_caught` and the lambda that start it here."""
    step = error.__traceback__
    while step is not None and step.tb_frame.f_code.co_name != "outer":
        step = step.tb_next
    return error.with_traceback(step)


def test_frames_of_the_package_that_lead_to_the_task_are_left_out() -> None:
    error = _below_this_file(_run_by_the_package(lambda: _raise(ValueError("x"))))

    text = describe_exception(error)

    assert "runner.py" not in text
    assert ", in _raise\n" in text


def test_frames_of_the_package_stay_when_there_are_no_others() -> None:
    error = _below_this_file(_run_by_the_package(None))  # type: ignore[arg-type]

    text = describe_exception(error)

    assert text.count("runner.py") == 2
    assert text.endswith("TypeError: 'NoneType' object is not callable\n")


class _HostileError(Exception):
    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise SystemExit("called")

    __context__ = __traceback__ = __suppress_context__ = __notes__ = __cause__
    __class__ = __dict__ = args = __cause__

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __len__ = __bool__ = __eq__ = __hash__ = __str__  # type: ignore[assignment]


class _BadTextError(Exception):
    def __init__(self, text: object) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text  # type: ignore[return-value]


class _StrangeStr(str):
    def __len__(self) -> int:
        raise SystemExit

    encode = __getitem__ = __str__ = __len__ = __len__  # type: ignore[assignment]


def test_an_exception_whose_every_method_fails_is_named() -> None:
    text = describe_exception(_caught(lambda: _raise(_HostileError())))

    assert ", in _raise\n" in text
    assert text.endswith("_HostileError: <its __str__ raised KeyboardInterrupt>\n")


@pytest.mark.parametrize("returned", [None, 7, b"x"])
def test_a_str_method_that_returns_no_text_is_reported(returned: object) -> None:
    assert "<its __str__ raised TypeError>" in describe_exception(_BadTextError(returned))


def test_text_of_a_hostile_str_subclass_is_taken_as_it_is() -> None:
    assert describe_exception(_BadTextError(_StrangeStr("hello"))).endswith(
        "_BadTextError: hello\n"
    )


def test_a_huge_message_keeps_head_tail_and_traceback() -> None:
    text = describe_exception(_caught(lambda: _raise(ValueError("a" * 10_000_000 + "the end"))))

    assert "in _raise" in text
    assert "ValueError: aaaa" in text
    assert " characters left out ...]\n" in text
    assert text.endswith("the end\n")
    assert len(text.encode()) < 10_000


def test_nul_and_lone_surrogates_are_replaced() -> None:
    assert describe_exception(ValueError("a\0b\ud800c")) == "ValueError: a\ufffdb\ufffdc\n"


def test_causes_in_a_circle_are_shown_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    text = describe_exception(first)

    assert text.count("ValueError: first") == 1
    assert text.count("ValueError: second") == 1
    assert "[... ValueError and what led to it left out ...]" in text


def test_a_group_that_is_the_cause_of_its_member_is_shown_once() -> None:
    member = ValueError("member")
    group = ExceptionGroup("group", [member])
    member.__cause__ = group

    text = describe_exception(group)

    assert text.count("ExceptionGroup: group") == 1
    assert "  | [... ExceptionGroup and what led to it left out ...]" in text


def _chain_of(length: int) -> BaseException:
    error: BaseException = ValueError("root")
    for number in range(length):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    return error


def _group_of(depth: int, width: int) -> BaseException:
    error: Exception = ValueError("x" * 5_000)
    for _ in range(depth):
        error = ExceptionGroup("g", [error, *(ValueError("y" * 5_000) for _ in range(width))])
    return error


def _recursion() -> BaseException:
    def even(n: int) -> int:
        return odd(n + 1)

    def odd(n: int) -> int:
        return even(n + 1)

    return _caught(lambda: even(0))


def _with_notes() -> BaseException:
    error = ValueError("noted")
    error.__notes__ = ["n" * 100_000, 7, *("n" for _ in range(1_000_000))]  # type: ignore[list-item]
    return error


@pytest.mark.parametrize(
    "make",
    [
        lambda: _chain_of(100_000),
        lambda: _group_of(1, 20_000),
        lambda: _group_of(200, 20),
        _recursion,
        _with_notes,
    ],
    ids=["chain", "wide group", "deep group", "recursion", "notes"],
)
def test_an_exception_of_any_extent_is_described_in_bounded_time_and_size(
    make: Callable[[], BaseException],
) -> None:
    error = make()
    before = time.process_time()

    text = describe_exception(error)

    assert time.process_time() - before < 2
    assert 0 < len(text.encode()) <= MAX_ERROR_BYTES
    assert "left out ...]" in text


def test_long_chains_wide_groups_and_many_notes_show_their_nearest_part() -> None:
    chain, group, notes = (
        describe_exception(error) for error in (_chain_of(50), _group_of(1, 50), _with_notes())
    )

    assert chain.count("ValueError: number") == 10
    assert "ValueError: number 49\n" in chain
    assert chain.startswith("[... ValueError and what led to it left out ...]")
    assert group.count("exceptions left out ...]") == 1
    assert "10 of 51 ---" in group
    assert "11 of 51 ---" not in group
    assert notes.splitlines().count("n") == 18
    assert notes.endswith("\n[... 999,982 notes left out ...]\n")


def test_all_exceptions_of_a_report_together_are_limited() -> None:
    small = [ExceptionGroup("g", [ValueError("leaf") for _ in range(9)]) for _ in range(9)]
    text = describe_exception(ExceptionGroup("all", small))

    assert 30 < text.count("ValueError: leaf") <= 40
    assert len(text.encode()) < 10_000


def test_a_member_that_comes_twice_is_shown_once() -> None:
    member = ValueError("twice")
    text = describe_exception(ExceptionGroup("g", [member, member, OSError("last")]))

    assert text.count("ValueError: twice") == 1
    assert "  | [... ValueError, shown above ...]\n" in text
    assert text.endswith("  | OSError: last\n")


def test_a_source_line_of_a_megabyte_leaves_room_for_the_cause(tmp_path: Path) -> None:
    file = tmp_path / "generated.py"
    file.write_text(f"x = 1 / 0 or {'y' * 1_000_000}")
    error = _caught(lambda: exec(compile(file.read_text(), str(file), "exec")))
    error.__cause__ = OSError("the cause")

    text = describe_exception(error)

    assert "OSError: the cause\n" in text
    assert len(text) < 30_000


def test_a_deep_recursion_shows_where_it_began_and_ended() -> None:
    text = describe_exception(_recursion())

    assert text.count(", in even\n") + text.count(", in odd\n") < 60
    assert ", in <lambda>\n" in text
    assert text.endswith("RecursionError: maximum recursion depth exceeded\n")


def test_frames_whose_source_cannot_be_loaded_keep_their_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Loader:
        def get_source(self, name: str) -> str:
            raise ZeroDivisionError

    scope: dict[str, Any] = {"__name__": "odd", "__loader__": Loader()}
    exec(compile("def fail(): 1 / 0", "odd\ud800.py", "exec"), scope)

    text = describe_exception(_caught(scope["fail"]))

    assert '  File "odd\ufffd.py", line 1, in fail\n' in text
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_when_all_else_fails_the_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cronqueue.tracebacks._frames", lambda tb: 1 / 0)
    assert describe_exception(OSError()) == "OSError (its traceback cannot be described)"


_types = st.sampled_from(
    [Exception, BaseException, ValueError, KeyError, SystemExit, StopIteration]
)
_returns = st.text() | st.none() | st.binary() | st.builds(_StrangeStr, st.text())


@given(_types, _returns, st.booleans(), st.text(), st.lists(st.text() | st.integers(), max_size=3))
def test_any_exception_class_gets_a_description_that_both_databases_take(
    base: type[BaseException], returned: object, fails: bool, name: str, notes: list[object]
) -> None:
    def text_of(self: BaseException) -> object:
        if fails:
            raise self
        return returned

    def fill(namespace: dict[str, object]) -> None:
        namespace.update(__str__=text_of, __repr__=text_of, __qualname__=name)

    error = types.new_class("Made", (base,), {}, fill)()
    error.__notes__ = notes

    text = describe_exception(_caught(lambda: _raise(error)))

    assert 0 < len(text.encode("utf-8")) <= MAX_ERROR_BYTES
    assert "\0" not in text


@given(st.text(st.characters()) | st.text("aé€😀\0\ud800", max_size=2_000), st.integers(4, 900))
def test_sanitized_text_fits_its_limit_in_bytes_and_stays_as_it_is(text: str, limit: int) -> None:
    clean = sanitize(text, limit)

    assert len(clean.encode("utf-8")) <= limit
    assert "\0" not in clean
    assert sanitize(clean, limit) == clean


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_good_text_within_the_limit_is_not_touched(text: str) -> None:
    assert sanitize(text, 4 * len(text) + 4) == text


def test_a_cut_says_how_much_is_missing() -> None:
    cut = sanitize("a" * 5_000 + "b" * 5_000, 1_060)

    assert cut == "a" * 500 + "\n[... 9,000 characters left out ...]\n" + "b" * 500
    assert sanitize("a" * 50, 13) == "a" * 10 + "…"
