"""Settings: flag > environment > `sched.toml` or `[tool.sched]` in pyproject.toml > default.

Every option of the command has the variable `SCHED_<OPTION>`; the worker also knows delayed_job's names.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

from cronqueue.errors import ConfigurationError
from cronqueue.setting_values import (
    ALERT_KINDS,
    read_duration,
    read_durations,
    read_flag,
    read_kinds,
    read_lease,
    read_mail_address,
    read_mail_addresses,
    read_names,
    read_one_of,
    read_pairs,
    read_pools,
    read_positive_duration,
    read_secret,
    read_smtp_address,
    read_text,
    read_users,
    read_web_address,
    read_whole,
    read_words,
)

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

# The settings whose values nobody is shown.
SECRETS = (
    "web_password",
    "web_token",
    "web_users",
    "web_secret",
    "alerts_smtp_url",
    "alerts_webhook_url",
    "alerts_webhook_secret",
    "alerts_apprise_urls",
    "alerts_daemon_ping",
)
# Tables of the settings file in which settings may stand without their prefix.
_TABLES = ("alerts",)


_LOWEST = -(2**31)


def _setting(default: Any, read: Callable[[object], Any], words: str) -> Any:
    return field(default=default, metadata={"read": read, "words": words})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its default; durations are timedeltas."""

    database_url: str = _setting("sqlite:///sched.db", read_text, "the database")
    schedules: str = _setting("schedules", read_text, "folder of the schedule files")
    imports: tuple[str, ...] = _setting(
        (), read_names, "modules to import, so that their tasks are known"
    )
    release: int | None = _setting(
        None, read_whole(0), "which deployment's schedule files win: the higher"
    )
    horizon: timedelta = _setting(
        timedelta(hours=24), read_positive_duration, "how far ahead occurrences are written"
    )
    takeover_after: timedelta = _setting(
        timedelta(minutes=15), read_positive_duration, "silence after which other files win"
    )
    max_attempts: int = _setting(
        25, read_whole(1, 10_000), "attempts of a job, unless its task says otherwise"
    )
    backoff: tuple[timedelta, ...] = _setting(
        (), read_durations, "waits between attempts; default attempts^4 + 5 s"
    )
    destroy_failed_jobs: bool = _setting(False, read_flag, "delete a job when it fails for good")
    keep_finished: timedelta = _setting(
        timedelta(days=7), read_duration, "how long ended jobs are kept; 0: not at all"
    )
    keep_finished_count: int = _setting(
        1_000_000, read_whole(0), "how many ended jobs are kept at most"
    )
    keep_occurrences: timedelta = _setting(
        timedelta(days=90), read_positive_duration, "how long the ledger keeps each occurrence"
    )
    lease: timedelta = _setting(
        timedelta(seconds=30), read_lease, "how soon a dead worker's jobs go to others"
    )
    stall_timeout: timedelta = _setting(
        timedelta(minutes=15), read_positive_duration, "an executor without a sign of life is ended"
    )
    cancel_timeout: timedelta = _setting(
        timedelta(seconds=15),
        read_positive_duration,
        "a cancelled job that still runs gets an exception after a third of this; then its process is ended",
    )
    shutdown_timeout: timedelta = _setting(
        timedelta(seconds=30), read_duration, "how long running jobs may go on after TERM"
    )
    concurrency: int = _setting(8, read_whole(1), "jobs at a time in each executor process")
    processes: int = _setting(1, read_whole(1), "executor processes")
    queues: tuple[str, ...] = _setting((), read_names, "take jobs of these queues only")
    exclude_queues: tuple[str, ...] = _setting((), read_names, "take no jobs of these queues")
    pools: tuple[tuple[str, int], ...] = _setting(
        (), read_pools, "queues with places of their own, mail:3: an executor process for each"
    )
    min_priority: int | None = _setting(
        None, read_whole(_LOWEST), "take only jobs of at least this priority"
    )
    max_priority: int | None = _setting(
        None, read_whole(_LOWEST), "take only jobs of at most this priority"
    )
    sleep_delay: timedelta = _setting(
        timedelta(seconds=1), read_positive_duration, "an idle worker looks at least this often"
    )
    read_ahead: int = _setting(
        1000, read_whole(1), "jobs that an executor claims at most at a time"
    )
    quiet: bool = _setting(False, read_flag, "print errors only")
    log_format: str = _setting(
        "text", read_one_of("text", "json"), "text, or json: one object a line"
    )
    keep_log: str = _setting(
        "own",
        read_one_of("own", "all", "off"),
        "what is kept of a job's log: its own lines, all that it logs by logging, nothing",
    )
    name: str | None = _setting(None, read_text, "the worker's name; default host:pid")
    tags: tuple[tuple[str, str], ...] = _setting((), read_pairs, "labels of the worker, key=value")
    alive_file: str | None = _setting(
        None, read_text, "file that a daemon or worker touches every 5 s while it turns"
    )
    tz: str = _setting("UTC", read_text, "time zone of schedules that name none")
    host: str = _setting("127.0.0.1", read_text, "address that the web page listens at")
    port: int = _setting(8321, read_whole(1, 65_535), "port of the web page")
    web_hosts: tuple[str, ...] = _setting(
        (), read_names, "names by which browsers may call the web page, beside its address"
    )
    web_password: str | None = _setting(
        None, read_secret, "password of the web page; any user name"
    )
    web_token: str | None = _setting(None, read_secret, "token of the API, sent as Bearer")
    web_open_metrics: bool = _setting(
        False,
        read_flag,
        "whoever reaches the address may read /metrics, without password and token",
    )
    web_users: tuple[tuple[str, str], ...] = _setting(
        (), read_users, "who may come in, and as what: name=role:hash"
    )
    web_secret: str | None = _setting(
        None, read_secret, "what several web processes sign forms with; default: each its own"
    )
    alerts_on: tuple[str, ...] = _setting(ALERT_KINDS, read_kinds, "what is told")
    alerts_wait: timedelta = _setting(
        timedelta(seconds=30), read_duration, "what happens within this goes into one message"
    )
    alerts_repeat: timedelta = _setting(
        timedelta(hours=1), read_positive_duration, "of one cause at most one message in this time"
    )
    alerts_email_to: tuple[str, ...] = _setting(
        (), read_mail_addresses, "who gets alerts by e-mail"
    )
    alerts_email_from: str | None = _setting(
        None, read_mail_address, "the sender; default sched@ and the machine's name"
    )
    alerts_smtp_url: str | None = _setting(
        None, read_smtp_address, "the mail server; default smtp://localhost"
    )
    alerts_webhook_url: str | None = _setting(
        None, read_web_address, "where alerts are posted to as JSON"
    )
    alerts_webhook_secret: str | None = _setting(
        None, read_secret, "the key that signs what is posted"
    )
    alerts_command: tuple[str, ...] = _setting(
        (), read_words, "a program that gets alerts as JSON on its standard input"
    )
    alerts_apprise_urls: tuple[str, ...] = _setting((), read_names, "targets of apprise")
    alerts_allow: tuple[str, ...] = _setting(
        (), read_names, "private hosts and networks that webhooks and pings may reach"
    )
    alerts_daemon_ping: str | None = _setting(
        None, read_web_address, "asked for every minute in which a daemon has done its work"
    )

    @property
    def has_general_executors(self) -> bool:
        """Whether a worker takes other queues than those of its pools."""
        return not self.pools or bool(set(self.queues) - {queue for queue, _ in self.pools})

    @property
    def places(self) -> int:
        """How many jobs a worker with these settings runs at a time."""
        general = self.processes * self.concurrency if self.has_general_executors else 0
        return general + sum(places for _, places in self.pools)


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
        if path.startswith("file:") and "uri=true" in query:  # an address of SQLite's own
            path = path.removeprefix("file:")
            prefix += "file:"
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
        return own, _flat(_parse(own), own)
    shared = folder / "pyproject.toml"
    if shared.is_file():
        tools = _parse(shared).get("tool")
        table = tools.get("sched") if isinstance(tools, dict) else None
        if table is not None and not isinstance(table, dict):
            raise ConfigurationError(f"{shared}: tool.sched is no table: write [tool.sched]")
        if table is not None:
            return shared, _flat(table, shared)
    return None, {}


def _flat(table: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """`[alerts] wait` is `alerts_wait`."""
    flat = dict(table)
    for name in _TABLES:
        inner = flat.pop(name, {})
        if not isinstance(inner, dict):
            raise ConfigurationError(f"{file}: {name} is no table: write [{name}], or {name}_...")
        flat |= {f"{name}_{key}": value for key, value in inner.items()}
    return flat


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
