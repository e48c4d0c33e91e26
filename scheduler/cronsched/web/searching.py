"""The search box: `queue:mail state:failed since:2h`, read and written back. Pure.

What jobs carry, `tag:` and `arg:`, is taken out first: acts on all that match know the filter alone.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

from cronqueue.durations import parse_duration
from cronqueue.queries import Filter
from cronqueue.states import STATES
from cronsched.job_search import NOTHING, Carried
from cronsched.web.problems import Refused

# Words of the language, and the field of the filter that each means.
WORDS = {
    "state": "states",
    "queue": "queue",
    "task": "task",
    "schedule": "schedule",
    "worker": "worker",
    "key": "key",
    "id": "ids",
    "priority": "min_priority",
    "since": "since",
}
_TOKEN = re.compile(r'(\w+):(?:"([^"]*)"|(\S+))|(\S+)')
_CARRIED = {"tag": "tag", "arg": "argument"}
_PRIORITIES = re.compile(r"(-?\d{1,9})|(-?\d{1,9})?\.\.(-?\d{1,9})?")
_LARGEST_ID = 2**63 - 1


def take_carried(text: str) -> tuple[str, Carried]:
    """The rest of a search, and what the jobs carry that it is for. Raises Refused."""
    carried, rest = NOTHING, []
    for match in _TOKEN.finditer(text.replace("\0", "")):
        word, quoted, plain, _ = match.groups()
        if word not in _CARRIED:
            rest.append(match[0])
        elif getattr(carried, _CARRIED[word]) is not None:
            raise Refused(422, "invalid", f"{word}: is given more than once")
        else:
            carried = replace(carried, **{_CARRIED[word]: quoted or plain or ""})
    return " ".join(rest), carried


def carried_as_search(carried: Carried) -> str:
    """As one would write it."""
    return " ".join(
        f"{word}:{_quoted(getattr(carried, field))}"
        for word, field in _CARRIED.items()
        if getattr(carried, field) is not None
    )


def read_search(text: str, now: datetime) -> Filter:
    """What is asked for. A number is a job's, any other bare word a task. Raises Refused."""
    chosen = Filter()
    for word, quoted, plain, bare in _TOKEN.findall(text.replace("\0", "")):
        if bare == "due":
            chosen = replace(chosen, due=True)
        elif bare:
            chosen = _with(chosen, "id" if bare.isdigit() else "task", bare, now)
        else:
            chosen = _with(chosen, word, quoted or plain, now)
    return chosen


def as_search(chosen: Filter) -> str:
    """The filter as one would write it."""
    words = [f"id:{each}" for each in chosen.ids]
    if chosen.states:
        words.append(f"state:{','.join(chosen.states)}")
    words += [
        f"{name}:{_quoted(getattr(chosen, name))}"
        for name in ("queue", "task", "schedule", "worker", "key")
        if getattr(chosen, name) is not None
    ]
    least, most = chosen.min_priority, chosen.max_priority
    if least is not None and least == most:
        words.append(f"priority:{least}")
    elif least is not None or most is not None:
        words.append(f"priority:{'' if least is None else least}..{'' if most is None else most}")
    if chosen.since is not None:
        words.append(f"since:{chosen.since.isoformat().replace('+00:00', 'Z')}")
    return " ".join(words + (["due"] if chosen.due else []))


def _with(chosen: Filter, word: str, value: str, now: datetime) -> Filter:
    if word in _CARRIED:
        raise Refused(
            422, "invalid", f"{word}: finds jobs to look at: select them to do something to them"
        )
    if word not in WORDS:
        known = ", ".join(f"{each}:" for each in (*WORDS, *_CARRIED))
        raise Refused(422, "invalid", f"{word}: is not known; there are {known} and due")
    field: dict[str, Any] = {WORDS[word]: value}
    if word == "state":
        field["states"] = tuple(value.split(","))
        for each in field["states"]:
            if each not in STATES:
                known = ", ".join(STATES)
                raise Refused(422, "invalid", f"there is no state {each!r}: there are {known}")
    elif word == "id":
        field["ids"] = (*chosen.ids, *_numbers(value))
    elif word == "priority":
        field["min_priority"], field["max_priority"] = _priorities(value)
    elif word == "since":
        field["since"] = _since(value, now)
    return replace(chosen, **field)


def _numbers(value: str) -> list[int]:
    parts = value.split(",")
    if not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
        raise Refused(422, "invalid", f"id:{value} is no number")
    return [min(int(part), _LARGEST_ID) for part in parts]


def _priorities(value: str) -> tuple[int | None, int | None]:
    match = _PRIORITIES.fullmatch(value)
    if match is None or value == ".." or not value.isascii():
        raise Refused(422, "invalid", f"priority:{value} is none: write priority:5, 5.., ..5, 1..5")
    exact, least, most = (None if each is None else int(each) for each in match.groups())
    return (least, most) if exact is None else (exact, exact)


def _since(value: str, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() is not None:
            return moment
    except ValueError:
        try:
            return now - parse_duration(value)
        except (ValueError, OverflowError):
            pass
    raise Refused(
        422, "invalid", f"since:{value} is neither a duration (2h) nor a time with its zone"
    )


def _quoted(value: str) -> str:
    return f'"{value}"' if re.search(r"\s", value) else value
