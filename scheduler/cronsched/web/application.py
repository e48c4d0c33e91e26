"""The application: dashboard, API, probes and metrics behind one door."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from cronqueue import configuration
from cronqueue.database import Database
from cronqueue.errors import ConfigurationError, CronqueueError
from cronqueue.settings import Settings
from cronsched.metrics import Totals
from cronsched.web import api, pages, probes
from cronsched.web.access import LOOPBACK, PROBES, Access, Door
from cronsched.web.links import admit_links
from cronsched.web.memory import Memory
from cronsched.web.problems import Refused, answer
from cronsched.web.sign_in import Authenticate, SignIn

# What is refused on purpose, or is the database's. Anything else is a fault of ours: the door answers.
EXPECTED = (HTTPException, Refused, CronqueueError, LookupError, DBAPIError)
STATIC = Path(__file__).parent / "static"


def app(
    *,
    authenticate: Authenticate | None = None,
    hosts: Sequence[str] = (),
    read_only: bool = False,
    settings: Settings | None = None,
    database: Database | None = None,
    schedules: Path | None = None,
) -> Starlette:
    """Dashboard and API, to be served or mounted.

    `authenticate` answers who asks: a `User` with a role, the name of an admin, or None to refuse; by default
    `web_users`, `web_password` and `web_token` of the settings say who comes in. `hosts` are the names of the
    site, "*" for any; loopback names and `web_hosts` always count. `schedules` is the folder of the schedule
    files, for the page of the plan. Raises ConfigurationError where the door would be open.
    """
    chosen = settings or configuration.settings()
    if authenticate is None:
        if not (chosen.web_users or chosen.web_password or chosen.web_token):
            raise ConfigurationError(
                "nobody may come in: set web_users, web_password or web_token, or give authenticate=..."
                " (cronsched.web.anybody lets everybody in)"
            )
        authenticate = SignIn(chosen)
    names = tuple(each.lower() for each in (*LOOPBACK, *chosen.web_hosts, *hosts))
    # Not the password: whoever sees what is signed could try passwords against it, unseen.
    secret = chosen.web_secret or secrets.token_urlsafe(32)
    open_paths = (*PROBES, "/metrics") if chosen.web_open_metrics else PROBES
    access = Access(admit_links(authenticate, secret), names, secret, read_only, open_paths)
    made = Starlette(
        routes=[
            *probes.routes,
            Mount("/api/v1", routes=api.routes, name="api"),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
            *pages.routes,
        ],
        middleware=[Middleware(Door, access=access)],
        exception_handlers=dict.fromkeys(EXPECTED, answer),
    )
    made.state.settings = chosen
    made.state.database = database
    made.state.access = access
    made.state.memory = Memory()
    made.state.totals = Totals()
    made.state.folder = schedules or Path(chosen.schedules)
    return made
