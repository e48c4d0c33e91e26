"""The report that somebody waits for. Workers import this: SCHED_IMPORTS=examples.progress.tasks"""

from __future__ import annotations

import time

from cronqueue import current_job, job

PAGES = 40


@job(api=True, name="shop.report", queue="reports")
def report(month: str, *, pause: float = 0.25) -> dict[str, object]:
    """Make the report of a month, page by page."""
    for page in range(1, PAGES + 1):
        time.sleep(pause)  # where the work would be
        current_job().progress(page, PAGES, f"page {page} of {PAGES}")
    return {"month": month, "pages": PAGES}
