"""Which database this process uses, and the settings that hold for all of its jobs.

`configure` is optional: without it the library reads the same settings as the command.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakKeyDictionary

from sqlalchemy import Dialect, Engine

from cronqueue import schema
from cronqueue.database import Database
from cronqueue.errors import ConfigurationError
from cronqueue.registry import Backoff, Duration, backoff_function, check_max_attempts
from cronqueue.settings import Settings, load_settings, resolve_database_url

_lock = threading.RLock()
_database: Database | None = None
_settings: Settings | None = None
_backoff: Backoff | None = None
_schema_checked = False
# Our views of databases whose connections belong to callers.
_foreign: WeakKeyDictionary[Dialect, Database] = WeakKeyDictionary()


def configure(
    *,
    database_url: str | None = None,
    engine: Engine | None = None,
    max_attempts: int | None = None,
    backoff: Duration | Sequence[Duration] | Backoff | None = None,
) -> None:
    """Choose the database and what holds for all tasks that do not say otherwise.

    With `engine` a PostgreSQL queue shares your pool. Raises ConfigurationError, DefinitionError.
    """
    global _database, _settings, _backoff, _schema_checked
    if engine is not None and database_url is not None:
        raise ConfigurationError("give database_url or engine, not both")
    if engine is not None and not isinstance(engine, Engine):
        raise ConfigurationError(
            f"engine={type(engine).__name__}: give an Engine of SQLAlchemy (of an AsyncEngine its"
            " `sync_engine`), or database_url=..."
        )
    with _lock:
        if max_attempts is not None:
            _settings = replace(settings(), max_attempts=check_max_attempts(max_attempts))
        if backoff is not None:
            _backoff = backoff_function(backoff)
        if engine is not None or database_url is not None:
            if _database is not None:
                _database.dispose()
            _database = Database(database_url, engine=engine)
            _schema_checked = False


def use_database(database: Database | None) -> None:
    """Make this the process's database; None forgets it, so that the settings are read anew."""
    global _database, _settings, _schema_checked
    with _lock:
        _database = database
        _schema_checked = False
        if database is None:
            _settings = None


@contextmanager
def overridden(database: Database) -> Iterator[None]:
    """This database, whose schema is known to fit, and its clock for a while; then what was before."""
    global _database, _schema_checked, _foreign
    with _lock:
        before = (_database, _schema_checked, _foreign)
        _database, _schema_checked, _foreign = database, True, WeakKeyDictionary()
    try:
        yield
    finally:
        with _lock:
            _database, _schema_checked, _foreign = before


def get_database() -> Database:
    """The process's database, its schema checked once. Raises SchemaMismatch, DatabaseUnreachable."""
    global _database, _schema_checked
    with _lock:
        if _database is None:
            _database = Database(resolve_database_url(load_settings()))
        if not _schema_checked:
            schema.require(_database)
            _schema_checked = True
        return _database


def configured_url() -> str | None:
    """The address of the database that this program chose, password included; None if it chose none."""
    if _database is None:
        return None
    return _database.url.render_as_string(hide_password=False)


def database_of(engine: Engine) -> Database:
    """Our view of the database behind an engine of the caller's; for what joins its transactions."""
    # An engine shares its dialect with its variants (`engine.execution_options(...)`) alone.
    dialect = engine.dialect
    with _lock:
        if _database is not None and _database.engine.dialect is dialect:
            return _database
        if dialect not in _foreign:
            clock = None if _database is None else _database.clock
            _foreign[dialect] = Database(engine=engine, clock=clock)
        return _foreign[dialect]


def settings() -> Settings:
    """The settings of this process."""
    global _settings
    with _lock:
        if _settings is None:
            _settings = load_settings().settings
        return _settings


def use_settings(chosen: Settings) -> None:
    """Make these the process's settings: the command hands on what it read."""
    global _settings
    with _lock:
        _settings = chosen


def global_backoff() -> Backoff | None:
    """The back-off of tasks that have none of their own; None means the default."""
    if _backoff is not None:
        return _backoff
    steps = settings().backoff
    return backoff_function(list(steps)) if steps else None
