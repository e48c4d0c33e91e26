"""A real Chromium before a real server, with a database full of text that wants to be a program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from docs.pictures import rows
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from browser.hostile_rows import fill
from cronqueue import schema
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.web import anybody, app
from web_server import served

# Another site, whose name leads to this machine.
FOREIGN = "evil.test"
# Generous: a machine under load takes its time.
PATIENCE_MS = 30_000


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = os.environ["SCHED_TEST_CHROMIUM"]  # `make browser` looks for it
    options = [f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"]
    if os.geteuid() == 0:  # as root it has no sandbox
        options.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('web') / 'hostile.db'}")
    schema.upgrade(made)
    fill(made)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def site(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server."""
    folder: Path = tmp_path_factory.mktemp("schedules")
    made = app(authenticate=anybody, settings=Settings(), database=database, schedules=folder)
    with served(made) as address:
        yield address


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server whose schedules have a past and a future, some of it bad."""
    made = Database(f"sqlite:///{tmp_path_factory.mktemp('web') / 'shop.db'}")
    schema.upgrade(made)
    rows.fill(made, datetime.now(UTC))
    site = app(authenticate=anybody, settings=Settings(), database=made, schedules=rows.SHOP)
    with served(site) as address:
        yield address
    made.dispose()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context()
    made.set_default_timeout(PATIENCE_MS)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()
