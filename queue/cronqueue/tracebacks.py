"""Exceptions as text for the database: whatever an exception does, it gets a bounded description.

The layout is Python's own, without local variables. Deep recursion, huge messages, endless chains
and wide groups cost a few milliseconds; only an exception's own `__str__` can take longer.
"""

from __future__ import annotations

import os
import re
import textwrap
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

from cronqueue.known_types import type_name

# Bytes of UTF-8, kept for every failed attempt: more than anybody reads, little enough to list.
MAX_ERROR_BYTES: Final = 64 * 1024
# Bytes of one exception's message, so that a long one does not push its traceback out.
_MAX_MESSAGE: Final = 8 * 1024
# Bytes of one exception with its frames; a generated source line may be a megabyte.
_MAX_BLOCK: Final = 24 * 1024
# Frames shown of one traceback: where the way begins, and where it ends.
_FIRST_FRAMES: Final = 20
_LAST_FRAMES: Final = 40
# Exceptions of one chain, members of one group, and all of a report together.
_MAX_CHAIN: Final = 10
_MAX_MEMBERS: Final = 10
_MAX_EXCEPTIONS: Final = 40
_MAX_NOTES: Final = 20

# Below this many bytes a text keeps only its head: there is no room for a line about the cut.
_SHORT: Final = 200
_CUT_LINE: Final = 60

_REFUSED_BY_DATABASES: Final = re.compile(r"[\x00\ud800-\udfff]")
_NAMES_EXCEPTION: Final = re.compile(r"[^\W\d][\w.]*(:|$)")
_OWN_FOLDER: Final = os.path.dirname(__file__) + os.sep

_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def describe_exception(exc: BaseException) -> str:
    """The traceback of an exception, its causes and its group; never raises, never empty.

    At most MAX_ERROR_BYTES, head and tail kept. The frames of this package that lead to the task
    are left out. The text holds nothing that a database refuses.
    """
    try:
        text = _Report().chain(exc)
    except Exception:
        text = f"{type_name(type(exc))} (its traceback cannot be described)"
    return sanitize(text, MAX_ERROR_BYTES)


def sanitize(text: str, limit: int) -> str:
    """The text as a database takes it: at most `limit` (4 or more) bytes of UTF-8.

    NUL and lone surrogates become U+FFFD. Of a longer text head and tail stay, with a line between
    them that says how much is missing; below 200 bytes the head and an ellipsis.
    """
    text = str.__str__(text)  # a subclass may have changed everything else
    if len(text) <= limit:
        clean = _clean(text)
        if len(clean.encode()) <= limit:
            return clean
    if limit < _SHORT:
        return f"{_head(text, limit - 3)}…"
    room = (limit - _CUT_LINE) // 2
    head, tail = _head(text, room), _tail(text, room)
    return f"{head}\n[... {len(text) - len(head) - len(tail):,} characters left out ...]\n{tail}"


def error_line(error: str | None) -> str:
    """Of a traceback the line that names the exception; of any other text the last line."""
    lines = [line.rstrip() for line in (error or "").splitlines() if line.strip()]
    if not lines:
        return ""
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    for line in lines[frames[-1] + 1 :] if frames else ():
        # A message may have lines of its own: the exception's name stands before the first of them.
        if _NAMES_EXCEPTION.match(line):
            return line
    return lines[-1]


def _clean(text: str) -> str:
    return _REFUSED_BY_DATABASES.sub("\ufffd", text)


def _head(text: str, room: int) -> str:
    return _clean(text[:room]).encode()[:room].decode(errors="ignore")


def _tail(text: str, room: int) -> str:
    return _clean(text[-room:]).encode()[-room:].decode(errors="ignore")


