"""Links that let in by themselves, to one document each.

Calendar programs, and pages that show a badge, send no password. Their links bring a token: the document's
path, signed with the secret of the site. It opens this path and nothing else, and ends with the secret.
"""

from __future__ import annotations

from urllib.parse import quote

from itsdangerous import BadSignature, URLSafeSerializer
from starlette.requests import Request

from cronsched.web.access import Access, own_path
from cronsched.web.roles import User
from cronsched.web.sign_in import Authenticate


def link_of(access: Access, path: str) -> str:
    """A path of ours with its token."""
    return f"{quote(path)}?token={_serializer(access.secret).dumps(path)}"


def admit_links(authenticate: Authenticate, secret: str) -> Authenticate:
    """Who comes in anyway, and whoever brings the token of what he asks for."""

    def admit(request: Request) -> User | str | None:
        token = request.query_params.get("token")
        if token is not None and request.method in ("GET", "HEAD"):
            try:
                if _serializer(secret).loads(token) == own_path(request):
                    return User("link", "viewer")
            except BadSignature:
                pass
        return authenticate(request)

    return admit


def _serializer(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt="link")
