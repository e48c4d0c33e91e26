"""Acts on many jobs: which are meant, how many, and the act itself, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cronqueue import operations
from cronqueue.database import Database
from cronqueue.failuregroups import failures_of_group
from cronqueue.queries import Filter, count_jobs, select_ids
from cronqueue.states import STATES
from cronsched.web.problems import Refused
from cronsched.web.rendering import command
from cronsched.web.roles import Role
from cronsched.web.searching import as_search, read_search


@dataclass(frozen=True, slots=True)
class Act:
    """What can be done to many: its name, what the button says, which states it reaches, who may do it."""

    name: str
    label: str
    states: tuple[str, ...]
    function: Callable[..., Any]
    needs: Role = "operator"
    is_dangerous: bool = False


ACTS = {
    each.name: each
    for each in (
        Act("retry", "Retry", ("failed", "cancelled", "skipped"), operations.retry_jobs),
        Act("run-now", "Run now", ("queued", "held"), operations.run_jobs_now),
        Act(
            "cancel",
            "Cancel",
            ("queued", "held", "running"),
            operations.cancel_jobs,
            is_dangerous=True,
        ),
        Act(
            "delete",
            "Delete",
            tuple(state for state in STATES if state != "running"),
            operations.delete_jobs,
            needs="admin",
            is_dangerous=True,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Meant:
    """An act and the jobs that it is for: those of a filter, or the failures of one group."""

    act: Act
    chosen: Filter
    group: tuple[str, str] | None = None

    @property
    def fields(self) -> list[tuple[str, str]]:
        """As a form carries it on."""
        named = [("act", self.act.name), ("q", as_search(self.chosen))]
        return named + ([("task", self.group[0]), ("error", self.group[1])] if self.group else [])

    @property
    def words(self) -> str:
        """Which jobs, for people."""
        if self.group is not None:
            return f"failed jobs of {self.group[0]} with {self.group[1] or 'no error'}"
        states = self.chosen.states
        named = as_search(replace(self.chosen, states=states if states != self.act.states else ()))
        return named or f"all that are {', '.join(self.act.states)}"

    @property
    def command(self) -> str | None:
        """The same on the command line, as far as it has the words."""
        if self.group is not None or self.chosen.worker or self.chosen.key or self.chosen.since:
            return None
        if self.chosen.ids:
            return command("jobs", self.act.name, *self.chosen.ids)
        options: list[str] = []
        for state in self.chosen.states:
            options += ["--state", state]
        for name in ("queue", "task", "schedule"):
            if value := getattr(self.chosen, name):
                options += [f"--{name}", value]
        for name, value in (
            ("--min-priority", self.chosen.min_priority),
            ("--max-priority", self.chosen.max_priority),
        ):
            if value is not None:
                options += [name, str(value)]
        return command("jobs", self.act.name, *options, *(["--due"] if self.chosen.due else []))


def meant_by(asked: Sequence[tuple[str, Any]], now: datetime) -> Meant:
    """What a form asks for: an act on the jobs that were picked, on all that match, or on a group."""
    values = {name: str(value) for name, value in asked}
    act = ACTS.get(values.get("act", ""))
    if act is None:
        raise Refused(422, "invalid", f"act is one of {', '.join(ACTS)}")
    if "error" in values:
        if act.name not in ("retry", "delete"):
            raise Refused(422, "invalid", "failures can be retried or deleted")
        return Meant(act, Filter(states=("failed",)), (values.get("task", ""), values["error"]))
    picked = [str(value) for name, value in asked if name == "ids"]
    if values.get("which") == "picked":
        if not picked:
            raise Refused(422, "invalid", "no job is selected")
        chosen = read_search(" ".join(f"id:{each}" for each in picked), now)
    else:
        chosen = read_search(values.get("q", ""), now)
    reached = tuple(state for state in act.states if state in (chosen.states or act.states))
    if not reached:
        raise Refused(422, "invalid", f"{act.label} reaches {', '.join(act.states)} jobs only")
    return Meant(act, replace(chosen, states=reached))


def count_of(database: Database, meant: Meant) -> int:
    """How many jobs the act would reach now."""
    if meant.group is None:
        return count_jobs(database, meant.chosen)
    return sum(1 for _ in _ids(database, meant))


def carry_out(database: Database, meant: Meant, *, actor: str) -> int:
    """Do it; returns how many jobs were reached."""
    answer = meant.act.function(database, _ids(database, meant), actor=actor)
    if isinstance(answer, operations.Cancelled):
        return answer.cancelled + answer.requested
    return int(answer)


def _ids(database: Database, meant: Meant) -> Iterator[int]:
    """The jobs' ids, page by page: there may be millions."""
    if meant.group is None:
        last = 0
        while page := select_ids(database, meant.chosen, after=last):
            yield from page
            last = page[-1]
        return
    after: int | None = 0
    while after is not None:
        found, after = failures_of_group(database, *meant.group, after=after)
        yield from found
