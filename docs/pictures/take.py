"""Takes the pictures of `docs/images` anew: `make pictures`. The shop of `rows`, in a real Chromium."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from docs.pictures.rows import SHOP, fill
from playwright.sync_api import Browser, Page, sync_playwright

from cronqueue import queries, schema
from cronqueue.clock import ManualClock
from cronqueue.database import Database
from cronqueue.settings import Settings
from cronsched.web import anybody, app
from web_server import served

IMAGES = Path(__file__).parent.parent / "images"
# A Wednesday on which all zones of the shop are awake.
NOW = datetime(2026, 11, 25, 9, 20, 40, tzinfo=UTC)
# Pages that everybody fetches who reads the README.
MOST_BYTES = 150_000


def main() -> None:
    """Writes every picture; a page is told that it is NOW, and stands still."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        database = Database(f"sqlite:///{folder}/shop.db", clock=ManualClock(NOW))
        schema.upgrade(database)
        fill(database, NOW)
        failed = queries.select_jobs(
            database, queries.Filter(states=("failed",), task="catalogue.stock"), 1
        )
        site = app(authenticate=anybody, settings=Settings(), database=database, schedules=SHOP)
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(
            executable_path=os.environ["SCHED_TEST_CHROMIUM"], args=options
        )
        with served(site) as address:
            take = _taker(browser, address)
            take("now", "/", 1200, 860)
            take("timeline", "/timeline?range=6h", 1280, 800, until=".timeline")
            take("schedules", "/schedules", 1280, 760)
            take("job", f"/jobs/{failed[0].id}", 1200, 860)
            take("phone", "/", 390, 844)
        browser.close()
        database.dispose()


def _taker(browser: Browser, address: str) -> Callable[..., None]:
    def take(name: str, path: str, width: int, height: int, until: str | None = None) -> None:
        context = browser.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        page.clock.install(time=NOW)
        page.goto(address + path)
        if until is not None:
            page.set_viewport_size({"width": width, "height": _bottom(page, until)})
        page.screenshot(path=IMAGES / f"{name}.png")
        context.close()
        size = (IMAGES / f"{name}.png").stat().st_size
        if size > MOST_BYTES:
            raise SystemExit(f"{name}.png has {size:,} bytes: show less of the page")

    return take


def _bottom(page: Page, selector: str) -> int:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return int(box["y"] + box["height"]) + 16


if __name__ == "__main__":
    main()
