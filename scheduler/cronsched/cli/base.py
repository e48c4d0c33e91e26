"""What all commands share: options that stand everywhere, settings, the database, exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from cronqueue.database import Database
    from cronqueue.settings import Loaded

OK, FAILED, USAGE, PENDING, WRONG, NO_MATCH, NO_DATABASE, JOB_FAILED = range(8)
WAIT_TIMED_OUT = 124
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is imported when it is called."""

    module: str
    help: str


class Exit(Exception):
    """Leave with this code, with one line to standard error if there is one to say."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass
class State:
    """What the options that stand everywhere say, and what follows from them."""

    flags: dict[str, Any] = field(default_factory=dict)

    @property
    def as_json(self) -> bool:
        return bool(self.flags.get("as_json"))

    @property
    def verbose(self) -> bool:
        return bool(self.flags.get("verbose"))

    def load(self, *, delayed_job_names: bool = False, **flags: Any) -> Loaded:
        """The settings, with the flags of this command."""
        from cronqueue import configuration
        from cronqueue.settings import load_settings

        names = ("database_url", "schedules", "imports", "quiet")
        chosen = {name: self.flags[name] for name in names if self.flags.get(name)}
        loaded = load_settings({**chosen, **flags}, delayed_job_names=delayed_job_names)
        configuration.use_settings(loaded.settings)
        return loaded

    @cached_property
    def loaded(self) -> Loaded:
        return self.load()

    def open(self, *, check: bool = True) -> Database:
        """The database, its schema checked; the library uses it too."""
        from cronqueue import configuration, schema
        from cronqueue.database import Database
        from cronqueue.settings import resolve_database_url

        database = Database(resolve_database_url(self.loaded))
        if check:
            schema.require(database)
            configuration.use_database(database)
        return database

    def load_tasks(self) -> None:
        """Import the user's code, so that its tasks are known; says which files did not load."""
        from cronqueue.imports import import_folder, import_modules

        sys.path.insert(0, os.getcwd())
        settings, folder = self.loaded.settings, self.loaded.folder
        faults = list(import_modules(settings.imports))
        path = folder / settings.schedules
        if path.is_dir():
            faults += import_folder(path)
        for fault in faults:
            click.echo(f"sched: {fault}", err=True)


def _shared_options() -> list[click.Option]:
    """The options that stand everywhere; each tells the state, not the command."""

    def tell(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            context.ensure_object(State).flags[str(parameter.name)] = value

    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, callback=tell, expose_value=False, **settings)

    return [
        option("--database-url", metavar="URL", help="The database.  [SCHED_DATABASE_URL]"),
        option(
            "--schedules", metavar="DIR", help="Folder of the schedule files.  [SCHED_SCHEDULES]"
        ),
        option("--imports", metavar="MODULES", help="Modules with tasks.  [SCHED_IMPORTS]"),
        option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        option("--tz", metavar="ZONE", help="Show and read times in this zone."),
        option("--utc", is_flag=True, help="Show times in UTC (the default)."),
        option("--color", type=click.Choice(["auto", "always", "never"]), help="Colours."),
        option("-v", "--verbose", is_flag=True, help="Say more; tracebacks of errors."),
        option("-q", "--quiet", is_flag=True, help="Print errors only.  [SCHED_QUIET]"),
    ]


class SchedCommand(click.Command):
    """A command that takes the shared options too."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        own = {name for parameter in self.params for name in parameter.opts}
        self.params += [each for each in _shared_options() if own.isdisjoint(each.opts)]


class SchedGroup(click.Group):
    """A group of such commands, some of them imported on demand."""

    command_class = SchedCommand

    def __init__(
        self, *arguments: Any, lazy: dict[str, Lazy] | None = None, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self._lazy = lazy or {}
        self.params += _shared_options()

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self._lazy, *super().list_commands(context)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self._lazy:
            return super().get_command(context, name)
        module = importlib.import_module(f"cronsched.cli.{self._lazy[name].module}")
        command: click.Command = module.command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The registry has the words: no command is imported for a list of them."""
        if not self._lazy:
            super().format_commands(context, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])


SchedGroup.group_class = SchedGroup


def pass_state(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hand the state to a command as its first argument."""
    return click.make_pass_decorator(State, ensure=True)(function)


def exit_code_of(error: BaseException) -> int:
    """Say what went wrong, in one line, and with which code to leave."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, Exit):
        if str(error):
            _say(str(error))
        return error.code
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.exceptions.Abort):
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # The reader has seen enough; Python must not complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return _code_of_ours(error)


def _code_of_ours(error: BaseException) -> int:
    from cronqueue.errors import (
        CronqueueError,
        DatabaseUnreachable,
        SchemaMismatch,
        WaitTimeout,
    )

    if {"-v", "--verbose"}.intersection(sys.argv) or not isinstance(
        error, CronqueueError | LookupError
    ):
        import traceback

        traceback.print_exception(error)
    _say(str(error) or type(error).__name__)
    if isinstance(error, DatabaseUnreachable | SchemaMismatch):
        return NO_DATABASE
    if isinstance(error, WaitTimeout):
        return WAIT_TIMED_OUT
    if isinstance(error, LookupError):
        return NO_MATCH
    return FAILED


def refuse(message: str) -> NoReturn:
    """End with the code for wrong usage."""
    raise Exit(USAGE, message)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before an act on many; off a terminal only --yes answers."""
    if yes:
        return
    if not sys.stdin.isatty():
        refuse(f"{question} Say --yes to do it.")
    click.confirm(question, abort=True, err=True)


def _say(message: str) -> None:
    click.echo(f"sched: {message}", err=True)