class _Report:
    """One description; what it has shown already, it does not show again."""

    def __init__(self) -> None:
        self._shown: set[int] = set()

    def chain(self, exc: BaseException) -> str:
        """The exception after those that led to it."""
        blocks: list[str] = []
        while True:
            blocks.append(self._block(exc))
            before, phrase = _earlier(exc)
            if before is None:
                break
            blocks.append(phrase)
            if id(before) in self._shown or len(blocks) >= 2 * _MAX_CHAIN or self._is_full():
                blocks.append(f"[... {type_name(type(before))} and what led to it left out ...]\n")
                break
            exc = before
        return "".join(reversed(blocks))

    def _block(self, exc: BaseException) -> str:
        self._shown.add(id(exc))
        frames = "".join(_frames(_field(exc, "__traceback__")))
        stack = f"Traceback (most recent call last):\n{frames}" if frames else ""
        lines = [_headline(exc), *_notes(exc)]
        own = sanitize(stack, _MAX_BLOCK) + "".join(f"{line}\n" for line in lines)
        return own + "".join(self._members(exc))

    def _members(self, exc: BaseException) -> Iterator[str]:
        if not issubclass(type(exc), BaseExceptionGroup):
            return
        members = BaseExceptionGroup.__dict__["exceptions"].__get__(exc)
        for number, member in enumerate(members, start=1):
            if number > _MAX_MEMBERS or self._is_full():
                yield f"  [... {len(members) - number + 1:,} exceptions left out ...]\n"
                return
            yield f"  +---------------- {number} of {len(members):,} ----------------\n"
            again = f"[... {type_name(type(member))}, shown above ...]\n"
            text = again if id(member) in self._shown else self.chain(member)
            yield textwrap.indent(text, "  | ", lambda line: True)

    def _is_full(self) -> bool:
        return len(self._shown) >= _MAX_EXCEPTIONS


def _earlier(exc: BaseException) -> tuple[BaseException | None, str]:
    cause = _field(exc, "__cause__")
    if cause is not None or _field(exc, "__suppress_context__"):
        return cause, _CAUSED
    return _field(exc, "__context__"), _DURING


def _field(exc: BaseException, name: str) -> Any:
    # The real one: a class may lay a property of its own over it.
    return BaseException.__dict__[name].__get__(exc)


def _headline(exc: BaseException) -> str:
    name, message = type_name(type(exc)), _text_of(exc)
    return f"{name}: {message}" if message else name


def _notes(exc: BaseException) -> list[str]:
    try:
        notes = getattr(exc, "__notes__", None)
    except BaseException:
        return []
    if type(notes) is not list:
        return []
    left_out = len(notes) - _MAX_NOTES
    shown = [_text_of(note) for note in notes[:_MAX_NOTES]]
    return [*shown, f"[... {left_out:,} notes left out ...]"] if left_out > 0 else shown


def _text_of(value: object) -> str:
    try:
        return sanitize(str(value), _MAX_MESSAGE)
    except BaseException as fault:
        # Also SystemExit and its like: raised by a mere `__str__`, they are not meant for us.
        return f"<its __str__ raised {type_name(type(fault))}>"


def _frames(tb: TracebackType | None) -> list[str]:
    steps = list(_steps(tb))
    start = next((place for place, step in enumerate(steps) if not _is_own(step)), 0)
    steps = steps[start:]
    left_out = len(steps) - _FIRST_FRAMES - _LAST_FRAMES
    if left_out <= 0:
        return _formatted(steps)
    first, last = steps[:_FIRST_FRAMES], steps[-_LAST_FRAMES:]
    return [*_formatted(first), f"  [... {left_out:,} frames left out ...]\n", *_formatted(last)]


def _steps(tb: TracebackType | None) -> Iterator[TracebackType]:
    while tb is not None:
        yield tb
        tb = tb.tb_next


def _is_own(step: TracebackType) -> bool:
    return step.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER)


def _formatted(steps: list[TracebackType]) -> list[str]:
    if not steps:
        return []
    try:
        return traceback.format_list(traceback.extract_tb(steps[0], len(steps)))
    except Exception:
        # Source that cannot be read, or a module whose loader fails: the places alone.
        codes = [(step.tb_frame.f_code, step.tb_lineno) for step in steps]
        return [f'  File "{c.co_filename}", line {line}, in {c.co_name}\n' for c, line in codes]
