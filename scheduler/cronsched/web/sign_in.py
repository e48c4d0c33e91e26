"""Signing in: who asks, by the password or the token of a request. What is wrong too often has to wait."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from starlette.requests import Request

from cronqueue.clock import boottime
from cronqueue.settings import Settings
from cronsched.credentials import is_password, is_token, keep_password, same
from cronsched.web.problems import Refused
from cronsched.web.roles import Role, User
from cronsched.web.throttle import Throttle

log = logging.getLogger("cronsched.web")

# Who asks: a user, or the name of an admin; None to refuse him. May raise Refused.
Authenticate = Callable[[Request], User | str | None]

# A password is dear to check: who has come in is known again by a digest of what he sent.
_REMEMBERED = 1_000
# What proxies add. On the loopback address it says that somebody else is behind the request.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def anybody(request: Request) -> User:
    """Everybody may come in and do everything; where another door stands before this one."""
    return User(f"web@{request.client.host}" if request.client else "web")


def anybody_here(request: Request) -> User:
    """Everybody on this machine. Raises Refused for what a proxy has passed on: that may be from anywhere."""
    if any(name in request.headers for name in _FORWARDED):
        raise Refused(
            403,
            "forwarded",
            "a proxy has passed this on, and nobody is named who may come in: set web_users or web_password",
        )
    return anybody(request)


class SignIn:
    """Whoever knows a password or a token of the settings: `web_users`, `web_password`, `web_token`."""

    def __init__(
        self,
        settings: Settings,
        throttle: Throttle | None = None,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._settings = settings
        self._users = {name: value.partition(":")[::2] for name, value in settings.web_users}
        self._throttle = throttle or Throttle()
        self._clock = clock
        self._known: OrderedDict[bytes, User] = OrderedDict()
        self._digest_key = secrets.token_bytes(32)
        # Compared with where there is no such name, so that the time does not tell which names there are.
        self._nobodys: str | None = None

    def __call__(self, request: Request) -> User | None:
        given = request.headers.get("authorization")
        if not given:
            return None
        digest = hmac.digest(self._digest_key, given.encode(), hashlib.sha256)
        user = self._known.get(digest)
        if user is not None:
            return user
        address = request.client.host if request.client else ""
        if wait := self._throttle.take(address, self._clock()):
            raise _too_many(wait)
        user = self._find(given)
        if user is None:
            log.warning("a wrong password or token from %s", address or "somewhere")
            return None
        self._throttle.give_back(address)
        self._known[digest] = user
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return user

    def _find(self, given: str) -> User | None:
        kind, _, value = given.partition(" ")
        match kind.lower():
            case "bearer":
                return self._by_token(value.strip())
            case "basic":
                return self._by_password(*_basic(value))
        return None

    def _by_token(self, token: str) -> User | None:
        for name, (role, kept) in self._users.items():
            if is_token(token, kept):
                return User(f"{name}@web", cast(Role, role))
        known = self._settings.web_token
        return User("token@web") if known is not None and same(token, known) else None

    def _by_password(self, name: str, password: str) -> User | None:
        role, kept = self._users.get(name, ("", ""))
        if role:
            return User(f"{name}@web", cast(Role, role)) if is_password(password, kept) else None
        shared = self._settings.web_password
        if shared is not None and same(password, shared):
            return User(f"{name or 'somebody'}@web")
        if self._users:
            self._nobodys = self._nobodys or keep_password(secrets.token_urlsafe())
            is_password(password, self._nobodys)
        return None


def _too_many(wait: float) -> Refused:
    seconds = math.ceil(wait)
    return Refused(
        429,
        "too_many",
        f"too many wrong passwords: try again in {seconds} s",
        {"retry-after": str(seconds)},
    )


def _basic(value: str) -> tuple[str, str]:
    try:
        name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return "".join(each for each in name if each.isprintable()), password
