"""Whatever is stored or asked for is shown and never run, by a real Chromium on every page."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request

from browser.hostile_rows import CORPUS
from cronqueue.database import Database
from job_rows import query

PAGES = (
    "/",
    "/timeline",
    "/timeline?range=7d",
    "/jobs",
    "/failures",
    "/alerts",
    "/schedules",
    "/schedules/s0/occurrence?planned_for=2037-01-02T03:05:00Z",
    "/acts/schedules?act=pause&which=all",
    "/queues",
    "/workers",
    "/plan",
    "/audit",
    "/help",
)
# Each text is asked for in one of these ways.
ASKED = (
    "/jobs?q={}",
    "/schedules?q={}",
    "/audit?target={}",
    "/jobs/confirm?act=retry&task=t&error={}",
    "/timeline?range={}",
    "/schedules/s0/occurrence?planned_for={}",
    "/acts/schedules?act=pause&which=all&q={}",
    "/jobs/confirm?act={}",
    "/jobs?q=queue:%22{}%22",
    "/{}",
)
# What gets out of its place leaves one of these behind.
_ODD = """async () => {
  const odd = [];
  await new Promise(requestAnimationFrame);
  for (const each of document.querySelectorAll("*")) {
    for (const name of each.getAttributeNames())
      if (/^(on|hx-on|style$)/.test(name)) odd.push(`${each.tagName} ${name}`);
    if (each.matches("iframe, object, embed, base, video, marquee, template, noscript, style"))
      odd.push(each.tagName);
    if (each.matches("img") && !new URL(each.src).pathname.startsWith("/badge/")) odd.push("img");
    if (each.matches("script") && !each.src.startsWith(location.origin)) odd.push("script");
  }
  for (const each of document.querySelectorAll("[href], [action], [src]")) {
    const given = each.getAttribute("href") ?? each.getAttribute("action") ?? each.getAttribute("src");
    if (new URL(given, location.href).origin !== location.origin) odd.push(`leads to ${given}`);
  }
  return odd;
}"""
_NOTHING = "default-src 'none'; script-src 'unsafe-inline'"
_VIOLATIONS = """document.addEventListener("securitypolicyviolation",
  event => console.error(`refused: ${event.violatedDirective} ${event.blockedURI}`))"""


@dataclass
class Watch:
    """What a page did that it must not do."""

    site: str
    seen: list[str] = field(default_factory=list)

    def on(self, context: BrowserContext, page: Page) -> None:
        context.expose_function("owned", lambda *_: self.seen.append("a text was run"))
        context.add_init_script(_VIOLATIONS)
        page.on("dialog", self._dialog)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.seen.append(f"error: {error}"))
        page.on("request", self._request)

    def _dialog(self, dialog: Dialog) -> None:
        self.seen.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        # That a page was not found is told there too.
        if (
            message.type in ("error", "warning")
            and "responded with a status of 4" not in message.text
        ):
            self.seen.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith(self.site):
            self.seen.append(f"asked another: {request.url}")


@pytest.fixture
def watch(site: str, context: BrowserContext, page: Page) -> Watch:
    made = Watch(site)
    made.on(context, page)
    return made


def look(page: Page, watch: Watch, path: str) -> None:
    page.goto(watch.site + path)
    odd = page.evaluate(_ODD)
    assert (odd, watch.seen) == ([], []), path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<img src=x onerror=owned()>", "a text was run"),
        ("<script>alert(1)</script>", "dialog: 1"),
        ("<script src=//127.0.0.1:1/x.js></script>", "asked another"),
        ("<script>console.error('x')</script>", "console: x"),
        ("<script>throw Error('x')</script>", "error: x"),
        (
            f"<meta http-equiv=content-security-policy content=\"{_NOTHING}\"><p style='top:0'>",
            "refused",
        ),
    ],
)
def test_who_watches_sees_what_gets_out(page: Page, watch: Watch, text: str, expected: str) -> None:
    page.route("**/bare", lambda route: route.fulfill(body=text, content_type="text/html"))
    page.goto(f"{watch.site}/bare")
    assert page.evaluate(_ODD) != [] or expected.startswith(("dialog", "console", "error"))
    assert expected in " ".join(watch.seen)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_shows_what_is_stored_and_runs_none_of_it(
    page: Page, watch: Watch, path: str
) -> None:
    look(page, watch, path)
    if page.locator("main[data-live]").count():
        with page.expect_response("**"):
            page.keyboard.press("r")  # what comes with a refresh is put in place by a script
        page.wait_for_load_state("networkidle")
        assert (page.evaluate(_ODD), watch.seen) == ([], [])


def test_no_page_of_a_job_runs_what_is_stored(database: Database, page: Page, watch: Watch) -> None:
    jobs = [
        job_id
        for (job_id,) in query(database, "SELECT id FROM sched_jobs WHERE task <> 't' ORDER BY id")
    ]
    # Of each text one, of each state many.
    for job_id in jobs[::7]:
        look(page, watch, f"/jobs/{job_id}")


def test_no_page_of_a_schedule_runs_what_is_stored(page: Page, watch: Watch) -> None:
    for number, each in enumerate(CORPUS):
        name = quote(each, safe="") if number % 2 else f"s{number}"
        look(page, watch, f"/schedules/{name}")
        assert number % 2 or each.strip() in (page.locator("main").text_content() or "")


def test_no_page_runs_what_it_is_asked_for(page: Page, watch: Watch) -> None:
    for number, each in enumerate(CORPUS):
        look(page, watch, ASKED[number % len(ASKED)].format(quote(each, safe="")))
