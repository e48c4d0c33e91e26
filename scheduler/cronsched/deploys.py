"""Deploys: whose schedule files win when daemons with different ones share a database. Pure.

What was applied stays in force until a daemon

    1. brings a higher release
    2. brings files that nobody has brought before, and no lower release
    3. loads something else where these came from, and no other living daemon holds them: somebody edits,
       and undoes, on one machine
    4. holds others, while nobody who holds these has been heard of for a long time

or somebody puts others in force by hand. Any other daemon follows. So a deploy wins at once, and a new
version that crashes again and again does not make the schedules go to and fro.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronqueue.durations import format_duration
from cronqueue.overview import SILENT_AFTER

# Whoever was cut off, or asleep with the whole machine, has not heard the others either: before he takes
# over from them he must have been in touch for this long, without a pause longer than the other.
IN_TOUCH_FOR = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Known:
    """A manifest that was brought once. `held_at`: when it came in force, or a daemon last let go of it."""

    hash: str
    release: int | None
    first_seen_at: datetime
    is_in_force: bool = False
    held_at: datetime | None = None
    brought_by: str | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """A daemon, the files it holds, and when it was last heard of."""

    daemon: str
    hash: str
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class Situation:
    """What the database knows at a moment."""

    known: tuple[Known, ...]
    holders: tuple[Holder, ...]
    now: datetime

    @property
    def in_force(self) -> Known | None:
        return next((each for each in self.known if each.is_in_force), None)


@dataclass(frozen=True, slots=True)
class Contact:
    """Since when a daemon has been in touch with the database, and when it last was, by its clock."""

    since: datetime
    last: datetime

    def at(self, now: datetime) -> Contact:
        """The same a moment later; it begins anew after a pause, or when the clock went back."""
        is_unbroken = timedelta(0) <= now - self.last <= LONGEST_PAUSE
        return Contact(self.since if is_unbroken else now, now)


@dataclass(frozen=True, slots=True)
class Brought:
    """What a daemon has loaded.

    `place`: where from, the same after a restart. `loaded_under`: the hash in force at that time.
    `was_following`: what it had loaded before was not in force.
    """

    daemon: str
    place: str
    hash: str
    is_complete: bool = True
    release: int | None = None
    loaded_under: str | None = None
    was_following: bool = False
    contact: Contact | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the files are to be applied, and why; `in_force`: the hash that was in force before."""

    applies: bool
    reason: str
    in_force: str | None
    contact: Contact


def decide(brought: Brought, situation: Situation, takeover_after: timedelta) -> Decision:
    """Apply or follow."""
    in_force = situation.in_force
    now = situation.now
    contact = Contact(now, now) if brought.contact is None else brought.contact.at(now)
    if in_force is None:
        return Decision(True, "nothing was in force", None, contact)
    if brought.is_complete:
        reason = _judge(brought, in_force, situation, contact, takeover_after)
    else:
        reason = _judge_incomplete(brought, in_force)
    if reason is not None:
        return Decision(True, reason, in_force.hash, contact)
    return Decision(False, _why_not(brought, in_force), in_force.hash, contact)


def _judge(
    brought: Brought,
    in_force: Known,
    situation: Situation,
    contact: Contact,
    takeover_after: timedelta,
) -> str | None:
    """Why these files win; None if they do not."""
    if brought.hash == in_force.hash:
        return "these files are in force"
    release, other = _rank(brought.release), _rank(in_force.release)
    if release > other:
        return f"release {brought.release} is higher than {_named(in_force.release)}"
    if release == other and all(each.hash != brought.hash for each in situation.known):
        return "nobody has brought these files before"
    if _is_edited(brought, in_force, situation):
        return "what was in force came from here, and no other daemon holds it"
    silence = situation.now - _last_heard(in_force, situation)
    in_touch = contact.last - contact.since
    is_silent = silence >= takeover_after and in_touch >= min(takeover_after, IN_TOUCH_FOR)
    if is_silent and _is_newest(brought, in_force, situation):
        return f"no daemon with the files in force has been heard of for {_words(silence)}"
    return None


def _judge_incomplete(brought: Brought, in_force: Known) -> str | None:
    """Files with a fault are new by nature. But a follower in which one breaks stays a follower."""
    release, other = _rank(brought.release), _rank(in_force.release)
    if release < other or (brought.was_following and release == other):
        return None
    return "the files without a fault add and change"


def _is_edited(brought: Brought, in_force: Known, situation: Situation) -> bool:
    """Whether what is in force came from here, and was left here by loading other files since."""
    others = (each for each in _living(situation) if each.daemon != brought.daemon)
    return (
        brought.place == in_force.brought_by
        and brought.loaded_under == in_force.hash
        and all(each.hash != in_force.hash for each in others)
    )


def _last_heard(in_force: Known, situation: Situation) -> datetime:
    heard = [each.heartbeat_at for each in situation.holders if each.hash == in_force.hash]
    return max([in_force.held_at or in_force.first_seen_at, *heard])


def _is_newest(brought: Brought, in_force: Known, situation: Situation) -> bool:
    """Whether no other living daemon holds something newer than these, which then takes over."""
    held = {each.hash for each in _living(situation)} - {in_force.hash}
    ages = {
        each.hash: (_rank(each.release), each.first_seen_at, each.hash) for each in situation.known
    }
    mine = ages.get(brought.hash, (_rank(brought.release), situation.now, brought.hash))
    return all(ages[each] <= mine for each in held & ages.keys())


def _living(situation: Situation) -> Iterator[Holder]:
    return (each for each in situation.holders if situation.now - each.heartbeat_at <= SILENT_AFTER)


def _why_not(brought: Brought, in_force: Known) -> str:
    if _rank(brought.release) < _rank(in_force.release):
        ours, theirs = _named(brought.release), _named(in_force.release)
        return f"schedule files of {theirs} are in force, and these are of {ours}"
    origin = "" if in_force.brought_by is None else f", from {in_force.brought_by}"
    return f"other schedule files are in force{origin}"


def _rank(release: int | None) -> int:
    """A deployment without a number is older than any with one."""
    return -1 if release is None else release


def _named(release: int | None) -> str:
    return "no release" if release is None else f"release {release}"


def _words(duration: timedelta) -> str:
    return format_duration(timedelta(seconds=round(duration.total_seconds())))
