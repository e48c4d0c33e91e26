"""Every route of the web with its method and the role that it needs, as docs/routes.md: `make routes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.routing import BaseRoute, Mount, Route

from cronqueue.settings import Settings
from cronsched.web import anybody, app
from cronsched.web.access import PROBES
from cronsched.web.api import OPERATIONS
from cronsched.web.roles import RoleRoute

PAGE = Path(__file__).parent.parent / "docs" / "routes.md"
API = "/api/v1"
_HEAD = """\
# Routes

Every route of the web, and the least role that may ask it. A page's write needs the token of its form, one of
the API a body that is declared as JSON. The table is made from the application: `make routes`.

| Method | Path | Role | What |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A method of a route. `role` is None where nobody is asked who he is."""

    method: str
    path: str
    role: str | None
    words: str


def lines() -> list[Line]:
    """All there are, in the order in which they are looked through."""
    return list(_lines(app(authenticate=anybody, settings=Settings()).routes, ""))


def page() -> str:
    """The text of docs/routes.md."""
    return _HEAD + "".join(
        f"| {each.method} | `{each.path}` | {each.role or 'nobody is asked'} | {each.words} |\n"
        for each in lines()
    )


def _lines(routes: Sequence[BaseRoute], prefix: str) -> Iterator[Line]:
    for each in routes:
        match each:
            case Mount(path="/static"):
                yield Line("GET", "/static/...", "viewer", "Styles, scripts, the icon")
            case Mount():
                yield from _lines(each.routes, prefix + each.path)
            case RoleRoute():
                for method, role in each.needs.items():
                    path = prefix + each.path
                    yield Line(method, path, role, _words(each, method, prefix))
            case Route() if each.path in PROBES:
                yield Line("GET", each.path, None, _first(each.endpoint.__doc__))
            case _:
                raise TypeError(f"{each!r} does not say which role it needs")


def _words(route: RoleRoute, method: str, prefix: str) -> str:
    if prefix == API:
        known = {(one.method, one.path): one.summary for one in OPERATIONS}
        return known[method, route.path]
    if method == "POST":
        return f"The button: {route.name.replace('_', ' ')}"
    return _first(route.endpoint.__doc__)


def _first(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
