"""Roles: who may do what. Every route says which role each of its methods needs.

A viewer sees, without secrets. An operator acts on jobs, schedules and queues: whatever he does can be done
again, or undone. An admin also destroys: he deletes jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cronqueue.setting_values import ROLES
from cronsched.web.problems import Refused

Role = Literal["viewer", "operator", "admin"]


@dataclass(frozen=True, slots=True)
class User:
    """Who asks: the name that stands in the audit, and what he may do."""

    name: str
    role: Role = "admin"

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"there is no role {self.role!r}: there are {', '.join(ROLES)}")

    def may(self, needed: Role) -> bool:
        """Whether this role includes that one."""
        return ROLES.index(self.role) >= ROLES.index(needed)


class RoleRoute(Route):
    """A route that lets a request through when its user has the role that the method needs."""

    def __init__(self, path: str, endpoint: Any, needs: Mapping[str, Role], **options: Any) -> None:
        super().__init__(path, endpoint, methods=list(needs), **options)
        self.needs = needs

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method in self.needs:  # another one is answered with those that there are
            require(Request(scope), self.needs[method])
        await super().handle(scope, receive, send)


def page(path: str, endpoint: Any, needs: Role = "viewer") -> RoleRoute:
    """A page that is only read."""
    return RoleRoute(path, endpoint, {"GET": needs})


def require(request: Request, needed: Role) -> None:
    """Raises Refused when the user's role is a lesser one."""
    user: User = request.state.user
    if not user.may(needed):
        raise Refused(403, "role", f"this needs the role {needed}, and {user.name} is {user.role}")
