"""Dynamic schedules: added and removed while the program runs, and owned by `api`.

    add_schedule(welcome.call(7), daily(at="09:00"), name="welcome.seven")

They are kept like those of files, by the same rules and the same code, and no file touches them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, Unpack

from sqlalchemy import Connection

from cronqueue import configuration, wakeup
from cronqueue.audit import this_user
from cronqueue.database import Database
from cronqueue.errors import DefinitionError, StateError
from cronqueue.registry import Call, Task
from cronsched import schedule_queries
from cronsched.chains import continue_chains
from cronsched.changes import Change, Stored, change_of
from cronsched.collecting import Place, active_collector
from cronsched.definition import Definition, DefinitionFaults
from cronsched.errors import no_such_schedule
from cronsched.manifest import make_manifest
from cronsched.options import ScheduleOptions
from cronsched.plans import Effect
from cronsched.reconcile import carry_out, find_stored, lock_source
from cronsched.schedule_queries import ScheduleRow
from cronsched.timing import Timing
from cronsched.triggers import After

API = "api"
# Somebody may be at some of the schedule's jobs, for milliseconds as a rule: pauses between the tries.
_PAUSES = (0.02, 0.1, 0.3, 1.0)

Added = Literal["new", "changed", "unchanged"]


def add_schedule(
    task: Task[Any, Any] | Call, timing: Timing, /, **options: Unpack[ScheduleOptions]
) -> Added:
    """Give a task, or a call of it, a schedule, or change the one of this name; returns which.

    Its rows are written when this returns. Without `name=` it is the task's. Raises DefinitionFaults with
    everything that is wrong, StateError for a name that a file owns.
    """
    if active_collector() is not None:
        raise DefinitionError("add_schedule() is for programs: in a schedule file write schedule()")
    definition = _definition(task, timing, options)

    def decide(known: Stored | None) -> Change | None:
        if known is not None and known.is_active and known.source != API:
            raise StateError(
                f"schedule {definition.name!r} is declared in {known.source}, which owns it:"
                " change it there, or give this one another name="
            )
        return change_of(definition, known)

    done = _SAID[_carry_out(definition.name, decide)]
    if isinstance(definition.trigger, After):
        continue_chains(configuration.get_database())
    return done


def remove_schedule(name: str) -> None:
    """Take a schedule away with its waiting jobs. Raises LookupError, StateError if a file owns it."""

    def decide(known: Stored | None) -> Change:
        if known is None or not known.is_active:
            raise no_such_schedule(name)
        if known.source != API:
            raise StateError(f"schedule {name!r} is declared in {known.source}: remove it there")
        return Change("remove", name, API)

    _carry_out(name, decide)


def get_schedule(name: str) -> ScheduleRow | None:
    """The schedule of this name, whoever owns it, with its next and its last run."""
    return schedule_queries.find_schedule(configuration.get_database(), name)


def list_schedules() -> list[ScheduleRow]:
    """All schedules that are not retired, whoever owns them; the one that runs next first."""
    return schedule_queries.list_schedules(configuration.get_database())


_SAID: dict[str | None, Added] = {
    "add": "new",
    "revive": "new",
    "change": "changed",
    None: "unchanged",
}


def _definition(task: object, timing: object, options: ScheduleOptions) -> Definition:
    found = task.task_object if isinstance(task, Call) else task
    if not isinstance(found, Task):
        raise DefinitionFaults(
            [f"add_schedule() takes a task or a call such as task.call(7), not {task!r}"]
        )
    if not isinstance(timing, Timing):
        raise DefinitionFaults(
            [f'add_schedule() takes times such as daily(at="09:00"), not {timing!r}']
        )
    call = task if isinstance(task, Call) else None
    place, tz = Place(API, API, None), configuration.settings().tz
    definition = timing.definition_of(found, call, options, place, tz)
    if needs := _needs_a_file(definition):
        raise DefinitionFaults([f"schedule {definition.name!r} {needs}"])
    return definition


def _needs_a_file(definition: Definition) -> str | None:
    """Why it cannot be added by a program, and what to do instead."""
    if definition.splay is not None:
        return (
            "has splay=, by which schedules of files share a stretch of time: give it jitter= alone"
        )
    if definition.almanacs:
        return (
            "goes by a trigger class of your own, which is asked again from time to time: declare it in a"
            " schedule file with schedule()"
        )
    return None


def _carry_out(name: str, decide: Callable[[Stored | None], Change | None]) -> str | None:
    """Do what is decided under the lock; returns the kind of change."""
    database = configuration.get_database()
    first = _try(database, name, decide)
    effect, pauses = first, list(_PAUSES)
    while effect is not None and effect.busy:
        if not pauses:
            raise StateError(
                f"schedule {name!r}: somebody else is at {effect.busy} of its jobs, which stay as they are;"
                " say it again"
            )
        time.sleep(pauses.pop(0))
        effect = _try(database, name, decide)
    wakeup.notify(database)
    return None if first is None else first.kind


def _try(
    database: Database, name: str, decide: Callable[[Stored | None], Change | None]
) -> Effect | None:
    def work(connection: Connection) -> Effect | None:
        lock_source(database, connection, API)
        change = decide(find_stored(connection, name))
        if change is None:
            return None
        manifest = make_manifest([] if change.definition is None else [change.definition])
        effects, refused = carry_out(
            database,
            connection,
            manifest,
            configuration.settings(),
            [change],
            actor=this_user(),
        )
        if refused:
            raise DefinitionFaults([fault.message for fault in refused])
        (effect,) = effects
        return effect

    return database.write(work)
