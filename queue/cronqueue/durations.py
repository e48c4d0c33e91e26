"""Durations as people write them: "90s", "1h30m", "1.5h", a number of seconds."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction
from typing import Final

# Nobody means more than this; most likely the unit is wrong.
MAX_DURATION: Final = timedelta(days=3653)  # ten years

_MICROSECONDS: Final = {
    "w": 7 * 86_400_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
}
_NUMBER: Final = r"([0-9]{1,12}(?:\.[0-9]{1,12})?)"
# Each unit once, the larger ones first.
_UNITS: Final = re.compile(" ?".join(rf"(?:{_NUMBER} ?{unit})?" for unit in _MICROSECONDS))
_SECONDS: Final = re.compile(_NUMBER)
_ACCEPTED: Final = (
    'give seconds as a number, a timedelta, or text such as "90s", "5m", "2h", "1d", "1w", '
    '"1h30m" or "1.5h": at least 0, at most 10 years'
)


def parse_duration(value: str | int | float | timedelta) -> timedelta:
    """The duration that is meant; a plain number, also as text, counts seconds.

    Units: w, d, h, m (minutes), s and ms, from large to small. Rounded to microseconds. Raises
    ValueError with the accepted forms.
    """
    duration = _duration(value)
    if duration is None or not timedelta(0) <= duration <= MAX_DURATION:
        raise ValueError(f"{_shown(value)} is not a duration: {_ACCEPTED}")
    return duration


def format_duration(duration: timedelta) -> str:
    """The two largest units of a duration, the rest cut off: "1m 30s", "3d 4h", "250ms"."""
    microseconds = duration // timedelta(microseconds=1)
    if microseconds < 0:
        return f"-{format_duration(-duration)}"
    if 0 < microseconds < 1_000:
        return f"{microseconds / 1_000:g}ms"
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, microseconds = divmod(microseconds, _MICROSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def format_rough(seconds: float) -> str:
    """As one says it: milliseconds below a second, tenths below a minute, then the two largest units."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    return format_duration(timedelta(seconds=round(seconds)))


def _duration(value: object) -> timedelta | None:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # NaN and infinity are in no range either.
    if not 0 <= value <= MAX_DURATION.total_seconds():
        return None
    return timedelta(seconds=value)


def _from_text(text: str) -> timedelta | None:
    if _SECONDS.fullmatch(text):
        return _limited(Fraction(text) * _MICROSECONDS["s"])
    units = _UNITS.fullmatch(text)
    if not text or units is None:
        return None
    numbers = zip(units.groups(default="0"), _MICROSECONDS.values(), strict=True)
    return _limited(sum((Fraction(number) * size for number, size in numbers), Fraction(0)))


def _limited(microseconds: Fraction) -> timedelta | None:
    # A timedelta itself ends at a billion days.
    if microseconds > MAX_DURATION // timedelta(microseconds=1):
        return None
    return timedelta(microseconds=round(microseconds))


def _shown(value: object) -> str:
    if isinstance(value, str):
        text = ascii(value[:61])
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**30):
        text = str(value)
    else:
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."
