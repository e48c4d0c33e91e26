"""What a schedule's times were computed with: the offsets of its zones, and croniter.

Both are noted when it is stored. When an update of tzdata moves a clock of one of its zones, or croniter
has another major release, its times are computed again, as if they had been edited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cronqueue.errors import CronqueueError
from cronsched.cronexpr import croniter_major
from cronsched.definition import Definition
from cronsched.timezones import offsets_fingerprint

# As far as the next two occurrences of nearly any schedule reach; a mark is renewed once a year.
_YEARS = 9


def zone_mark(definition: Definition, now: datetime) -> str:
    """The schedule's zones with a hash of their offsets in the years from now on."""
    zones = sorted({definition.tz, *_zones_in(json.loads(definition.to_json()))})
    return _mark(",".join(zones), now.year)


def is_current(mark: str | None, now: datetime) -> bool:
    """Whether the mark is of this year; else it is to be renewed."""
    return mark is not None and mark.startswith(f"{now.year} ")


def reason_to_recompute(mark: str | None, major: int | None, definition: str) -> str | None:
    """Why the times that were stored with these marks may be others now; None if they are not."""
    present = croniter_major()
    if major is not None and major != present and '"kind":"cron"' in definition:
        return f"croniter {major} -> {present}"
    if mark is None or _again(mark) == mark:
        return None
    return f"tzdata: another clock in {mark.split()[1]}"


def _zones_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "tz" and isinstance(each, str):
                yield each
            else:
                yield from _zones_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _zones_in(each)


def _again(mark: str) -> str:
    """The mark as it would be made now, of the same zones and years."""
    try:
        year, zones, _ = mark.split()
        return _mark(zones, int(year))
    except (ValueError, CronqueueError, OSError):
        return mark  # written by hand, or of a zone that is not here: there is nothing to compare


@lru_cache(maxsize=1024)
def _mark(zones: str, year: int) -> str:
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + _YEARS, 1, 1, tzinfo=UTC)
    hashes = [offsets_fingerprint(zone, start, end)[:16] for zone in zones.split(",")]
    return f"{year} {zones} {','.join(hashes)}"
