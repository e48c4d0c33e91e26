"""A screen that goes on: lines that are shown again and again, until somebody has seen enough."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Callable, Iterator

from cronsched.cli.exits import clean
from cronsched.cli.output import counted

# However many look, they take the database one part in so many of its time.
REST = 20
_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


def show_live(lines: Callable[[], list[str]], every: float) -> None:
    """Look again and again, every so many seconds; until q is pressed, any other key looks at once."""
    with _screen(), _keys() as is_keyboard:
        _go_on(lines, max(every, 0.1), is_keyboard)


def _go_on(lines: Callable[[], list[str]], every: float, is_keyboard: bool) -> None:
    shown: list[str] = []
    while True:
        began = time.monotonic()
        try:
            shown = lines()
            foot = "q ends it"
        except Exception as error:  # the database is away: what was seen last stays
            foot = (
                f"q ends it. This is old: {str(error).splitlines()[0] if str(error) else error!r}"
            )
        _draw(shown, clean(foot))
        took = time.monotonic() - began
        if is_keyboard:
            ready, _, _ = select.select([sys.stdin], [], [], max(every, took * REST))
            if ready and _is_end(os.read(sys.stdin.fileno(), 100)):
                return
        else:
            time.sleep(max(every, took * REST))


def _is_end(typed: bytes) -> bool:
    """A q among the keys, or a terminal that is gone."""
    return not typed or b"q" in typed.lower()


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, so that the first is as it was afterwards."""
    sys.stdout.write(_BEGIN)
    try:
        yield
    finally:
        sys.stdout.write(_END)
        sys.stdout.flush()


@contextlib.contextmanager
def _keys() -> Iterator[bool]:
    """Keys without Enter and without an echo; whether there are any."""
    if not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _draw(lines: list[str], foot: str) -> None:
    """What fits; the foot stands in the last line. Over what was there, so that nothing flickers."""
    width, height = shutil.get_terminal_size()
    hidden = len(lines) - (height - 1)
    if hidden > 0:
        foot = f"{foot}; {counted(hidden, 'more line')} for a higher terminal"
    fitting = [_cut(line, width) for line in lines[: height - 1]]
    fitting = [*fitting, *[""] * (height - 1 - len(fitting)), _cut(foot, width)]
    sys.stdout.write(_HOME + f"{_TO_END_OF_LINE}\n".join(fitting) + _TO_END_OF_LINE + _TO_END)
    sys.stdout.flush()


def _cut(line: str, width: int) -> str:
    """As much as fits, with a sign where there is more."""
    from rich.cells import cell_len, set_cell_size

    return line if cell_len(line) <= width else f"{set_cell_size(line, width - 1)}…"
