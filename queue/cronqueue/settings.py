"""Settings: flag > environment > `sched.toml` or `[tool.sched]` in pyproject.toml > default.

Every option of the command has the variable `SCHED_<OPTION>`; the worker also knows delayed_job's names.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from cronqueue.durations import parse_duration
from cronqueue.errors import ConfigurationError

# delayed_job's names for the worker's settings, and ours.
DELAYED_JOB_NAMES = {
    "MIN_PRIORITY": "min_priority",
    "MAX_PRIORITY": "max_priority",
    "QUEUES": "queues",
    "QUEUE": "queues",
    "SLEEP_DELAY": "sleep_delay",
    "READ_AHEAD": "read_ahead",
    "QUIET": "quiet",
}

# Shorter passwords are guessed.
LEAST_SECRET = 12
# The settings whose values nobody is shown.
SECRETS = ("web_password", "web_token", "web_users", "web_secret")
# What a user of the web may do; each includes the ones before.
ROLES = ("viewer", "operator", "admin")
_USER = re.compile(
    rf"({'|'.join(ROLES)}):(scrypt-\d{{1,2}}-\d{{1,2}}-\d{{1,2}}\.[\w-]+\.[\w-]+|sha256\.[0-9a-f]{{64}})",
    re.ASCII,
)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("give a text")
    if not value.isprintable():  # control characters, or bytes that are no UTF-8
        raise ValueError("give a text of printable characters")
    return value


def _secret(value: object) -> str:
    text = _text(value)
    if len(text) < LEAST_SECRET:
        raise ValueError(f"give at least {LEAST_SECRET} characters")
    return text


def _whole(least: int, most: int | None = None) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError("give a whole number")
        try:
            number = int(value)
        except ValueError:
            raise ValueError("give a whole number") from None
        if number < least:
            raise ValueError(f"give a whole number of at least {least}")
        if most is not None and number > most:
            raise ValueError(f"give a whole number of at most {most}")
        return number

    return read


def _flag(value: object) -> bool:
    words = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
        "": False,
    }
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError("give true or false")
    return words[value.lower()]


def _one_of(*words: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"give {' or '.join(words)}")
        return str(value)

    return read


def _names(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("give names, separated by commas")
    return tuple(_text(part.strip()) for part in parts if part.strip())


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    pairs = (
        value.items()
        if isinstance(value, dict)
        else [part.partition("=")[::2] for part in _names(value)]
    )
    return tuple((_text(str(key).strip()), _text(str(text).strip())) for key, text in pairs)


def _users(value: object) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(value)
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice")
    if not all(name and ":" not in name and _USER.fullmatch(kept) for name, kept in pairs):
        raise ValueError("give name=role:hash, as `sched config credential` prints it")
    return pairs


def _duration(value: object) -> timedelta:
    if not isinstance(value, str | int | float | timedelta):
        raise ValueError("give a duration such as 90s, 5m, 2h or 1d")
    return parse_duration(value)


def _positive_duration(value: object) -> timedelta:
    duration = _duration(value)
    if duration <= timedelta(0):
        raise ValueError("give a duration longer than zero")
    return duration


def _durations(value: object) -> tuple[timedelta, ...]:
    parts = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        parts = _names(value)
    return tuple(_positive_duration(part) for part in parts)


def _lease(value: object) -> timedelta:
    duration = _duration(value)
    if duration < timedelta(seconds=1):
        raise ValueError("a lease is at least 1s: it is renewed every third of it")
    return duration


_LOWEST = -(2**31)


def _setting(default: Any, read: Callable[[object], Any], words: str) -> Any:
    return field(default=default, metadata={"read": read, "words": words})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its default; durations are timedeltas."""

    database_url: str = _setting("sqlite:///sched.db", _text, "the database")
    schedules: str = _setting("schedules", _text, "folder of the schedule files")
    imports: tuple[str, ...] = _setting(
        (), _names, "modules to import, so that their tasks are known"
    )
    release: int | None = _setting(
        None, _whole(0), "which deployment's schedule files win: the higher"
    )
    horizon: timedelta = _setting(
        timedelta(hours=24), _positive_duration, "how far ahead occurrences are written"
    )
    takeover_after: timedelta = _setting(
        timedelta(minutes=15), _positive_duration, "silence after which other files win"
    )
    max_attempts: int = _setting(
        25, _whole(1, 10_000), "attempts of a job, unless its task says otherwise"
    )
    backoff: tuple[timedelta, ...] = _setting(
        (), _durations, "waits between attempts; default attempts^4 + 5 s"
    )
    destroy_failed_jobs: bool = _setting(False, _flag, "delete a job when it fails for good")
    keep_finished: timedelta = _setting(
        timedelta(days=7), _duration, "how long ended jobs are kept; 0: not at all"
    )
    keep_finished_count: int = _setting(
        1_000_000, _whole(0), "how many ended jobs are kept at most"
    )
    keep_occurrences: timedelta = _setting(
        timedelta(days=90), _positive_duration, "how long the ledger keeps each occurrence"
    )
    lease: timedelta = _setting(
        timedelta(seconds=30), _lease, "how soon a dead worker's jobs go to others"
    )
    stall_timeout: timedelta = _setting(
        timedelta(minutes=15), _positive_duration, "an executor without a sign of life is ended"
    )
    shutdown_timeout: timedelta = _setting(
        timedelta(seconds=30), _duration, "how long running jobs may go on after TERM"
    )
    concurrency: int = _setting(8, _whole(1), "jobs at a time in each executor process")
    processes: int = _setting(1, _whole(1), "executor processes")
    queues: tuple[str, ...] = _setting((), _names, "take jobs of these queues only")
    exclude_queues: tuple[str, ...] = _setting((), _names, "take no jobs of these queues")
    min_priority: int | None = _setting(
        None, _whole(_LOWEST), "take only jobs of at least this priority"
    )
    max_priority: int | None = _setting(
        None, _whole(_LOWEST), "take only jobs of at most this priority"
    )
    sleep_delay: timedelta = _setting(
        timedelta(seconds=1), _positive_duration, "an idle worker looks at least this often"
    )
    read_ahead: int = _setting(500, _whole(1), "jobs that an executor claims at most at a time")
    quiet: bool = _setting(False, _flag, "print errors only")
    log_format: str = _setting("text", _one_of("text", "json"), "text, or json: one object a line")
    name: str | None = _setting(None, _text, "the worker's name; default host:pid")
    tags: tuple[tuple[str, str], ...] = _setting((), _pairs, "labels of the worker, key=value")
    alive_file: str | None = _setting(
        None, _text, "file that a daemon or worker touches every 5 s while it turns"
    )
    tz: str = _setting("UTC", _text, "time zone of schedules that name none")
    host: str = _setting("127.0.0.1", _text, "address that the web page listens at")
    port: int = _setting(8321, _whole(1, 65_535), "port of the web page")
    web_hosts: tuple[str, ...] = _setting(
        (), _names, "names by which browsers may call the web page, beside its address"
    )
    web_password: str | None = _setting(None, _secret, "password of the web page; any user name")
    web_token: str | None = _setting(None, _secret, "token of the API, sent as Bearer")
    web_open_metrics: bool = _setting(
        False, _flag, "whoever reaches the address may read /metrics, without password and token"
    )
    web_users: tuple[tuple[str, str], ...] = _setting(
        (), _users, "who may come in, and as what: name=role:hash"
    )
    web_secret: str | None = _setting(
        None, _secret, "what several web processes sign forms with; default: each its own"
    )


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, where each came from, and the folder that relative paths count from."""

    settings: Settings
    origins: Mapping[str, str]
    folder: Path


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    delayed_job_names: bool = False,
) -> Loaded:
    """Read the settings. Raises ConfigurationError that lists every fault."""
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    file, table = _read_file(folder)
    base = file.parent if file else folder
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    faults = _unknown_names(table, file)
    for each in fields(Settings):
        found = _find(each.name, flags or {}, environ, table, file, delayed_job_names)
        if found is None:
            origins[each.name] = "default"
            continue
        value, origins[each.name] = found
        try:
            values[each.name] = None if value is None else each.metadata["read"](value)
        except ValueError as error:
            told = "***" if each.name in SECRETS else repr(value)
            faults.append(f"{_place(each.name, origins[each.name])} {told}: {error}")
    if faults:
        raise ConfigurationError("\n".join(faults))
    settings = Settings(**values)
    return Loaded(settings, origins, base)


def check_setting_name(name: str) -> None:
    """Raises ConfigurationError for a name that no setting has."""
    fault = _unknown_name(name)
    if fault is not None:
        raise ConfigurationError(fault)


def describe_settings() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every setting, for documentation and `sched config show`."""
    return [
        (
            each.name,
            "" if each.default in (None, MISSING, ()) else str(each.default),
            each.metadata["words"],
        )
        for each in fields(Settings)
    ]


