"""What tests share: databases with our schema, on SQLite and on a real PostgreSQL.

A test that takes `database` or `database_url` runs once on each. PostgreSQL starts when the first test
asks for it, once for all of pytest's workers; every test gets a database of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, NoReturn

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql

from postgres_server import (
    BINARIES_VARIABLE,
    URL_VARIABLE,
    Keeper,
    PostgresServer,
    find_binaries,
)

if TYPE_CHECKING:
    from command import Project
    from cronqueue.database import Database

MISSING = (
    f"no PostgreSQL for the tests: run `make test`, or name a server in {URL_VARIABLE}"
    f" or a folder with its programs in {BINARIES_VARIABLE}"
)
# Runs pytest on small test files, as somebody who uses our plugin would.
pytest_plugins = ["pytester"]

# One key for all: whoever holds it makes the template.
TEMPLATE_LOCK = 0x74656D70

BINARIES = pytest.StashKey[Path | None]()
KEEPER = pytest.StashKey[Keeper]()
RUN = pytest.StashKey[str]()

Admin = psycopg.Connection[tuple[Any, ...]]

# How long an example takes says nothing while other tests share the processor.
settings.register_profile("project", settings(), deadline=None)
settings.load_profile("project")


def pytest_configure(config: pytest.Config) -> None:
    """Look for PostgreSQL, and give the run a name that all its workers know."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background of a shell: the programs under test would be deaf to it as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        config.stash[BINARIES] = find_binaries()
    except FileNotFoundError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[RUN] = _from_controller(config, "sched_run") or uuid.uuid4().hex[:8]


