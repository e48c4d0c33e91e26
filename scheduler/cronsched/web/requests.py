"""What a request asks for: its database, its filters, its places in lists. Raises Refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request

from cronqueue import configuration
from cronqueue.columns import EARLIEST, LATEST
from cronqueue.database import Database
from cronqueue.loglines import LinePlace
from cronqueue.queries import Filter, Order, Place
from cronqueue.settings import Settings
from cronqueue.states import STATES
from cronsched.web.memory import Memory
from cronsched.web.problems import Refused
from cronsched.web.roles import User

MOST_ROWS = 500
# What a column of 64 bits holds.
_LARGEST_ID = 2**63 - 1
_LARGEST_NUMBER = 2**31 - 1
_TEXTS = ("queue", "task", "schedule", "worker", "key")


def database_of(request: Request) -> Database:
    """The application's database: its own, or the one that this process is configured for."""
    own: Database | None = request.app.state.database
    return own or configuration.get_database()


def settings_of(request: Request) -> Settings:
    """The settings that the application was made with."""
    settings: Settings = request.app.state.settings
    return settings


def memory_of(request: Request) -> Memory:
    """What was counted a moment ago."""
    memory: Memory = request.app.state.memory
    return memory


def folder_of(request: Request) -> Path:
    """Where the schedule files are."""
    folder: Path = request.app.state.folder
    return folder


def actor_of(request: Request) -> str:
    """Under which name this request acts."""
    user: User = request.state.user
    return user.name


def job_id_of(request: Request) -> int:
    """The job in the path."""
    job_id = int(request.path_params["job_id"])
    if job_id > _LARGEST_ID:
        raise LookupError(f"there is no job {job_id}")
    return job_id


def filter_of(values: Mapping[str, str]) -> Filter:
    """Which jobs are meant; what is empty does not matter. `state` may list several."""
    states = tuple(each for each in values.get("state", "").split(",") if each)
    for each in states:
        if each not in STATES:
            raise Refused(
                422, "invalid", f"there is no state {each!r}: there are {', '.join(STATES)}"
            )
    if values.get("due", "1") not in ("1", "true", "yes"):
        raise Refused(422, "invalid", "due is 1, or left out")
    texts: dict[str, Any] = {name: text_of(values, name) for name in _TEXTS}
    return Filter(
        states=states,
        min_priority=priority_of(values, "min_priority"),
        max_priority=priority_of(values, "max_priority"),
        due="due" in values,
        since=moment_of(values, "since"),
        **texts,
    )


def text_of(values: Mapping[str, str], name: str) -> str | None:
    """A text without what no database takes."""
    text = values.get(name)
    if text is not None and "\0" in text:
        raise Refused(422, "invalid", f"{name} is no text")
    return text


def moment_of(values: Mapping[str, str], name: str) -> datetime | None:
    """A time with its zone."""
    text = values.get(name)
    return as_moment(name, text) if text else None


def as_moment(name: str, text: object) -> datetime:
    """A time as RFC 3339 has it."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise Refused(422, "invalid", f"{name} is no time: write 2026-01-31T07:30:00Z") from None
    if moment.utcoffset() is None:
        raise Refused(422, "invalid", f"{name} has no zone: write 2026-01-31T07:30:00Z")
    try:
        inside = EARLIEST <= moment < LATEST
    except OverflowError:
        inside = False
    if not inside:
        raise Refused(422, "invalid", f"{name} is out of range: give a time from 1970 to 8999")
    return moment


def number_of(
    values: Mapping[str, str], name: str, default: int, least: int = 1, most: int = MOST_ROWS
) -> int:
    """A whole number within bounds."""
    text = values.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise Refused(422, "invalid", f"{name} is a whole number from {least} to {most}")
    return int(text)


def priority_of(values: Mapping[str, str], name: str) -> int | None:
    """A priority that a job can have."""
    text = values.get(name)
    if not text:
        return None
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) < 11:
        number = int(text)
        if -_LARGEST_NUMBER - 1 <= number <= _LARGEST_NUMBER:
            return number
    raise Refused(422, "invalid", f"{name} is a whole number; higher runs first")


def order_of(values: Mapping[str, str]) -> Order:
    """The order that is asked for; it must fit the states."""
    order = values.get("order") or "newest"
    if order not in ("newest", "next", "ended"):
        raise Refused(422, "invalid", "order is newest, next or ended")
    return cast(Order, order)


def place_of(values: Mapping[str, str], name: str = "after") -> Place | None:
    """Where the page before has ended: "12", or "12~2026-01-31T07:30:00Z"."""
    text = values.get(name)
    if not text:
        return None
    number, _, moment = text.partition("~")
    if not (number.isascii() and number.isdigit() and 0 < int(number[:20]) <= _LARGEST_ID):
        raise Refused(422, "invalid", f"{name} is what `next` of the page before says")
    return Place(int(number[:20]), as_moment(name, moment) if moment else None)


def line_place_of(text: str | None, name: str = "after") -> LinePlace | None:
    """After which line of a log: "3.17" is the seventeenth of the third claim."""
    if not text:
        return None
    claim, _, number = text.partition(".")
    if not all(each.isascii() and each.isdigit() and len(each) < 19 for each in (claim, number)):
        raise Refused(422, "invalid", f"{name} is the claim and the number of a line, 3.17")
    return LinePlace(int(claim), min(int(number), _LARGEST_NUMBER))


def as_text(place: Place | None) -> str | None:
    """A place as `place_of` reads it."""
    if place is None:
        return None
    if place.moment is None:
        return str(place.id)
    return f"{place.id}~{place.moment.isoformat().replace('+00:00', 'Z')}"
