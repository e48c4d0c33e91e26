"""Cron times of `cronsched` against the walked minutes of `debian_cron`, around changes of the clock.

`python tests/compare_clocks.py` takes every change of every zone of tzdata in the years 2000 to 2037;
zones with the same history count once. The test suite takes a sample.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from importlib.metadata import version
from itertools import product
from zoneinfo import ZoneInfo

import click

import debian_cron
from cronsched.triggers import Cron
from debian_cron import HOUR, MINUTE, SECOND, Expression, WakeUp

FIRST_YEAR, LAST_YEAR = 2000, 2037
# Every minute and second is walked at one change in so many: they are a hundred times the work.
DENSE_EVERY = 20
EXPRESSIONS = (
    "30 2 * * *",
    "0 */2 * * *",
    "*/15 2 * * *",
    "0 1-3 * * *",
    "*/20 1,2,3 * * *",
    "7 */3 * * *",
    "0 0 * * *",
    "30 23 * * *",
    "30 2 * * 0",
    "5,35 0,1,2,3,22,23 * * *",
    "0-59/10 2-3 * * *",
    "0 * * * *",
    "59 23 31 * 6",
    "30 0-4 1-15 * */2",
    "15 3 */2 * 0",
)
DENSE = ("* * * * *", "*/7 0-5 * * *")
WITH_SECONDS = ("15 30 2 * * *", "*/20 59 1-2 * * *", "30 */20 * * * *", "59 59 0-3,23 * * *")
KNOBS = tuple(product(("shift", "skip"), ("first", "last", "both")))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was compared at one change of a clock, and each case in which the two differ."""

    cases: int
    instants: int
    differences: tuple[str, ...]


def compare(tz: str, change: datetime, *, dense: bool) -> Outcome:
    """All expressions and knobs from five hours before the change to nine hours after it."""
    start, end = change - 5 * HOUR, change + 9 * HOUR
    steps = _walked(tz, start, end, MINUTE)
    outcomes = [
        _case(tz, text, steps, start, end, *knobs)
        for text, knobs in _cases(tz, change, dense=dense)
    ]
    if dense:
        start, end = change - 4 * HOUR, change + 4 * HOUR
        seconds = _walked(tz, start, end, SECOND)
        outcomes += [_case(tz, text, seconds, start, end, *KNOBS[0]) for text in WITH_SECONDS]
    return _added_up(outcomes)


def _cases(tz: str, change: datetime, *, dense: bool) -> Iterator[tuple[str, tuple[str, str]]]:
    for text in EXPRESSIONS + (DENSE if dense else ()):
        yield text, KNOBS[0]
    # Times that the clock skips or repeats just here, whatever the hour.
    zone = ZoneInfo(tz)
    before = (change - MINUTE).astimezone(zone).replace(tzinfo=None) + MINUTE
    after = change.astimezone(zone).replace(tzinfo=None)
    moment = min(before, after) + 10 * MINUTE
    yield f"*/10 {moment.hour} * * *", KNOBS[0]
    yield f"{moment.minute} {moment.hour},{(moment.hour + 1) % 24} {moment.day} * *", KNOBS[0]
    yield f"{moment.minute} {moment.hour} * * {moment.isoweekday() % 7}", KNOBS[0]
    for knobs in KNOBS:
        yield f"{moment.minute} {moment.hour} * * *", knobs
        yield f"0,20,40 {before.hour},{after.hour} * {moment.month} *", knobs


def _walked(tz: str, start: datetime, end: datetime, step: timedelta) -> list[WakeUp]:
    # The daemon must have been up for a while, and must see what comes again after the end.
    steps = debian_cron.wake_ups(tz, start - 4 * HOUR, end + 4 * HOUR, step)
    return [each for each in steps if start <= each.instant < end]


def _case(
    tz: str,
    text: str,
    steps: list[WakeUp],
    start: datetime,
    end: datetime,
    dst_gap: str,
    dst_overlap: str,
) -> Outcome:
    """One expression; the product is asked in two pieces, cut at a second that depends on the case."""
    expected = debian_cron.runs(Expression.read(text), steps, dst_gap, dst_overlap)
    drawn = int.from_bytes(sha256(f"{tz}{start}{text}".encode()).digest()[:4])
    middle = start + drawn % ((end - start) // SECOND) * SECOND
    cron = Cron(text, tz, dst_gap, dst_overlap)  # type: ignore[arg-type]
    found = [*cron.between(start, middle), *cron.between(middle, end)]
    if found == expected:
        return Outcome(1, len(expected), ())
    wrong = [f"{instant:%d. %H:%M:%S}" for instant in sorted(set(found) ^ set(expected))]
    shown = (
        f"{tz} {text!r} {dst_gap}/{dst_overlap} around {start + 5 * HOUR}: {wrong[:4] or 'order'}"
    )
    return Outcome(1, len(expected), (shown,))


def _added_up(outcomes: list[Outcome]) -> Outcome:
    return Outcome(
        sum(each.cases for each in outcomes),
        sum(each.instants for each in outcomes),
        tuple(difference for each in outcomes for difference in each.differences),
    )


History = tuple[str, tuple[datetime, ...], tuple[timedelta | None, ...]]


def history(tz: str) -> History:
    """A zone's changes of the clock in all the years, and the offsets between them."""
    zone = ZoneInfo(tz)
    changes = tuple(debian_cron.clock_changes(tz, FIRST_YEAR, LAST_YEAR))
    moments = (datetime(FIRST_YEAR, 1, 1, tzinfo=zone), *changes)
    return tz, changes, tuple(moment.astimezone(zone).utcoffset() for moment in moments)


def compare_history(tz: str, changes: tuple[datetime, ...]) -> Outcome:
    """Every change of one zone."""
    return _added_up(
        [
            compare(tz, change, dense=(number + len(tz)) % DENSE_EVERY == 0)
            for number, change in enumerate(changes)
        ]
    )


def main() -> None:
    """Compare everything, show how far it is, and end with the counts; exit code 1 for a difference."""
    began = time.monotonic()
    names = debian_cron.zone_names()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        distinct: dict[object, History] = {}
        for number, found in enumerate(pool.map(history, names, chunksize=4), start=1):
            distinct.setdefault(found[1:], found)
            _progress(f"zones read: {number} of {len(names)}")
        changing = [(tz, changes) for tz, changes, _ in distinct.values() if changes]
        outcomes: list[Outcome] = []
        for outcome in pool.map(compare_history, *zip(*changing, strict=True)):
            outcomes.append(outcome)
            _progress(f"histories compared: {len(outcomes)} of {len(changing)}")
    total = _added_up(outcomes)
    for difference in total.differences[:50]:
        click.echo(f"\n{difference}")
    click.echo(
        f"\n{len(names)} zones of tzdata {version('tzdata')}, {len(changing)} distinct histories with "
        f"{sum(len(changes) for _, changes in changing)} changes in {FIRST_YEAR}-{LAST_YEAR}: "
        f"{total.cases} cases, {total.instants} instants, {len(total.differences)} differences "
        f"({time.monotonic() - began:.0f} s)"
    )
    sys.exit(bool(total.differences))


def _progress(text: str) -> None:
    if sys.stdout.isatty():
        click.echo(f"\r{text}", nl=False)
    else:
        click.echo(text)


if __name__ == "__main__":
    main()