def pytest_report_header(config: pytest.Config) -> str:
    """Say at the top which PostgreSQL the tests use."""
    if os.environ.get(URL_VARIABLE):
        return f"postgresql: the server that {URL_VARIABLE} names"
    return f"postgresql: {config.stash[BINARIES] or 'NOT FOUND, its tests cannot run'}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the servers' keeper listens."""
    node.workerinput["sched_run"] = node.config.stash[RUN]
    if node.config.stash[BINARIES]:
        node.workerinput["sched_control"] = str(_control(node.config))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers; leave nothing behind on one that is not ours."""
    if KEEPER in config.stash:
        config.stash[KEEPER].close()
    external = os.environ.get(URL_VARIABLE)
    if external and _from_controller(config, "sched_run") is None:
        _drop_databases(PostgresServer(external), config.stash[RUN])


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> PostgresServer:
    """The server that all tests share, so none may stop it: that is what own_postgres_server is for."""
    external = os.environ.get(URL_VARIABLE)
    if external:
        return PostgresServer(external)
    return PostgresServer.started(_control(pytestconfig))


@pytest.fixture
def own_postgres_server(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """A server for one test alone, which may stop, start and restart it. It has no tables yet."""
    server = PostgresServer.started(_control(pytestconfig), f"own-{uuid.uuid4().hex[:8]}")
    yield server
    server.discard()


@pytest.fixture
def postgres_url(
    postgres_server: PostgresServer, postgres_admin: Admin, postgres_template: str
) -> Iterator[str]:
    """A fresh PostgreSQL database with our schema."""
    name = f"{postgres_template}_{uuid.uuid4().hex[:8]}"
    _execute(postgres_admin, "CREATE DATABASE {} TEMPLATE {}", name, postgres_template)
    yield postgres_server.url(name)
    _execute(postgres_admin, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer, postgres_admin: Admin) -> Iterator[str]:
    """A fresh PostgreSQL database without any tables."""
    name = f"sched_test_empty_{uuid.uuid4().hex[:8]}"
    _execute(postgres_admin, "CREATE DATABASE {}", name)
    yield postgres_server.url(name)
    _execute(postgres_admin, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A fresh SQLite file with our schema."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'sched.db')}"


@pytest.fixture(autouse=True)
def _own_tasks() -> Iterator[None]:
    """What a test registers is gone when it ends: the next one may give the same names anew."""
    from cronqueue import hooks, registry

    tasks, called = registry._tasks.copy(), {key: list(fns) for key, fns in hooks._hooks.items()}
    yield
    registry._tasks.clear()
    registry._tasks.update(tasks)
    hooks._hooks.clear()
    hooks._hooks.update(called)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database with our schema: the test runs once on each kind."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def sched_database_url(database_url: str) -> str:
    """So that `sched_queue`, the fixture of our own plugin, is on each kind too."""
    return database_url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The same, opened."""
    from cronqueue.database import Database

    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def project(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a database and tasks, as the working directory; no settings from outside."""
    return _new_project(tmp_path, database_url, monkeypatch)


@pytest.fixture
def sqlite_project(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The same, on SQLite alone: for what does not depend on the database."""
    return _new_project(tmp_path, sqlite_url, monkeypatch)


def _new_project(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    from command import TASKS, Project

    for name in (*os.environ,):
        if name.startswith("SCHED_") or name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SCHED_DATABASE_URL", url)
    (folder / "schedules").mkdir()
    (folder / "schedules" / "tasks.py").write_text(TASKS)
    return Project(folder, url)


@pytest.fixture(scope="session")
def postgres_admin(postgres_server: PostgresServer) -> Iterator[Admin]:
    """A connection that makes databases and drops them."""
    with _connect(postgres_server) as connection:
        yield connection


@pytest.fixture(scope="session")
def postgres_template(
    pytestconfig: pytest.Config, postgres_server: PostgresServer, postgres_admin: Admin
) -> str:
    """The database that every test's is a copy of. The first worker makes it, the others wait."""
    name = f"sched_test_{pytestconfig.stash[RUN]}"
    postgres_admin.execute("SELECT pg_advisory_lock(%s)", [TEMPLATE_LOCK])
    try:
        known = "SELECT FROM pg_database WHERE datname = %s"
        if postgres_admin.execute(known, [name]).fetchone() is None:
            _execute(postgres_admin, "CREATE DATABASE {}", name)
            try:
                _upgrade(postgres_server.url(name))
            except BaseException:
                _execute(postgres_admin, "DROP DATABASE {} WITH (FORCE)", name)
                raise
    finally:
        postgres_admin.execute("SELECT pg_advisory_unlock(%s)", [TEMPLATE_LOCK])
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that every test's is a copy of."""
    path = tmp_path_factory.mktemp("template") / "sched.db"
    _upgrade(f"sqlite:///{path}")
    assert [file.name for file in path.parent.iterdir()] == [path.name], (
        "the file alone is all of it"
    )
    return path


def _control(config: pytest.Config) -> Path:
    """Where the keeper listens; starts it on the first call. Without PostgreSQL the test ends here."""
    handed_over = _from_controller(config, "sched_control")
    if handed_over is not None:
        return Path(handed_over)
    if KEEPER not in config.stash:
        binaries = config.stash[BINARIES]
        if binaries is None:
            _miss()
        config.stash[KEEPER] = Keeper(binaries)
    return config.stash[KEEPER].control


def _miss() -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{MISSING} (under CI it is not skipped)", pytrace=False)
    pytest.skip(MISSING)


def _from_controller(config: pytest.Config, key: str) -> str | None:
    value: str | None = getattr(config, "workerinput", {}).get(key)
    return value


def _connect(server: PostgresServer) -> Admin:
    return psycopg.connect(server.url().replace("+psycopg", "", 1), autocommit=True)


def _execute(admin: Admin, statement: LiteralString, *names: str) -> None:
    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _upgrade(url: str) -> None:
    from cronqueue import schema
    from cronqueue.database import Database

    database = Database(url)
    try:
        schema.upgrade(database)
    finally:
        database.dispose()


def _drop_databases(server: PostgresServer, run: str) -> None:
    with _connect(server) as admin:
        ours = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
        for (name,) in admin.execute(ours, [f"sched_test_{run}"]).fetchall():
            _execute(admin, "DROP DATABASE {} WITH (FORCE)", name)
