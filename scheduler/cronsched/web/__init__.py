"""The web: dashboard and API, as one ASGI application that can be mounted in others."""

from cronsched.web.application import app
from cronsched.web.roles import User
from cronsched.web.sign_in import anybody

__all__ = ["User", "anybody", "app"]
