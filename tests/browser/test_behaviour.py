"""How the pages behave under a person's hands: refresh, keys, a phone, no JavaScript, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from browser.conftest import FOREIGN
from cronqueue.database import Database
from job_rows import add, get, now, query

PAGES = (
    "/",
    "/timeline",
    "/jobs",
    "/failures",
    "/alerts",
    "/schedules",
    "/schedules/s0",
    "/schedules/s0/occurrence?planned_for=2037-01-02T03:05:00Z",
    "/acts/schedules?act=pause&which=all",
    "/queues",
    "/workers",
    "/plan",
    "/audit",
    "/help",
)
# What has a past and a future.
LIVELY = (
    "/",
    "/timeline?range=6h",
    "/schedules",
    "/schedules/catalogue.stock",
    "/schedules/catalogue.osaka",
    "/jobs",
    "/failures",
    "/workers",
    "/audit",
)
# Longer than a page waits for its next refresh, in milliseconds of its own clock.
LONG = 30_000
# Text that nobody can read for want of contrast (WCAG 2.2 AA), with its ratio.
_FAINT = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")

# What reaches out of its box to the right, where that does not scroll.
_CUT_OFF = """() => [...document.querySelectorAll("main *")].filter(each => {
  const style = getComputedStyle(each);
  return style.overflowX === "visible" && style.display !== "inline" && each.clientWidth > 0
    && !each.closest("svg, .scroll") && each.scrollWidth > each.clientWidth + 1;
}).map(each => `${each.tagName}.${each.className}: ${each.textContent.trim().slice(0, 40)}`)"""


@pytest.fixture
def waiting(database: Database) -> int:
    """A job of tomorrow."""
    return add(database, task="t", run_at=now() + timedelta(days=1))


def _refreshes(page: Page, path: str) -> list[str]:
    """The requests for this page itself, from now on."""
    asked: list[str] = []

    def note(request: Request) -> None:
        if request.resource_type in ("fetch", "xhr") and request.url.endswith(path):
            asked.append(request.url)

    page.on("request", note)
    return asked


def _select_box(page: Page) -> None:
    page.locator("td.pick input").first.check()


def _select_text(page: Page) -> None:
    page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")


def _type(page: Page) -> None:
    page.locator("input[type=search]").fill("half a wo")


def test_a_page_refreshes_itself(site: str, page: Page) -> None:
    page.clock.install()
    page.goto(f"{site}/jobs")
    asked = _refreshes(page, "/jobs")
    with page.expect_response(lambda answer: answer.url == f"{site}/jobs"):
        page.clock.run_for(LONG)
    assert asked


def test_a_page_that_does_not_refresh_itself_has_no_switch_for_it(site: str, page: Page) -> None:
    page.goto(f"{site}/help")
    expect(page.locator("#live-switch")).to_be_hidden()
    page.goto(f"{site}/jobs")
    expect(page.locator("#live-switch")).to_be_visible()


@pytest.mark.parametrize("begin", [_select_box, _select_text, _type])
def test_a_refresh_waits_while_somebody_is_at_something(
    site: str, page: Page, begin: Callable[[Page], None]
) -> None:
    page.clock.install()
    page.goto(f"{site}/jobs")
    begin(page)
    asked = _refreshes(page, "/jobs")
    page.clock.run_for(LONG)
    expect(page.locator("#live-switch .word")).to_have_text("waiting")
    assert asked == []


def test_a_refresh_keeps_the_place_and_what_is_open(site: str, page: Page, waiting: int) -> None:
    page.clock.install()
    page.goto(f"{site}/jobs/{waiting}")
    page.locator("summary", has_text="Change it").click()
    page.clock.run_for(LONG)
    expect(page.locator("input[name=run_at]")).to_be_visible()


def test_what_is_opened_or_closed_by_hand_stays_so_over_a_refresh(
    site: str, page: Page, database: Database
) -> None:
    ((job_id,),) = query(database, "SELECT max(id) FROM sched_jobs WHERE state = 'failed'")
    page.goto(f"{site}/jobs/{job_id}")
    traceback, attempt = page.locator("details[data-open]"), page.locator("details.attempt").first
    traceback.locator("summary").click()
    attempt.locator("summary").click()
    with page.expect_response(f"{site}/jobs/{job_id}"):
        page.keyboard.press("r")
    page.wait_for_load_state("networkidle")
    expect(traceback).not_to_have_attribute("open", "")
    expect(attempt).to_have_attribute("open", "")


def test_letters_lead_to_the_pages_and_a_slash_to_the_search(site: str, page: Page) -> None:
    page.goto(site)
    for key, path in (("j", "/jobs"), ("f", "/failures"), ("s", "/schedules"), ("?", "/help")):
        page.keyboard.press(key)
        page.wait_for_url(f"{site}{path}")
    page.goto(f"{site}/jobs")
    page.keyboard.press("/")
    expect(page.locator("input[type=search]")).to_be_focused()
    page.keyboard.type("jq")  # is text there
    assert page.url == f"{site}/jobs"


def test_the_first_stop_of_the_keyboard_skips_the_navigation(site: str, page: Page) -> None:
    page.goto(f"{site}/jobs")
    page.keyboard.press("Tab")
    expect(page.locator("a.skip")).to_be_focused()
    expect(page.locator("a.skip")).to_be_in_viewport()


def test_a_button_is_pressed_with_the_keyboard(
    site: str, page: Page, database: Database, waiting: int
) -> None:
    page.goto(f"{site}/jobs/{waiting}")
    page.get_by_role("button", name="Run now").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text(f"Job {waiting} is due now.")
    assert get(database, waiting).run_at <= now()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_on_a_phone(site: str, chromium: Browser, path: str) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 780}, has_touch=True)
    try:
        page = context.new_page()
        page.goto(site + path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360
    finally:
        context.close()


@pytest.mark.parametrize("path", LIVELY)
def test_nothing_is_cut_off_on_a_phone(shop: str, chromium: Browser, path: str) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    try:
        page = context.new_page()
        page.goto(shop + path)
        assert page.evaluate(_CUT_OFF) == []
    finally:
        context.close()


def test_the_timeline_begins_at_the_present_on_a_phone_and_keeps_its_names(
    shop: str, chromium: Browser
) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    try:
        page = context.new_page()
        page.goto(f"{shop}/timeline?range=6h")
        expect(page.locator("svg.runs line.now")).to_be_in_viewport()
        expect(page.locator("svg.names text.name").first).to_be_in_viewport(ratio=1)
    finally:
        context.close()


def test_without_javascript_everything_is_read_and_done(
    site: str, chromium: Browser, database: Database, waiting: int
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        for path in PAGES:
            page.goto(site + path)
            expect(page.locator("main h1")).to_be_visible()
            assert page.locator(".needs-js:visible").count() == 0, path
        page.goto(f"{site}/jobs/{waiting}")
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("status")).to_have_text(f"Job {waiting} is cancelled.")
        assert get(database, waiting).state == "cancelled"
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_in_dark(
    site: str, shop: str, chromium: Browser, scheme: Any
) -> None:
    context = chromium.new_context(color_scheme=scheme)
    try:
        page = context.new_page()
        for address in [*(site + path for path in PAGES), *(shop + path for path in LIVELY)]:
            page.goto(address)
            assert page.evaluate(_FAINT) == [], address
    finally:
        context.close()


def test_the_theme_is_turned_by_hand_and_kept(site: str, page: Page) -> None:
    page.goto(site)
    colour = "getComputedStyle(document.body).backgroundColor"
    seen = [page.evaluate(colour)]
    for theme in ("light", "dark"):
        page.keyboard.press("d")
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        seen.append(page.evaluate(colour))
    assert seen[1] != seen[2]
    page.goto(f"{site}/jobs")
    assert page.evaluate(colour) == seen[2]


def test_a_page_of_another_site_changes_nothing(
    site: str, page: Page, database: Database, waiting: int
) -> None:
    """Neither by a form, nor by a script, nor by a name of its own that leads to us."""
    target = f"{site}/jobs/{waiting}/cancel"
    form = f'<form method=post action="{target}"><button>x</button></form>'
    page.route(f"http://{FOREIGN}/*", lambda it: it.fulfill(body=form, content_type="text/html"))
    page.goto(site)  # it knows the browser
    page.goto(f"http://{FOREIGN}/")
    with page.expect_response(target) as answer:
        page.get_by_role("button").click()
    assert answer.value.status == 403
    page.goto(f"http://{FOREIGN}/")
    script = """([path, type]) => fetch(path, {method: "POST", mode: "no-cors", credentials: "include",
      headers: {"content-type": type}, body: "{}"}).then(() => "sent", () => "not sent")"""
    for path in (target, f"{site}/api/v1/jobs/{waiting}/cancel"):
        for kind in ("text/plain", "application/json", "application/x-www-form-urlencoded"):
            page.evaluate(script, [path, kind])
    reading = "path => fetch(path).then(answer => answer.text(), () => 'refused')"
    assert page.evaluate(reading, f"{site}/api/v1/jobs/{waiting}") == "refused"
    rebound = page.goto(site.replace("127.0.0.1", FOREIGN) + "/jobs")
    assert rebound is not None
    assert rebound.status == 421
    assert get(database, waiting).state == "queued"
    told = f"job {waiting}"
    assert query(database, "SELECT id FROM sched_audit WHERE target = :told", told=told) == []
