"""`sched web`: the dashboard and the API."""

from __future__ import annotations

import importlib.util
import logging
import signal
from typing import TYPE_CHECKING, Any

import click

from cronsched.cli.base import SchedCommand, State, pass_state
from cronsched.cli.exits import OK, refuse
from cronsched.cli.parameters import LOG_FORMAT
from cronsched.cli.worker import set_up_logging

if TYPE_CHECKING:
    from cronqueue.settings import Settings
    from cronsched.web.sign_in import Authenticate

NEEDED = ("starlette", "jinja2", "uvicorn", "python_multipart", "itsdangerous")
# Streams stay open for as long as their readers like: they are cut off after this.
_CLOSE_SECONDS = 3


@click.command("web", cls=SchedCommand)
@click.option("--host", metavar="ADDRESS", help="Default 127.0.0.1.  [SCHED_HOST]")
@click.option("--port", type=click.IntRange(1, 65_535), help="Default 8321.  [SCHED_PORT]")
@click.option("--root-path", metavar="PATH", default="", help="Where a proxy has mounted it.")
@click.option("--read-only", is_flag=True, help="Show, and change nothing.")
@LOG_FORMAT
@click.option("--of-up", is_flag=True, hidden=True)
@pass_state
def command(state: State, root_path: str, read_only: bool, of_up: bool, **flags: Any) -> int:
    """Serve the dashboard at / and the API at /api/v1.

    Anything but a loopback address needs SCHED_WEB_USERS, SCHED_WEB_PASSWORD or SCHED_WEB_TOKEN.
    """
    if missing := missing_packages():
        refuse(f"the web page needs {', '.join(missing)}: pip install 'cronqueue[web]'")
    from cronqueue import configuration
    from cronqueue.database import shown
    from cronsched.web import app

    loaded = state.load(**flags)
    state.loaded = loaded
    settings = loaded.settings
    set_up_logging(state, settings)
    state.load_tasks()
    database = state.open(check=False)
    configuration.use_database(database)
    made = app(
        authenticate=_door(settings),
        hosts=(_name(settings.host),),
        read_only=read_only,
        settings=settings,
        schedules=loaded.folder / settings.schedules,
    )
    log = logging.getLogger("cronsched.web")
    if not of_up:  # which has said it
        log.info("database %s", shown(database.url))
    log.info("http://%s:%d%s/", _name(settings.host), settings.port, root_path)
    return _serve(made, settings, root_path)


def missing_packages() -> list[str]:
    """What is not installed of what the web needs."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def _door(settings: Settings) -> Authenticate | None:
    """Who may come in: on this machine everybody, unless somebody is named."""
    from cronsched.web.access import is_loopback
    from cronsched.web.sign_in import anybody_here

    if settings.web_users or settings.web_password or settings.web_token:
        return None
    if not is_loopback(settings.host):
        refuse(
            f"--host {settings.host} is reached from other machines: set SCHED_WEB_USERS,"
            " SCHED_WEB_PASSWORD or SCHED_WEB_TOKEN first"
        )
    return anybody_here


def _name(host: str) -> str:
    """The address as it stands in an URL."""
    return f"[{host}]" if ":" in host else host


def _serve(made: Any, settings: Settings, root_path: str) -> int:
    """Until TERM or INT."""
    import uvicorn

    config = uvicorn.Config(
        made,
        host=settings.host,
        port=settings.port,
        root_path=root_path,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_CLOSE_SECONDS,
    )
    server = uvicorn.Server(config)
    # It sends itself the signal once more when it has ended: for us that is the end, and a clean one.
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), lambda number, frame: None)
    server.run()
    return OK if server.started else 1
