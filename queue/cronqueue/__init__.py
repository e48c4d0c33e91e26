"""cronqueue: jobs on the SQL database that you already have.

from cronqueue import job

@job
def welcome(user_id: int) -> None: ...

welcome.enqueue(7)
"""

import importlib
from typing import TYPE_CHECKING, Any

from cronqueue.version import __version__

if TYPE_CHECKING:
    from cronqueue.configuration import configure
    from cronqueue.context import current_job
    from cronqueue.enqueueing import enqueue, enqueue_many
    from cronqueue.errors import Discard, Retry, Snooze
    from cronqueue.hooks import hook
    from cronqueue.models import Job
    from cronqueue.registry import Call, Task, job
    from cronqueue.secret import Secret
    from cronqueue.serialization import register_type
    from cronqueue.worker import Worker

__all__ = [
    "Call",
    "Discard",
    "Job",
    "Retry",
    "Secret",
    "Snooze",
    "Task",
    "Worker",
    "__version__",
    "configure",
    "current_job",
    "enqueue",
    "enqueue_many",
    "hook",
    "job",
    "register_type",
]

_HOMES = {
    "Call": "registry",
    "Discard": "errors",
    "Job": "models",
    "Retry": "errors",
    "Secret": "secret",
    "Snooze": "errors",
    "Task": "registry",
    "Worker": "worker",
    "configure": "configuration",
    "current_job": "context",
    "enqueue": "enqueueing",
    "enqueue_many": "enqueueing",
    "hook": "hooks",
    "job": "registry",
    "register_type": "serialization",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command's help needs neither SQLAlchemy nor anything else of this."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"cronqueue.{_HOMES[name]}"), name)
