"""What all commands share: options that stand everywhere, settings, the database."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cronsched.cli.exits import exit_code_of, refuse, say
from cronsched.cli.parameters import meant, shown

if TYPE_CHECKING:
    from cronqueue.database import Database
    from cronqueue.settings import Loaded


@dataclass(frozen=True, slots=True)
class Lazy:
    """A command that is imported when it is called."""

    module: str
    help: str


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

    @property
    def quiet(self) -> bool:
        return bool(self.flags.get("quiet"))

    def load(self, *, delayed_job_names: bool = False, **flags: Any) -> Loaded:
        """The settings, with the flags of this command."""
        from cronqueue import configuration
        from cronqueue.settings import load_settings

        names = ("database_url", "schedules", "imports", "quiet")
        chosen = {name: self.flags[name] for name in names if self.flags.get(name)}
        loaded = load_settings({**chosen, **flags}, delayed_job_names=delayed_job_names)
        if loaded.origins["tz"] != "default":
            _check_tz(loaded)
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
        path = folder / settings.schedules
        # What the files print is no part of the answer.
        with contextlib.redirect_stdout(sys.stderr):
            faults = list(import_modules(settings.imports))
            if path.is_dir():
                faults += import_folder(path)
        for fault in faults:
            say(str(fault))

    def as_arguments(self) -> list[str]:
        """The shared options as they were given, for a command that starts another."""
        given: list[str] = []
        for option in _shared_options():
            value = self.flags.get(str(option.name))
            if value is not None:
                given += [option.opts[-1]] if option.is_flag else [option.opts[-1], value]
        return given


def _check_tz(loaded: Loaded) -> None:
    from cronqueue.errors import ConfigurationError, DefinitionError
    from cronsched.timezones import check_zone

    try:
        check_zone(loaded.settings.tz)
    except DefinitionError as error:
        raise ConfigurationError(f"{loaded.origins['tz']}: {error}") from None


def _shared_options() -> list[click.Option]:
    """The options that stand everywhere; each tells the state, not the command."""

    def tell(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:
            context.ensure_object(State).flags[str(parameter.name)] = value

    def tell_zone(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            from cronsched.timezones import check_zone

            check_zone(value)
        tell(context, parameter, value)

    def option(*names: str, callback: Any = tell, **settings: Any) -> click.Option:
        return click.Option(names, callback=callback, expose_value=False, **settings)

    return [
        option("--database-url", metavar="URL", help="The database.  [SCHED_DATABASE_URL]"),
        option("--schedules", metavar="DIR", help="Folder of schedule files.  [SCHED_SCHEDULES]"),
        option("--imports", metavar="MODULES", help="Modules with tasks.  [SCHED_IMPORTS]"),
        option("--json", "as_json", is_flag=True, help="Print one JSON document."),
        option(
            "--tz", metavar="ZONE", callback=tell_zone, help="Show and read times in this zone."
        ),
        option("--utc", is_flag=True, help="Show and read times in UTC."),
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

    def invoke(self, ctx: click.Context) -> Any:
        """The last look at the options before the command itself."""
        flags = ctx.ensure_object(State).flags
        if flags.get("utc") and flags.get("tz"):
            refuse("--utc or --tz, not both")
        if flags.get("verbose") and flags.get("quiet"):
            refuse("--verbose or --quiet, not both")
        return super().invoke(ctx)


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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of that name, or the one that was meant as a suggestion."""
        known, name = self.list_commands(ctx), args[0]
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {shown(name)}{meant(name, known)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The registry has the words: no command is imported for a list of them."""
        if not self._lazy:
            super().format_commands(context, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in self._lazy.items()])


SchedGroup.group_class = SchedGroup


class Sched(SchedGroup):
    """The whole command: whatever happens, it ends with a code and at most one line."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **settings: Any) -> NoReturn:
        """Run the command and exit with its code."""
        state = State()
        settings |= {"prog_name": "sched", "standalone_mode": False, "obj": state}
        try:
            code = super().main(args, **settings)
        except BaseException as error:
            sys.exit(exit_code_of(error, verbose=state.verbose))
        sys.exit(code if isinstance(code, int) else 0)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what is no text before any part of it reaches a database."""
        for each in args:
            if "\0" in each or not _is_text(each):
                raise click.UsageError(f"{shown(each)} is no text: bytes that are not UTF-8", ctx)
        return super().parse_args(ctx, args)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def pass_state(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hand the state to a command as its first argument."""
    return click.make_pass_decorator(State, ensure=True)(function)
