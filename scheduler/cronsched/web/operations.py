"""The operations of the API: one table, from which both its routes and its OpenAPI document are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cronsched.documents import plain
from cronsched.redaction import redacted
from cronsched.web.problems import Refused
from cronsched.web.roles import Role, RoleRoute

Body = dict[str, Any]
Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What may stand behind the question mark, or in a header."""

    name: str
    schema: Schema
    words: str
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that the API does. `answer` is the type of its `data`, or a schema.

    A read gets the request; a write gets the body too. What either returns is a document, or a Response.
    """

    method: str
    path: str
    name: str
    summary: str
    function: Callable[..., Any]
    answer: Any
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    is_list: bool = False
    is_stream: bool = False
    status: int = 200
    needs: Role = "viewer"

    def __post_init__(self) -> None:
        if self.method != "GET" and self.needs == "viewer":
            raise TypeError(f"{self.name} changes something: say which role it needs")


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a list: `next` is what `after` has to say for the following one."""

    data: Any
    next: str | None = None


def routes_of(operations: list[Operation]) -> list[RoleRoute]:
    """A route for each path: it knows all that can be done there, and says so of what cannot."""
    by_path: dict[str, dict[str, Operation]] = {}
    for each in operations:
        by_path.setdefault(each.path, {})[each.method] = each
    return [
        RoleRoute(
            path,
            _endpoint(known),
            {method: each.needs for method, each in known.items()},
            name=next(iter(known.values())).name,
        )
        for path, known in by_path.items()
    ]


def _endpoint(
    known: Mapping[str, Operation],
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def endpoint(request: Request) -> Response:
        operation = known["GET" if request.method == "HEAD" else request.method]
        _check_values(request, operation)
        arguments: list[Any] = [request]
        if operation.method != "GET":
            arguments.append(await _body(request))
        found = await run_in_threadpool(operation.function, *arguments)
        return found if isinstance(found, Response) else _document(found, operation.status)

    return endpoint


def _check_values(request: Request, operation: Operation) -> None:
    """Of two values for one parameter, one would be dropped without a word; an empty one says nothing."""
    for each in operation.parameters:
        values = request.query_params.getlist(each.name)
        if len(values) > 1:
            raise Refused(422, "invalid", f"{each.name} is given more than once")
        if values == [""]:
            raise Refused(422, "invalid", f"{each.name} is empty")


def _document(found: Any, status: int) -> Response:
    shown: dict[str, Any] = {}
    if isinstance(found, Listed):
        shown["next"] = found.next
        found = found.data
    return JSONResponse({"data": redacted(plain(found)), **shown}, status_code=status)


async def _body(request: Request) -> Body:
    """The body as an object; an empty one counts as one without fields.

    A page of another site can send a form, but no JSON without asking us first, which we never grant.
    """
    raw = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "no_json", "send Content-Type: application/json, without a body too")
    try:
        found = json.loads(raw.decode() or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "no_json", "the body is no JSON") from None
    if not isinstance(found, dict):
        raise Refused(422, "invalid", "the body is no JSON object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
