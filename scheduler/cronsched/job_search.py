"""Jobs found by what they carry, tags and arguments, which no index holds.

So many are looked at, `LOOKED_AT`, and no more; the page that is found says where to go on. What redaction
hides is not found: whoever may not read a secret could guess it, letter by letter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cronqueue import queries
from cronqueue.database import Database
from cronqueue.queries import Filter, JobRow, Order, Page, Place
from cronsched.redaction import redacted

LOOKED_AT = 10_000
_AT_ONCE = 2_000
# Of arguments, which may be large.
_READ_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Carried:
    """What a job carries.

    A tag is meant by its name, its value, or both: `customer=acme`. An argument is meant by its value, at any
    depth, or with the name that it was given: `user_id=7`. A text is found by any part of it, whatever its
    case; a number, true, false and null by the whole.
    """

    tag: str | None = None
    argument: str | None = None


NOTHING = Carried()


def find_page(
    database: Database,
    chosen: Filter,
    carried: Carried = NOTHING,
    order: Order = "newest",
    *,
    after: Place | None = None,
    limit: int = 50,
) -> Page:
    """A page of the jobs that are meant and carry this.

    With `next` it may be short or empty: then `LOOKED_AT` jobs have been looked at, and others are left.
    """
    if carried == NOTHING:
        return queries.select_page(database, chosen, order, after=after, limit=limit)
    found: list[JobRow] = []
    for _ in range(LOOKED_AT // _AT_ONCE):
        page = queries.select_page(database, chosen, order, after=after, limit=_AT_ONCE)
        for row in _carrying(database, page.rows, carried):
            if len(found) == limit:
                return Page(found, queries.place_of(found[-1], order))
            found.append(row)
        after = page.next
        if after is None:
            break
    return Page(found, after)


def find_all(
    database: Database, chosen: Filter, carried: Carried = NOTHING, *, limit: int | None = None
) -> Iterator[JobRow]:
    """All of them, page by page in their natural order: there may be millions."""
    after, left = None, limit
    while left is None or left > 0:
        room = _AT_ONCE if left is None else min(left, _AT_ONCE)
        page = find_page(database, chosen, carried, chosen.natural_order, after=after, limit=room)
        yield from page.rows
        after = page.next
        if after is None:
            return
        left = None if left is None else left - len(page.rows)


def _carrying(database: Database, rows: Sequence[JobRow], carried: Carried) -> Iterator[JobRow]:
    tagged = [row for row in rows if carried.tag is None or _is_tagged(row, carried.tag)]
    if carried.argument is None:
        yield from tagged
        return
    for start in range(0, len(tagged), _READ_AT_ONCE):
        some = tagged[start : start + _READ_AT_ONCE]
        stored = queries.read_arguments(database, [row.id for row in some])
        for row in some:
            if _holds(stored.get(row.id), carried.argument):
                yield row


def _is_tagged(row: JobRow, wanted: str) -> bool:
    tags = _shown(row.tags_json)
    if not isinstance(tags, dict):
        return False
    return any(wanted in (name, value, f"{name}={value}") for name, value in tags.items())


def _holds(stored: str | None, wanted: str) -> bool:
    """Whether an argument is meant: by what it is, or as NAME=VALUE."""
    name, is_named, rest = wanted.partition("=")
    try:
        return any(
            _is(each, wanted) or (bool(is_named) and name in names and _is(each, rest))
            for names, each in _leaves(_shown(stored), ())
        )
    except RecursionError:
        return False


def _leaves(value: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every text, number and constant, with the names under which it stands."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name != "$type":
                yield from _leaves(each, (*names, name))
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, names)
    else:
        yield names, value


def _is(value: Any, wanted: str) -> bool:
    if isinstance(value, str):
        return wanted.casefold() in value.casefold()
    return json.dumps(value) == wanted


def _shown(stored: str | None) -> Any:
    """What may be seen of it; nothing of a damaged one."""
    try:
        return redacted(json.loads(stored or "null"), within=True)
    except (ValueError, RecursionError):
        return None
