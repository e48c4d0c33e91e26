"""A page that starts a report and shows a loading bar until it is there.

In two terminals, in the root of the project:

    SCHED_IMPORTS=examples.progress.tasks sched worker
    uvicorn examples.progress.app:site --port 8000
"""

from __future__ import annotations

from pathlib import Path

from examples.progress.tasks import report
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

from cronsched.web import anybody, app

HERE = Path(__file__).parent


async def page(request: Request) -> FileResponse:
    """The page; its script finds the API below /sched."""
    return FileResponse(HERE / "page.html")


async def script(request: Request) -> FileResponse:
    """Starts the job, and asks how far it is."""
    return FileResponse(HERE / "progress.js", media_type="text/javascript")


# Where others reach it, say who may come in: app(authenticate=..., hosts=["shop.example.com"]).
site = Starlette(
    routes=[
        Route("/", page),
        Route("/progress.js", script),
        Mount("/sched", app(authenticate=anybody)),
    ]
)
site.state.task = report  # imported, so that the API knows it