def resolve_database_url(loaded: Loaded) -> str:
    """The database's address, a relative SQLite path counted from the settings file's folder."""
    url = loaded.settings.database_url
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(prefix + "/") and url != prefix + ":memory:":
        path, mark, query = url.removeprefix(prefix).partition("?")
        if path:
            return f"{prefix}{(loaded.folder / path).absolute()}{mark}{query}"
    return url


def _place(name: str, origin: str) -> str:
    """Where the value stands, as its reader calls it."""
    if origin == "flag":
        return f"--{name.replace('_', '-')}"
    return origin if origin.isupper() else f"{origin}: {name}"


def _read_file(folder: Path) -> tuple[Path | None, Mapping[str, Any]]:
    own = folder / "sched.toml"
    if own.is_file():
        return own, _parse(own)
    shared = folder / "pyproject.toml"
    if shared.is_file():
        tools = _parse(shared).get("tool")
        table = tools.get("sched") if isinstance(tools, dict) else None
        if table is not None and not isinstance(table, dict):
            raise ConfigurationError(f"{shared}: tool.sched is no table: write [tool.sched]")
        if table is not None:
            return shared, table
    return None, {}


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _unknown_names(table: Mapping[str, Any], file: Path | None) -> list[str]:
    faults = (_unknown_name(name) for name in table)
    return [f"{file}: {fault}" for fault in faults if fault is not None]


def _unknown_name(name: str) -> str | None:
    known = [each.name for each in fields(Settings)]
    if name.replace("-", "_") in known:
        return None
    close = difflib.get_close_matches(name.replace("-", "_"), known, 1)
    return f"there is no setting {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def _find(
    name: str,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    table: Mapping[str, Any],
    file: Path | None,
    delayed_job_names: bool,
) -> tuple[object, str] | None:
    """The value that wins, and where it stands."""
    if flags.get(name) is not None:
        return flags[name], "flag"
    variables = [f"SCHED_{name.upper()}"]
    if delayed_job_names:
        variables += [theirs for theirs, ours in DELAYED_JOB_NAMES.items() if ours == name]
    for variable in variables:
        if environ.get(variable, "") != "":
            return environ[variable], variable
    for key in (name, name.replace("_", "-")):
        if key in table:
            return table[key], str(file)
    return None
