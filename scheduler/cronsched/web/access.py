"""Access: who may come in, from where, and what a page may do.

The door is closed unless somebody is named who may come in: `authenticate` says who asks (`sign_in`), and
each route which role it needs (`roles`). On the loopback address `sched web` lets everybody in, since whoever
is there can read the database file as well. A page of another site must not use that: requests have to name a
host that is ours, and writes have to come from our own pages.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cronsched.credentials import same
from cronsched.web.problems import Problem, Refused, problem_of, problem_response
from cronsched.web.roles import User
from cronsched.web.sign_in import Authenticate

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# What an orchestrator asks, who knows neither our name nor our password.
PROBES = ("/livez", "/readyz")
# A job's arguments belong into a row: what is larger belongs elsewhere, and its place into the row.
LARGEST_BODY = 1_000_000
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
COOKIE = "sched_form"
# A page that stood open for longer has to be loaded again before its buttons work.
FORM_SECONDS = 24 * 3600

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may come in, by which names the site is called, and what the forms are signed with.

    `open_paths` are for everybody, under whatever name.
    """

    authenticate: Authenticate
    hosts: Sequence[str]
    secret: str
    read_only: bool = False
    open_paths: Sequence[str] = PROBES


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Door:
    """Lets in who may come in, and tells browsers what our pages may do."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        problem = await self._look(request)
        outgoing = _Outgoing(send, request)
        if problem is not None:
            await problem_response(request, problem)(scope, receive, outgoing)
            return
        try:
            await self._app(scope, _Incoming(receive), outgoing)
        except Exception as error:  # what no handler knows: a fault of ours
            if outgoing.has_begun:
                raise
            await problem_response(request, problem_of(error))(scope, receive, outgoing)

    async def _look(self, request: Request) -> Problem | None:
        """What stands against this request. Who asks is known to all that follows."""
        if own_path(request) in self._access.open_paths:
            request.state.user = User("nobody", "viewer")
            return None
        if not _is_ours(request.headers.get("host", ""), self._access.hosts):
            return Problem(
                421, "wrong_host", "this site is not called by that name: the setting web_hosts"
            )
        try:
            # A password takes its time to check, and others do not wait for it.
            found = await run_in_threadpool(self._access.authenticate, request)
        except Refused as refused:
            return refused.problem
        if found is None:
            return Problem(401, "unauthorized", "a password or a token is needed")
        request.state.user = self._known(found)
        request.state.access = self._access
        if request.method in SAFE_METHODS:
            return None
        if self._access.read_only:
            return Problem(403, "read_only", "this site shows, and changes nothing")
        if _is_foreign(request.headers):
            return Problem(403, "foreign", "this comes from a page of another site")
        return None

    def _known(self, found: User | str) -> User:
        """Who asks, as all that follows knows him. Where nothing may be changed, he is a viewer."""
        user = User(found) if isinstance(found, str) else found
        role = "viewer" if self._access.read_only else user.role
        return replace(user, name=user.name[:200], role=role)


def own_path(request: Request) -> str:
    """The path below the place where the application is mounted."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")) or "/"


def form_token(request: Request) -> str:
    """What a form has to bring back. It belongs to this browser: the cookie holds the other half."""
    return _serializer(request).dumps(_nonce(request))


def is_form_ours(request: Request, token: object) -> bool:
    """Whether a form was made by us for this browser, not too long ago."""
    nonce = request.cookies.get(_cookie_name(request))
    if not nonce or not isinstance(token, str):
        return False
    try:
        found = _serializer(request).loads(token, max_age=FORM_SECONDS)
    except BadSignature:
        return False
    return isinstance(found, str) and same(found, nonce)


def _nonce(request: Request) -> str:
    """The browser's half, a new one where it has none; the answer brings it."""
    nonce = request.cookies.get(_cookie_name(request))
    if not nonce:
        nonce = getattr(request.state, "new_nonce", None) or secrets.token_urlsafe(24)
        request.state.new_nonce = nonce
    return nonce


def _serializer(request: Request) -> URLSafeTimedSerializer:
    access: Access = request.state.access
    return URLSafeTimedSerializer(access.secret, salt="form")


class _Incoming:
    """The way in: whoever reads a body that is too large, of a form or of a program, is stopped."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._bytes = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > LARGEST_BODY:
            raise Refused(413, "too_large", f"a body has at most {LARGEST_BODY} bytes")
        return message


class _Outgoing:
    """The way back: every answer gets our headers."""

    def __init__(self, send: Send, request: Request) -> None:
        self._send = send
        self._request = request
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
            nonce = getattr(self._request.state, "new_nonce", None)
            if nonce is not None:
                headers.append("set-cookie", _cookie(self._request, nonce))
        await self._send(message)


def _cookie(request: Request, nonce: str) -> str:
    name = _cookie_name(request)
    if request.url.scheme == "https":
        return f"{name}={nonce}; Path=/; HttpOnly; SameSite=Strict; Secure"
    path = request.scope.get("root_path", "") or "/"
    return f"{name}={nonce}; Path={path}; HttpOnly; SameSite=Strict"


def _cookie_name(request: Request) -> str:
    """With TLS a name that no other site of our domain can set."""
    return f"__Host-{COOKIE}" if request.url.scheme == "https" else COOKIE


def _is_ours(host: str, hosts: Sequence[str]) -> bool:
    """Without its port. A name that another site has let point at us is none of ours."""
    name = host.lower().rpartition("]")[0] + "]" if host.startswith("[") else host.lower()
    name = name if name.startswith("[") else name.partition(":")[0]
    return "*" in hosts or name in hosts


def _is_foreign(headers: Headers) -> bool:
    """Browsers say where a write comes from; programs that are none say nothing."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
