"""Almanacs: the times of a trigger that nothing but the user's own class can compute, written down ahead.

The process that loads the schedule file asks the trigger and stores what it answers, as far as that reaches.
Everybody else reads it there; the times before and after are not known to them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice, pairwise
from typing import Any

from cronsched.triggers import EPOCH, OpaqueTrigger, Spec, Trigger, from_text, to_text

KIND = "python"
# So many times of the past are kept, for the audit.
_MOST_KEPT = 5_000
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Almanac:
    """All times in [since, until), ascending; `until` None: after the last one there is none."""

    since: datetime
    until: datetime | None
    times: tuple[datetime, ...]

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Those of its times that lie in [start, end)."""
        times = self.times
        return islice(times, bisect_left(times, start), bisect_left(times, end))

    def agrees_with(self, newer: Almanac) -> bool:
        """Whether both tell the same of the time that both know."""
        since = max(self.since, newer.since)
        ends = [end for end in (self.until, newer.until) if end is not None]
        ours, theirs = (
            [each for each in some.times if since <= each and all(each < end for end in ends)]
            for some in (self, newer)
        )
        return ours == theirs

    def followed_by(self, newer: Almanac) -> Almanac:
        """The newer one with what this one knows of the time before it."""
        if newer.since <= self.since or (self.until is not None and self.until < newer.since):
            return newer
        before = [each for each in self.times if each < newer.since]
        since = self.since if len(before) <= _MOST_KEPT else before[-_MOST_KEPT]
        return Almanac(since, newer.until, (*before[-_MOST_KEPT:], *newer.times))

    def spec(self) -> Spec:
        """The times as seconds since 1970, each but the first counted from the one before."""
        seconds = [(each - EPOCH) // _SECOND for each in self.times]
        steps = [*seconds[:1], *(later - earlier for earlier, later in pairwise(seconds))]
        until = None if self.until is None else to_text(self.until)
        return {"since": to_text(self.since), "until": until, "times": steps}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Almanac:
        """The almanac whose `spec()` this is."""
        until = None if spec["until"] is None else from_text(spec["until"])
        times = tuple(datetime.fromtimestamp(each, UTC) for each in accumulate(spec["times"]))
        return cls(from_text(spec["since"]), until, times)


@dataclass(frozen=True, slots=True)
class OwnTrigger:
    """A trigger of a class that APScheduler does not bring along, known by its name, text and values.

    `rule` asks the object itself, in the process that has it. Two with the same values are the same rule,
    however far their almanacs reach.
    """

    class_name: str
    code: str
    state: tuple[tuple[str, str], ...]
    almanac: Almanac = field(compare=False, repr=False)
    rule: Trigger | None = field(default=None, compare=False, repr=False)

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Raises OpaqueTrigger where the range leaves what is known here."""
        if self.rule is not None:
            yield from self.rule.between(start, end)
            return
        if start < self.almanac.since:
            raise self._unknown("before", self.almanac.since)
        yield from self.almanac.between(start, end)
        if self.almanac.until is not None and self.almanac.until < end:
            raise self._unknown("after", self.almanac.until)

    def spec(self) -> Spec:
        return {
            "kind": KIND,
            "class": self.class_name,
            "code": self.code,
            "state": dict(self.state),
            "almanac": self.almanac.spec(),
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> OwnTrigger:
        """The trigger whose `spec()` this is, without the object."""
        state = tuple(sorted(spec["state"].items()))
        return cls(spec["class"], spec["code"], state, Almanac.from_spec(spec["almanac"]))

    def describe(self) -> str:
        values = (f"{name}={value}" for name, value in self.state)
        return " ".join([f"by {self.class_name}", *values])

    def _unknown(self, side: str, edge: datetime) -> OpaqueTrigger:
        return OpaqueTrigger(
            f"the times of a {self.class_name} {side} {edge:%Y-%m-%d %H:%M:%S} UTC cannot be computed here:"
            " only a process that loads its schedule file can"
        )


def rule_of(spec: Any) -> Any:
    """A trigger's spec without the almanacs in it: what it means, whenever it was made."""
    if isinstance(spec, Mapping):
        left_out = "almanac" if spec.get("kind") == KIND else None
        return {key: rule_of(value) for key, value in spec.items() if key != left_out}
    return [rule_of(each) for each in spec] if isinstance(spec, list | tuple) else spec


def almanacs_in(spec: Any) -> Iterator[Almanac]:
    """The almanacs of a trigger's spec, in its order."""
    if isinstance(spec, Mapping):
        if spec.get("kind") == KIND:
            yield Almanac.from_spec(spec["almanac"])
            return
        spec = [spec[key] for key in sorted(spec)]
    for each in spec if isinstance(spec, list | tuple) else ():
        yield from almanacs_in(each)


def follow_up(older: Any, newer: Any) -> Any:
    """The newer of two specs that mean the same, its almanacs with what the older ones know besides."""
    if isinstance(newer, Mapping):
        if newer.get("kind") == KIND:
            before, after = Almanac.from_spec(older["almanac"]), Almanac.from_spec(newer["almanac"])
            return {**newer, "almanac": before.followed_by(after).spec()}
        return {key: follow_up(older[key], value) for key, value in newer.items()}
    if isinstance(newer, list | tuple):
        return [follow_up(*pair) for pair in zip(older, newer, strict=True)]
    return newer
