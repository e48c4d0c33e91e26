"""How commands end: exit codes, and one line to standard error that says what went wrong."""

from __future__ import annotations

import re
import sys
from typing import NoReturn

import click

OK, FAILED, USAGE, PENDING, WRONG, NO_MATCH, NO_DATABASE, JOB_FAILED = range(8)
WAIT_TIMED_OUT = 124
INTERRUPTED = 130
TERMINATED = 143

# What moves the cursor, turns the text round, or is no text at all. A tab is harmless.
_UNSAFE = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Exit(Exception):
    """Leave with this code, with one line to standard error if there is one to say."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


class Terminated(BaseException):
    """TERM has come."""


def refuse(message: str) -> NoReturn:
    """End with the code for wrong usage."""
    raise Exit(USAGE, message)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before an act on many; off a terminal only --yes answers."""
    if yes:
        return
    if not sys.stdin.isatty():
        refuse(f"{question} Nobody can answer here: --yes does it, --dry-run only counts")
    click.confirm(question, abort=True, err=True)


def exit_code_of(error: BaseException, *, verbose: bool) -> int:
    """Say what went wrong, in one line, and with which code to leave."""
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else FAILED
        case click.exceptions.Exit():
            return error.exit_code
        case Exit():
            if str(error):
                say(str(error))
            return error.code
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return error.exit_code
        case click.ClickException():
            say(error.format_message() + _see_help(error))
            return error.exit_code
        case KeyboardInterrupt() | click.exceptions.Abort():
            return INTERRUPTED
        case Terminated():
            return TERMINATED
    return _code_of_failure(error, verbose=verbose)


def say(message: str) -> None:
    """Tell the person at the terminal, not the program that reads the output."""
    for line in message.splitlines():
        click.echo(f"sched: {clean(line)}", err=True)


def clean(text: str) -> str:
    """Control characters made visible: a stored name must not move the cursor."""
    return _UNSAFE.sub(lambda found: ascii(found.group())[1:-1], text)


def _see_help(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" (see {context.command_path} --help)" if context else ""


def _code_of_failure(error: BaseException, *, verbose: bool) -> int:
    from sqlalchemy.exc import DBAPIError

    from cronqueue.database import is_outage
    from cronqueue.errors import CronqueueError, DatabaseUnreachable, SchemaMismatch

    # A subclass of LookupError is no message of ours, but a KeyError where none should be.
    is_expected = isinstance(error, CronqueueError | OSError) or type(error) is LookupError
    if verbose or not (is_expected or isinstance(error, DBAPIError)):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, DBAPIError):
        say(f"the database refuses: {_first_line(str(error.orig))} (-v shows where)")
    else:
        say(str(error) if is_expected and str(error) else f"{type(error).__name__}: {error}")
    if isinstance(error, DatabaseUnreachable | SchemaMismatch) or is_outage(error):
        return NO_DATABASE
    return _code_of_ours(error)


def _code_of_ours(error: BaseException) -> int:
    from cronqueue.errors import (
        ArgumentError,
        ConfigurationError,
        DefinitionError,
        EncodingError,
        RunAtError,
        WaitTimeout,
    )

    match error:
        case (
            ArgumentError()
            | ConfigurationError()
            | DefinitionError()
            | EncodingError()
            | RunAtError()
        ):
            return USAGE
        case WaitTimeout():
            return WAIT_TIMED_OUT
        case LookupError():
            return NO_MATCH if type(error) is LookupError else FAILED
    return FAILED


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no reason given")
