"""The web: dashboard and API, as one ASGI application that can be mounted in others."""

from cronsched.web.access import anybody
from cronsched.web.application import app

__all__ = ["anybody", "app"]
