"""Triggers in plain words, for lists and pages."""

from __future__ import annotations

from datetime import date, datetime

from cronsched.cronexpr import CronExpression, explicit

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def cron_words(expression: CronExpression, tz: str) -> str:
    """A cron expression in words, with its zone; the expression itself where no words are found."""
    # Its words join two day fields by "or", whatever their rule.
    words = None if _needs_both_days(expression) else _described(explicit(expression))
    return f"{words or f'cron {expression.text}'} ({tz})"


def every_words(seconds: int, anchor: datetime | None) -> str:
    """A period in words, in all its units."""
    counted = "" if anchor is None else f", counted from {anchor:%Y-%m-%d %H:%M:%S} UTC"
    return f"every {_in_units(seconds)}{counted}"


def after_words(seconds: int) -> str:
    """A delay from the end of a run in words."""
    return f"{_in_units(seconds)} after the run before has ended"


def calendar_words(months: int, days: int, anchor: date) -> str:
    """A calendar interval in words, in its largest unit."""
    size, unit, smaller = (months, "year", "month") if months else (days, "week", "day")
    whole = 12 if months else 7
    count, name = (size // whole, unit) if size % whole == 0 else (size, smaller)
    words = name if count == 1 else f"{count} {name}s"
    return f"every {words} counted from {anchor}"


def _in_units(seconds: int) -> str:
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts)


def _needs_both_days(expression: CronExpression) -> bool:
    day, weekday = expression.field("day"), expression.field("weekday")
    restricted = not day.covers_all and not weekday.covers_all
    return restricted and (day.starts_with_star or weekday.starts_with_star)


def _described(expression: str) -> str | None:
    from cron_descriptor import ExpressionDescriptor, Options  # type: ignore[import-untyped]

    options = Options(use_24hour_time_format=True, locale_code="en_US")
    try:
        words = ExpressionDescriptor(expression, options).get_description()
    except Exception:  # it raises a dozen kinds of errors for forms that it does not know
        return None
    return words[:1].lower() + words[1:] or None
