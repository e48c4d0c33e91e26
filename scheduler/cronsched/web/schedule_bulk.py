"""Acts on many schedules: which are meant, and the act itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched import pausing, schedule_queries
from cronsched.schedule_queries import ScheduleRow
from cronsched.web.problems import Refused
from cronsched.web.rendering import command


@dataclass(frozen=True, slots=True)
class Act:
    """What can be done to many schedules: its name, what the button says, and which states it reaches."""

    name: str
    label: str
    states: tuple[str, ...]


ACTS = {
    each.name: each
    for each in (
        Act("trigger", "Run now", ("active", "paused")),
        Act("pause", "Pause", ("active",)),
        Act("resume", "Resume", ("paused",)),
    )
}


@dataclass(frozen=True, slots=True)
class Meant:
    """An act and the schedules that it reaches now; `fields` are how a form asks for the same again."""

    act: Act
    names: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    is_everything: bool

    @property
    def command(self) -> str | None:
        """The same on the command line, as far as it has the words."""
        if self.is_everything and self.act.name != "trigger":
            return command("schedules", self.act.name, "--all")
        return command("schedules", self.act.name, *self.names) if len(self.names) == 1 else None


def matching(rows: Iterable[ScheduleRow], state: str, words: str) -> list[ScheduleRow]:
    """The schedules in a state, or failing, in which all the words are found."""
    return [each for each in rows if _fits(each, state, words.lower())]


def is_failing(row: ScheduleRow) -> bool:
    """Whether its last occurrence failed, or was missed."""
    return (row.last_verdict or "").partition(":")[0] in ("failed", "missed")


def meant_by(asked: Sequence[tuple[str, Any]], rows: Sequence[ScheduleRow]) -> Meant:
    """What a form asks for: an act on the schedules that were picked, or on all that match."""
    values = {name: str(value) for name, value in asked}
    act = ACTS.get(values.get("act", ""))
    if act is None:
        raise Refused(422, "invalid", f"act is one of {', '.join(ACTS)}")
    picked = {str(value) for name, value in asked if name == "names"}
    if values.get("which") == "picked":
        if not picked:
            raise Refused(422, "invalid", "no schedule is selected")
        found = [each for each in rows if each.name in picked]
        kept = [("names", each) for each in sorted(picked)]
    else:
        found = matching(rows, values.get("state", ""), values.get("q", ""))
        kept = [(name, values.get(name, "")) for name in ("state", "q")]
    names = tuple(each.name for each in found if each.state in act.states)
    reachable = sum(each.state in act.states for each in rows)
    fields = (("act", act.name), ("which", values.get("which", "all")), *kept)
    return Meant(act, names, fields, len(names) == reachable)


def carry_out(
    database: Database,
    meant: Meant,
    settings: Settings,
    *,
    actor: str,
    reason: str | None,
    until: datetime | None,
    catch_up: bool,
) -> str:
    """Do it; says in words what has been done."""
    if meant.act.name == "pause":
        done = pausing.pause_all(database, meant.names, actor=actor, reason=reason, until=until)
        return f"{_counted(done.schedules)} paused, {done.held} jobs are held."
    if meant.act.name == "resume":
        found = pausing.resume_all(database, meant.names, actor=actor, catch_up=catch_up)
        queued, skipped = sum(each.queued for each in found), sum(each.skipped for each in found)
        return f"{_counted(len(found))} resumed: {queued} jobs queued, {skipped} skipped."
    for name in meant.names:
        schedule_queries.trigger(database, name, settings, actor=actor)
    return f"{_counted(len(meant.names))} run now."


def _fits(row: ScheduleRow, state: str, words: str) -> bool:
    if state == "failing" and not is_failing(row):
        return False
    if state in ("active", "paused", "retired") and row.state != state:
        return False
    text = f"{row.name} {row.task} {row.queue} {row.words} {row.source} {row.description or ''}"
    return all(each in text.lower() for each in words.split())


def _counted(count: int) -> str:
    return f"{count} schedule{'' if count == 1 else 's'}"
